"""A task: a prompt made ready to be fed, with the head, labels and template that belong to it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_prompt.bundle import Bundle
from edge_prompt.card import TEMPLATE_FIELD
from edge_prompt.errors import CardError, HeadError, ManifestError, PromptShapeError
from edge_prompt.fingerprint import require_fingerprint
from edge_prompt.kinds import KindShape, kind_of
from edge_prompt.manifest import LEAST_TOKENS, Manifest
from edge_prompt.prompt import Head, Prompt, read_prompt

Float32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Task:
    """What a request of one task is answered with. Immutable, so requests under way keep the one they began with.

    Attributes:
        name: Its name; empty for the base model.
        kind: The kind of its prompt; empty for the base model.
        soft_prompt: `[1, num_virtual_tokens, hidden_size]` float32, length 0 if the prompt is of another kind.
        prefix: `[num_layers, 2, 1, num_kv_heads, num_virtual_tokens, head_dim]` float32, or None if the backbone takes
            no prefix; length 0 if the prompt is of another kind.
        head: The task's own head, if it has one.
        labels: Its class names; empty if it classifies nothing.
        template: The text put around a request's text.
        max_tokens: Tokens of a text that fit beside the prompt.
    """

    name: str
    kind: str
    soft_prompt: Float32
    prefix: Float32 | None
    head: Head | None
    labels: tuple[str, ...]
    template: str
    max_tokens: int

    @property
    def soft_length(self) -> int:
        """Virtual tokens of the soft prompt."""
        return int(self.soft_prompt.shape[1])

    @property
    def prefix_length(self) -> int:
        """Virtual tokens of the prefix."""
        return 0 if self.prefix is None else int(self.prefix.shape[4])


def base_task(manifest: Manifest) -> Task:
    """The base model: prompts of length 0, the network's own head and labels.

    Raises:
        ManifestError: The backbone takes no soft prompt.
    """
    if "soft" not in manifest.kinds:
        raise ManifestError(
            found=f"a bundle of {manifest.backbone.source[:80]!r} for prompts of the kinds {list(manifest.kinds)}",
            wanted="soft among them",
            remedy="export the backbone again, or install a newer edge-prompt",
        )
    soft = np.zeros((1, *_lengths(manifest.kinds["soft"], 0)), np.float32)
    prefix = None
    if "prefix" in manifest.kinds:
        layers, key_value, heads, length, head_dim = _lengths(manifest.kinds["prefix"], 0)
        prefix = np.zeros((layers, key_value, 1, heads, length, head_dim), np.float32)
    labels = manifest.backbone.labels
    return Task("", "", soft, prefix, None, labels, TEMPLATE_FIELD, manifest.preprocessing.max_tokens)


def load_task(name: str, path: Path, kind: str | None, bundle: Bundle, base: Task) -> Task:
    """Read the prompt at `path` and make it ready for `bundle`.

    Args:
        name: The name of the task.
        path: The prompt file.
        kind: Its kind, where neither card nor shape say it.
        bundle: The bundle it is for.
        base: The base model's task, whose empty prompts stand in for the other kinds.

    Raises:
        EdgePromptError: The prompt, its card or its head is malformed or not for this bundle; each cause has its class.
    """
    prompt = read_prompt(path)
    manifest = bundle.manifest
    if prompt.card is not None:
        require_fingerprint(prompt.card.fingerprint, manifest.backbone.fingerprint, str(path))
        if kind not in (None, prompt.card.kind):
            raise CardError(
                found=f"{path} was asked for as {kind}, its card says {prompt.card.kind}",
                wanted="the kind of the card",
                remedy="leave the kind out",
            )
        kind = prompt.card.kind
    accepted = {name: shape for name, shape in manifest.kinds.items() if name in _PREPARE}
    kind = kind_of(prompt.array.shape, kind, accepted, str(path))
    soft, prefix = _PREPARE[kind](prompt, base)
    labels = _labels(prompt, manifest, path)
    length = soft.shape[1] + (0 if prefix is None else prefix.shape[4])
    return Task(
        name=name,
        kind=kind,
        soft_prompt=soft,
        prefix=prefix,
        head=prompt.head,
        labels=labels,
        template=TEMPLATE_FIELD if prompt.card is None else prompt.card.template,
        max_tokens=_max_tokens(prompt, _room(length, manifest, path)),
    )


def _prepare_soft(prompt: Prompt, base: Task) -> tuple[Float32, Float32 | None]:
    return prompt.array.astype(np.float32, copy=False)[None], base.prefix


def _prepare_prefix(prompt: Prompt, base: Task) -> tuple[Float32, Float32 | None]:
    return base.soft_prompt, prompt.array.astype(np.float32, copy=False)[:, :, None]


_PREPARE = {"soft": _prepare_soft, "prefix": _prepare_prefix}


def _lengths(shape: KindShape, virtual_tokens: int) -> tuple[int, ...]:
    return tuple(virtual_tokens if length is None else length for length in shape)


def _labels(prompt: Prompt, manifest: Manifest, path: Path) -> tuple[str, ...]:
    """The class names: the card's, else the network's own, else numbered as transformers does."""
    own = () if prompt.card is None else prompt.card.labels
    if prompt.head is None:
        if own and len(own) != len(manifest.backbone.labels):
            raise HeadError(
                found=f"{path} has {len(own)} labels and no head",
                wanted=f"a head, or the {len(manifest.backbone.labels)} labels of the backbone's own head",
                remedy="restore the head of this prompt",
            )
        return own or manifest.backbone.labels
    classes, feature_size = prompt.head.weight.shape
    if feature_size != manifest.backbone.feature_size:
        raise HeadError(
            found=f"the head of {path} reads {feature_size} features",
            wanted=f"the {manifest.backbone.feature_size} of this backbone",
            remedy="use a prompt that was tuned on this backbone",
        )
    return own or tuple(f"LABEL_{index}" for index in range(classes))


def _max_tokens(prompt: Prompt, room: int) -> int:
    """What the card says the prompt was tuned on, if that fits."""
    asked = None if prompt.card is None else prompt.card.max_tokens
    return room if asked is None else max(LEAST_TOKENS, min(asked, room))


def _room(length: int, manifest: Manifest, path: Path) -> int:
    """Tokens that fit beside a prompt of `length` virtual tokens; at least the special tokens and one more must."""
    text = manifest.preprocessing
    room = text.max_tokens if text.max_positions is None else min(text.max_tokens, text.max_positions - length)
    if room < LEAST_TOKENS:
        raise PromptShapeError(
            found=f"{path}: {length} virtual tokens",
            wanted=f"at most {length + room - LEAST_TOKENS}, so that a text fits into {text.max_positions} positions",
            remedy="tune a shorter prompt",
        )
    return room
