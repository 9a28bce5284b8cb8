"""A task: a prompt in the form that the graph takes, with its head, labels and template."""

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
from edge_prompt.formats.kinds import PROMPT_INPUTS, kind_of
from edge_prompt.formats.manifest import LanguageManifest, Manifest
from edge_prompt.formats.preprocessing import LEAST_TOKENS, LanguagePreprocessing, TextPreprocessing
from edge_prompt.formats.prompt import Head, Prompt
from edge_prompt.formats.signed_files import read_signed_prompt

Float32 = NDArray[np.float32]

BATCH_AXES = {"soft_prompt": 0, "prefix": 2, "pixel_prompt": 0}
"""The batch axis of each prompt input; length 1 on it is broadcast to all rows."""

LENGTH_AXES = {"soft_prompt": 1, "prefix": 4}
"""The axis of each prompt input that has the length of the prompt."""

_OF_TEXTS = (TextPreprocessing, LanguagePreprocessing)
"""Preprocessing of texts, whose tokens share the positions with the prompt."""

Fold = Callable[[Float32], Float32]
"""Folds a deep prompt into the equivalent prefix; both have the axes of their files."""


@dataclass(frozen=True, eq=False)
class Task:
    """A prompt with its head, labels and template. Immutable, so a running request keeps the task it began with.

    Attributes:
        name: Name of the task; empty for the base model.
        kind: Kind of the prompt; empty for the base model.
        prompts: The prompt inputs of the graph by name, float32, with length 1 on the batch axis: the task's own
            prompt, and the base model's empty prompts for the other inputs.
        head: The task's own head, if it has one.
        labels: Class names; empty if the task does not classify.
        template: Text that is put around the text of a request.
        max_tokens: Number of text tokens that fit next to the prompt; 0 if the backbone takes no text.
        sha256: SHA-256 of the prompt file as it was read; empty for the base model.
        problem_type: What the logits that classify mean; see `edge_prompt.formats.problem_type.PROBLEM_TYPES`.
    """

    name: str
    kind: str
    prompts: Mapping[str, Float32]
    head: Head | None
    labels: tuple[str, ...]
    template: str
    max_tokens: int
    sha256: str = ""
    problem_type: str | None = None

    def filled(self, text: str) -> str:
        """Insert `text` into the template."""
        return text if self.template == TEMPLATE_FIELD else self.template.replace(TEMPLATE_FIELD, text)

    def length(self, name: str) -> int:
        """Return the number of virtual tokens in the prompt input `name`; 0 if the graph has no such input."""
        return self.prompts[name].shape[LENGTH_AXES[name]] if name in self.prompts else 0

    @property
    def virtual_tokens(self) -> int:
        """Number of virtual tokens in all prompts of the task."""
        return _virtual_tokens(self.prompts)

    @property
    def size_bytes(self) -> int:
        """Memory that the task's own prompt and head use, in bytes."""
        prompt = self.prompts[PROMPT_INPUTS["prefix" if self.kind == "deep" else self.kind]].nbytes if self.kind else 0
        return prompt if self.head is None else prompt + self.head.size_bytes

    @property
    def described(self) -> str:
        """How messages refer to the task."""
        return f"task {self.name!r}" if self.name else "the base model"


def base_task(manifest: Manifest) -> Task:
    """Return the base model as a task: prompts of length 0, a pixel prompt of zeros, the network's head and labels."""
    prompts = {}
    for kind, name in PROMPT_INPUTS.items():
        if kind in manifest.kinds:
            empty = np.zeros([length or 0 for length in manifest.kinds[kind]], np.float32)
            prompts[name] = _of_one_row(empty, name)
    text = manifest.preprocessing
    max_tokens = text.max_tokens if isinstance(text, _OF_TEXTS) else 0
    backbone = manifest.backbone
    return Task("", "", prompts, None, backbone.labels, TEMPLATE_FIELD, max_tokens, problem_type=backbone.problem_type)


