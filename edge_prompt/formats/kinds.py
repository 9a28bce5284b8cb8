"""The kinds of prompt, and the shape of each kind's array."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edge_prompt.base.errors import PromptKindError, PromptShapeError

KIND_AXES: Mapping[str, tuple[str, ...]] = {
    "soft": ("num_virtual_tokens", "hidden_size"),
    "prefix": ("num_layers", "key_value", "num_kv_heads", "num_virtual_tokens", "head_dim"),
    "deep": ("num_layers", "num_virtual_tokens", "hidden_size"),
    "pixel": ("channels", "height", "width"),
}
"""The axes of the array in a prompt file, by kind. `key_value` has length 2: index 0 for keys, 1 for values."""

FREE_AXIS = "num_virtual_tokens"
"""The axis whose length each prompt chooses; the bundle fixes all other lengths."""

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
