"""The kinds of prompt, and the shape of each kind's array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_prompt.base.errors import PromptKindError, PromptShapeError
from edge_prompt.untrusted.json_fields import Fields

KIND_AXES: Mapping[str, tuple[str, ...]] = {
    "soft": ("num_virtual_tokens", "hidden_size"),
    "prefix": ("num_layers", "key_value", "num_kv_heads", "num_virtual_tokens", "head_dim"),
    "deep": ("num_layers", "num_virtual_tokens", "hidden_size"),
    "pixel": ("channels", "height", "width"),
}
"""The axes of the array in a prompt file, by kind. `key_value` has length 2: index 0 for keys, 1 for values."""

FREE_AXIS = "num_virtual_tokens"
"""The axis whose length each prompt chooses; the bundle fixes all other lengths."""

PROMPT_INPUTS = {"soft": "soft_prompt", "prefix": "prefix", "pixel": "pixel_prompt"}
"""The graph input for a prompt, by kind. A deep prompt is first folded into a prefix."""

FOLD_INPUTS, FOLD_OUTPUTS = ("deep_prompt",), ("prefix",)
"""The inputs and outputs of a fold graph."""

KindShape = tuple[int | None, ...]
"""The shape that a bundle accepts for a kind: one length per axis, None for the free axis."""


def kind_of(shape: Sequence[int], kind: str | None, accepted: Mapping[str, KindShape], name: str) -> str:
    """Return the kind of a prompt of `shape`, checked against the kinds that a bundle accepts.

    Args:
        shape: The shape of the prompt's array.
        kind: The declared kind, or None to infer it from the shape.
        accepted: The bundle's kinds and their shapes.
        name: The name of the prompt, for error messages.

    Raises:
        PromptKindError: The bundle does not support the kind, or the shape fits more than one kind.
        PromptShapeError: The shape fits no kind, or does not fit the declared kind.
    """
    if kind is not None:
        require_kind(kind, accepted, name)
        require_shape(shape, kind, accepted[kind], name)
        return kind
    fitting = [candidate for candidate, wanted in accepted.items() if fits(shape, wanted)]
    if len(fitting) > 1:
        raise PromptKindError(
            found=f"{name}: shape {list(shape)} fits the kinds {' and '.join(fitting)}",
            wanted="one kind",
            remedy="pass the kind (--kind, kind=…) or add a card next to the prompt",
        )
    if not fitting:
        raise PromptShapeError(
            found=f"{name}: shape {list(shape)}",
            wanted=" or ".join(describe(candidate, wanted) for candidate, wanted in accepted.items()),
            remedy="use a prompt that was tuned for this backbone",
        )
    return fitting[0]


def require_kind(kind: str, accepted: Mapping[str, KindShape], name: str) -> None:
    """Check that a kind is in `accepted`."""
    if kind not in accepted:
        raise PromptKindError(
            found=f"{name}: kind {kind[:40]!r}",
            wanted=f"one of {', '.join(accepted)}",
            remedy="use a prompt of a supported kind",
        )


def require_shape(shape: Sequence[int], kind: str, wanted: KindShape, name: str) -> None:
    """Check that a shape is the one `wanted` for the kind."""
    if not fits(shape, wanted):
        raise PromptShapeError(
            found=f"{name}: a {kind} prompt of shape {list(shape)}",
            wanted=describe(kind, wanted),
            remedy="use a prompt that was tuned for this backbone",
        )


def fits(shape: Sequence[int], wanted: KindShape) -> bool:
    """Return whether `shape` has the lengths `wanted`. The free axis must have a length of at least 1."""
    return len(shape) == len(wanted) and all(
        length >= 1 if want is None else length == want for length, want in zip(shape, wanted, strict=True)
    )


def describe(kind: str, wanted: KindShape) -> str:
    """Format a kind and its shape for people, e.g. `soft [num_virtual_tokens, 384]`."""
    lengths = (axis if want is None else str(want) for axis, want in zip(KIND_AXES[kind], wanted, strict=True))
    return f"{kind} [{', '.join(lengths)}]"


def read_kinds(outer: Fields, name: str) -> dict[str, KindShape]:
    """Read the field `name` of a manifest, which contains the shape of each kind.

    Raises:
        ManifestError: A kind is unknown, or its shape is malformed.
    """
    fields = outer.inside(name)
    kinds: dict[str, KindShape] = {}
    for kind in fields.value:
        axes = KIND_AXES.get(kind, ())
        lengths = fields.take(kind, list)
        if not axes or len(lengths) != len(axes):
            fields.refuse(
                f"{kind[:40]!r} with {len(lengths)} axes", f"one of the kinds {', '.join(KIND_AXES)}, with its axes"
            )
        free = [axis == FREE_AXIS for axis in axes]
        if not all(
            length == FREE_AXIS if is_free else type(length) is int and 0 < length < 2**31
            for is_free, length in zip(free, lengths, strict=True)
        ):
            fields.refuse(
                f"{kind!r} with lengths {str(lengths)[:80]}", f"one length per axis, and {FREE_AXIS!r} for its own axis"
            )
        if kind == "prefix" and lengths[1] != 2:
            fields.refuse(f"a prefix with {lengths[1]} parts per layer", "2, keys and values")
        kinds[kind] = tuple(None if is_free else length for is_free, length in zip(free, lengths, strict=True))
    return kinds


def kinds_as_json(kinds: Mapping[str, KindShape]) -> dict[str, list[int | str]]:
    """Return the shapes of kinds as in a manifest, where the free axis is the word `FREE_AXIS`."""
    return {
        kind: [axis if length is None else length for axis, length in zip(KIND_AXES[kind], shape, strict=True)]
        for kind, shape in kinds.items()
    }