def load_task(name: str, path: Path, kind: str | None, bundle: Bundle, base: Task, fold: Fold) -> Task:
    """Read the prompt at `path` and prepare it for `bundle`.

    Args:
        name: Name of the task.
        path: The prompt file.
        kind: Kind of the prompt, needed if neither its card nor its shape determines it.
        bundle: The bundle that the prompt is for.
        base: The base model's task, whose empty prompts fill the other prompt inputs.
        fold: Folds a deep prompt into a prefix.

    Raises:
        EdgePromptError: The prompt, its card or its head is malformed, does not fit this bundle, or lacks a required
            signature. Each cause has its own class.
    """
    prompt = read_signed_prompt(path, bundle.signatures)
    manifest = bundle.manifest
    if prompt.card is not None:
        require_fingerprint(prompt.card.fingerprint, manifest.backbone.fingerprint, str(path))
        if kind not in (None, prompt.card.kind):
            raise CardError(
                found=f"{path} was requested as a {kind} prompt, but its card says {prompt.card.kind}",
                wanted="the kind that the card names",
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
        problem_type=_problem_type(prompt, manifest),
    )


def as_inputs(kind: str, array: Float32, fold: Fold) -> dict[str, Float32]:
    """Return the prompt as the graph's input, by the name of that input."""
    if kind == "deep":
        kind, array = "prefix", fold(array)
    name = PROMPT_INPUTS[kind]
    return {name: _of_one_row(array, name)}


def _of_one_row(array: Float32, name: str) -> Float32:
    """Add a batch axis of length 1 for the prompt input `name`; `np.expand_dims` takes ten times as long."""
    row: Float32 = array[(slice(None),) * BATCH_AXES[name] + (None,)]
    return row


def _virtual_tokens(prompts: Mapping[str, Float32]) -> int:
    return sum(prompts[name].shape[axis] for name, axis in LENGTH_AXES.items() if name in prompts)


def _labels(prompt: Prompt, manifest: Manifest, path: Path) -> tuple[str, ...]:
    """The class names: the card's, or else the network's own, or else numbered as in transformers."""
    own = () if prompt.card is None else prompt.card.labels
    if prompt.head is None:
        if isinstance(manifest, LanguageManifest):
            return own  # a language model classifies with the texts of the labels
        if own and len(own) != len(manifest.backbone.labels):
            raise HeadError(
                found=f"{path} has {len(own)} labels and no head",
                wanted=f"a head, or the {len(manifest.backbone.labels)} labels of the backbone's own head",
                remedy="restore the head file of this prompt",
            )
        return own or manifest.backbone.labels
    classes, feature_size = len(prompt.head.weight), prompt.head.feature_size
    if feature_size != manifest.backbone.feature_size:
        raise HeadError(
            found=f"the head of {path} takes {feature_size} features",
            wanted=f"the {manifest.backbone.feature_size} features of this backbone",
            remedy="use a prompt that was tuned on this backbone",
        )
    return own or tuple(f"LABEL_{index}" for index in range(classes))


def _problem_type(prompt: Prompt, manifest: Manifest) -> str | None:
    """What the logits mean: those of the task's own head by its card, those of the network's head by the manifest."""
    if prompt.head is None:
        return manifest.backbone.problem_type
    return None if prompt.card is None else prompt.card.problem_type


def _max_tokens(prompt: Prompt, room: int) -> int:
    """The text length that the prompt was tuned with, according to its card, if that fits."""
    asked = None if prompt.card is None else prompt.card.max_tokens
    return room if asked is None else max(LEAST_TOKENS, min(asked, room))


def _room(length: int, text: TextPreprocessing | LanguagePreprocessing, path: Path) -> int:
    """Number of text tokens that fit next to `length` virtual tokens: at least the special tokens and one more."""
    room = text.max_tokens if text.max_positions is None else min(text.max_tokens, text.max_positions - length)
    if room < LEAST_TOKENS:
        raise PromptShapeError(
            found=f"{path} has {length} virtual tokens",
            wanted=f"at most {length + room - LEAST_TOKENS}, so that a text fits into {text.max_positions} positions",
            remedy="tune a shorter prompt",
        )
    return room
