"""The card of a prompt: the JSON file next to it that describes its kind, its backbone, and its quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_prompt.base.errors import CardError
from edge_prompt.formats.head import ACTIVATIONS
from edge_prompt.formats.kinds import KIND_AXES
from edge_prompt.storage.files import read_hashed_json, write_json
from edge_prompt.untrusted.json_fields import Fields

CARD_FORMAT_VERSION = 1
CARD_SUFFIX = ".json"

TEMPLATE_FIELD = "{text}"
"""The placeholder in a card's template for the text of the request."""


@dataclass(frozen=True)
class HeadFile:
    """The head that belongs to a prompt.

    Attributes:
        file: The name of its file, next to the card.
        sha256: The SHA-256 of its bytes.
        activation: The activation after its dense layer, a key of `edge_prompt.formats.head.ACTIVATIONS`; None if it
            has no dense layer.
    """

    file: str
    sha256: str
    activation: str | None = None


@dataclass(frozen=True)
class Card:
    """The contents of a card. `docs/reference/formats.md` describes the format.

    Attributes:
        kind: A key of `KIND_AXES`.
        shape: The shape of the array.
        sha256: The SHA-256 of the bytes of the prompt file.
        fingerprint: The fingerprint of the backbone on which the prompt was tuned.
        labels: The class names, in the order of the rows of the head or of the model's own head; may be empty.
        template: The text around the text of a request, with the placeholder `{text}`.
        head: The head of the task, if it has one.
        max_tokens: The maximum number of tokens per text during tuning, including special tokens. Longer texts are
            truncated. None uses the maximum of the backbone.
        provenance: The origin and the quality of the prompt; free-form, for people.
    """

    kind: str
    shape: tuple[int, ...]
    sha256: str
    fingerprint: str
    labels: tuple[str, ...] = ()
    template: str = TEMPLATE_FIELD
    head: HeadFile | None = None
    max_tokens: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)


def card_path(prompt_path: Path) -> Path:
    """Return the path of the card of the prompt at `prompt_path`."""
    return prompt_path.with_suffix(CARD_SUFFIX)


def read_card(path: Path) -> Card:
    """Read and check a card.

    Raises:
        MissingFileError: There is no such file.
        CardError: It is not a valid card.
    """
    return read_hashed_card(path)[0]


def read_hashed_card(path: Path) -> tuple[Card, str]:
    """Like `read_card`, but also return the SHA-256 of the bytes that were read."""
    value, sha256 = read_hashed_json(path, CardError)
    fields = Fields(value, str(path), CardError)
    fields.require_version(CARD_FORMAT_VERSION)
    kind = fields.take("kind", str)
    if kind not in KIND_AXES:
        fields.refuse(f"kind {kind[:40]!r}", f"one of {', '.join(KIND_AXES)}")
    shape = fields.take("shape", list)
    if len(shape) != len(KIND_AXES[kind]) or not all(type(length) is int and 0 < length < 2**31 for length in shape):
        fields.refuse(f"shape {str(shape)[:80]}", f"the {len(KIND_AXES[kind])} lengths of a {kind} prompt")
    template = fields.optional("template", str) or TEMPLATE_FIELD
    if template.count(TEMPLATE_FIELD) != 1:
        fields.refuse(f"template {template[:80]!r}", f"a text that contains {TEMPLATE_FIELD} exactly once")
    labels = fields.distinct("labels") if fields.value.get("labels") is not None else ()
    head = None
    if fields.value.get("head") is not None:
        head_fields = fields.inside("head")
        activation = head_fields.optional("activation", str)
        if activation is not None and activation not in ACTIVATIONS:
            head_fields.refuse(
                f"activation {activation[:40]!r}", f"one of {', '.join(ACTIVATIONS)}", "install a newer edge-prompt"
            )
        head = HeadFile(head_fields.take("file", str), head_fields.sha256("sha256"), activation)
    card = Card(
        kind=kind,
        shape=tuple(shape),
        sha256=fields.sha256("sha256"),
        fingerprint=fields.sha256("fingerprint"),
        labels=labels,
        template=template,
        head=head,
        max_tokens=None if fields.value.get("max_tokens") is None else fields.size("max_tokens"),
        provenance=fields.optional("provenance", dict) or {},
    )
    return card, sha256


def write_card(path: Path, card: Card) -> None:
    """Write only the card, atomically. `edge_prompt.formats.prompt.write_prompt` writes a whole prompt."""
    write_json(path, card_fields(card))


def card_fields(card: Card) -> dict[str, Any]:
    """Return a card as a JSON object."""
    head = None
    if card.head is not None:
        activation = {} if card.head.activation is None else {"activation": card.head.activation}
        head = {"file": card.head.file, "sha256": card.head.sha256} | activation
    return {
        "format_version": CARD_FORMAT_VERSION,
        "kind": card.kind,
        "shape": list(card.shape),
        "sha256": card.sha256,
        "fingerprint": card.fingerprint,
        "labels": list(card.labels),
        "template": card.template,
        "head": head,
        "max_tokens": card.max_tokens,
        "provenance": dict(card.provenance),
    }
