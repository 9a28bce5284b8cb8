"""A task: a prompt made ready to be fed, with the head, labels and template that belong to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import CardError, HeadError, PromptShapeError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt.formats.fingerprint import require_fingerprint
from edge_prompt.formats.kinds import kind_of
from edge_prompt.formats.manifest import PROMPT_INPUTS, Manifest
from edge_prompt.formats.preprocessing import LEAST_TOKENS, LanguagePreprocessing, TextPreprocessing
from edge_prompt.formats.prompt import Head, Prompt
from edge_prompt.formats.signed_files import read_signed_prompt

Float32 = NDArray[np.float32]

BATCH_AXES = {"soft_prompt": 0, "prefix": 2, "pixel_prompt": 0}
"""The axis of each prompt input along which rows of a batch differ; a leading 1 there is for all rows."""

LENGTH_AXES = {"soft_prompt": 1, "prefix": 4}
"""The axis of each prompt input whose length is the prompt's own."""

_OF_TEXTS = (TextPreprocessing, LanguagePreprocessing)
"""Requests that are texts, which must fit beside a prompt."""

Fold = Callable[[Float32], Float32]
"""From a deep prompt to the prefix it amounts to, with the axes of their files."""


@dataclass(frozen=True, eq=False)
class Task:
    """What a request of one task is answered with. Immutable, so requests under way keep the one they began with.

    Attributes:
        name: Its name; empty for the base model.
        kind: The kind of its prompt; empty for the base model.
        prompts: The prompt inputs of the graph by name, float32, with 1 on the axis of the batch: the task's own
            prompt, and the base model's for the others.
        head: The task's own head, if it has one.
        labels: Its class names; empty if it classifies nothing.
        template: The text put around a request's text.
        max_tokens: Tokens of a text that fit beside the prompt; 0 if the backbone takes no text.
        sha256: SHA-256 of its prompt's file as it was read; empty for the base model.
    """

    name: str
    kind: str
    prompts: Mapping[str, Float32]
    head: Head | None
    labels: tuple[str, ...]
    template: str
    max_tokens: int
    sha256: str = ""

    def filled(self, text: str) -> str:
        """The template with `text` in it."""
        return text if self.template == TEMPLATE_FIELD else self.template.replace(TEMPLATE_FIELD, text)

    def length(self, name: str) -> int:
        """Virtual tokens in the prompt input `name`; 0 if the graph has no such input."""
        return self.prompts[name].shape[LENGTH_AXES[name]] if name in self.prompts else 0

    @property
    def virtual_tokens(self) -> int:
        """Virtual tokens of all its prompts."""
        return _virtual_tokens(self.prompts)

    @property
    def size_bytes(self) -> int:
        """What its own prompt and head take in memory."""
        prompt = self.prompts[PROMPT_INPUTS["prefix" if self.kind == "deep" else self.kind]].nbytes if self.kind else 0
        return prompt if self.head is None else prompt + self.head.size_bytes

    @property
    def described(self) -> str:
        """The task as a message names it."""
        return f"task {self.name!r}" if self.name else "the base model"


def base_task(manifest: Manifest) -> Task:
    """The base model: prompts of length 0, a pixel prompt of zeros, the network's own head and labels."""
    prompts = {}
    for kind, name in PROMPT_INPUTS.items():
        if kind in manifest.kinds:
            empty = np.zeros([length or 0 for length in manifest.kinds[kind]], np.float32)
            prompts[name] = _of_one_row(empty, name)
    text = manifest.preprocessing
    max_tokens = text.max_tokens if isinstance(text, _OF_TEXTS) else 0
    return Task("", "", prompts, None, manifest.backbone.labels, TEMPLATE_FIELD, max_tokens)


def load_task(name: str, path: Path, kind: str | None, bundle: Bundle, base: Task, fold: Fold) -> Task:
    """Read the prompt at `path` and make it ready for `bundle`.

    Args:
        name: The name of the task.
        path: The prompt file.
        kind: Its kind, where neither card nor shape say it.
        bundle: The bundle it is for.
        base: The base model's task, whose empty prompts stand in for the other kinds.
        fold: What makes a prefix of a deep prompt.

    Raises:
        EdgePromptError: The prompt, its card or its head is malformed, not for this bundle, or not signed where the
            bundle must be; each cause has its class.
    """
    prompt = read_signed_prompt(path, bundle.signatures)
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
    kind = kind_of(prompt.array.shape, kind, manifest.kinds, str(path))
    prompts = {**base.prompts, **as_inputs(kind, prompt.array.astype(np.float32, copy=False), fold)}
    text = manifest.preprocessing
    return Task(
        name=name,
        kind=kind,
        prompts=prompts,
        head=prompt.head,
        labels=_labels(prompt, manifest, path),
        template=TEMPLATE_FIELD if prompt.card is None else prompt.card.template,
        max_tokens=_max_tokens(prompt, _room(_virtual_tokens(prompts), text, path))
        if isinstance(text, _OF_TEXTS)
        else 0,
        sha256=prompt.sha256[path.name],
    )


def as_inputs(kind: str, array: Float32, fold: Fold) -> dict[str, Float32]:
    """The prompt as the graph takes it, by the name of the input."""
    if kind == "deep":
        kind, array = "prefix", fold(array)
    name = PROMPT_INPUTS[kind]
    return {name: _of_one_row(array, name)}


def _of_one_row(array: Float32, name: str) -> Float32:
    """The array with 1 on the axis of the batch of the prompt input `name`; `expand_dims` takes ten times as long."""
    row: Float32 = array[(slice(None),) * BATCH_AXES[name] + (None,)]
    return row


def _virtual_tokens(prompts: Mapping[str, Float32]) -> int:
    return sum(prompts[name].shape[axis] for name, axis in LENGTH_AXES.items() if name in prompts)


def _labels(prompt: Prompt, manifest: Manifest, path: Path) -> tuple[str, ...]:
    """The class names: the card's, else the network's own, else numbered as transformers does."""
    own = () if prompt.card is None else prompt.card.labels
    if prompt.head is None:
        if manifest.cache:
            return own  # a language model classifies by the texts of labels
        if own and len(own) != len(manifest.backbone.labels):
            raise HeadError(
                found=f"{path} has {len(own)} labels and no head",
                wanted=f"a head, or the {len(manifest.backbone.labels)} labels of the backbone's own head",
                remedy="restore the head of this prompt",
            )
        return own or manifest.backbone.labels
    classes, feature_size = len(prompt.head.weight), prompt.head.feature_size
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


def _room(length: int, text: TextPreprocessing | LanguagePreprocessing, path: Path) -> int:
    """Tokens that fit beside a prompt of `length` virtual tokens; at least the special tokens and one more must."""
    room = text.max_tokens if text.max_positions is None else min(text.max_tokens, text.max_positions - length)
    if room < LEAST_TOKENS:
        raise PromptShapeError(
            found=f"{path}: {length} virtual tokens",
            wanted=f"at most {length + room - LEAST_TOKENS}, so that a text fits into {text.max_positions} positions",
            remedy="tune a shorter prompt",
        )
    return room
