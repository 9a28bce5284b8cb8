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
"""The axes of the array in a prompt file, by kind. `key_value` has length 2: 0 the keys, 1 the values."""

FREE_AXIS = "num_virtual_tokens"
"""The axis whose length is the prompt's own choice; a bundle fixes all others."""

KindShape = tuple[int | None, ...]
"""What a bundle takes for a kind: one length an axis, None on the free axis."""


def kind_of(shape: Sequence[int], kind: str | None, accepted: Mapping[str, KindShape], name: str) -> str:
    """The kind of a prompt of `shape`, checked against what a bundle accepts.

    Args:
        shape: The shape of the prompt's array.
        kind: The kind it is said to be, or None to tell it by the shape.
        accepted: The bundle's kinds and their shapes.
        name: The prompt's name, for messages.

    Raises:
        PromptKindError: The kind is unknown to the bundle, or the shape allows more than one kind.
        PromptShapeError: The shape fits no kind, or not the one it is said to be.
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
            remedy="pass the kind (--kind, kind=…) or put a card beside the prompt",
        )
    if not fitting:
        raise PromptShapeError(
            found=f"{name}: shape {list(shape)}",
            wanted=" or ".join(describe(candidate, wanted) for candidate, wanted in accepted.items()),
            remedy="use a prompt that was tuned for this backbone",
        )
    return fitting[0]


def require_kind(kind: str, accepted: Mapping[str, KindShape], name: str) -> None:
    """Refuse a kind that is not among `accepted`."""
    if kind not in accepted:
        raise PromptKindError(
            found=f"{name}: kind {kind[:40]!r}",
            wanted=f"one of {', '.join(accepted)}",
            remedy="use a prompt of such a kind",
        )


def require_shape(shape: Sequence[int], kind: str, wanted: KindShape, name: str) -> None:
    """Refuse a shape that is not the one `wanted` for the kind."""
    if not fits(shape, wanted):
        raise PromptShapeError(
            found=f"{name}: a {kind} prompt of shape {list(shape)}",
            wanted=describe(kind, wanted),
            remedy="use a prompt that was tuned for this backbone",
        )


def fits(shape: Sequence[int], wanted: KindShape) -> bool:
    """Whether `shape` has the lengths `wanted`; the free axis has at least length 1 (no prompt is no file)."""
    return len(shape) == len(wanted) and all(
        length >= 1 if want is None else length == want for length, want in zip(shape, wanted, strict=True)
    )


def describe(kind: str, wanted: KindShape) -> str:
    """The kind and its shape as a person reads it, e.g. `soft [num_virtual_tokens, 384]`."""
    lengths = (axis if want is None else str(want) for axis, want in zip(KIND_AXES[kind], wanted, strict=True))
    return f"{kind} [{', '.join(lengths)}]"
