"""The card of a prompt: the JSON file next to it that describes its kind, its backbone, and its quality."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from edge_prompt.base.errors import CardError
from edge_prompt.formats.head import ACTIVATIONS
from edge_prompt.formats.kinds import KIND_AXES
from edge_prompt.formats.problem_type import ProblemType
from edge_prompt.storage.files import read_hashed_json, write_json
from edge_prompt.untrusted.json_fields import NEWER, Fields
from edge_prompt.untrusted.records import (
    OMITTABLE,
    Count,
    DistinctStrings,
    Positive,
    Sha256,
    one_of,
    read_record,
    require_consistent,
)

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
    sha256: Sha256
    activation: Annotated[str, one_of(ACTIVATIONS, NEWER)] | None = None


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
        problem_type: What the logits of the head mean, one of `edge_prompt.formats.problem_type.PROBLEM_TYPES`; None
            leaves it to their number.
        max_tokens: The maximum number of tokens per text during tuning, including special tokens. Longer texts are
            truncated. None uses the maximum of the backbone.
        provenance: The origin and the quality of the prompt; free-form, for people.
    """

    kind: Annotated[str, one_of(KIND_AXES)]
    shape: tuple[Positive, ...]
    sha256: Sha256
    fingerprint: Sha256
    labels: Annotated[DistinctStrings, OMITTABLE] = ()
    template: Annotated[str, OMITTABLE] = TEMPLATE_FIELD
    head: HeadFile | None = None
    max_tokens: Count | None = None
    provenance: Annotated[Mapping[str, Any], OMITTABLE] = field(default_factory=dict)
    problem_type: ProblemType | None = None


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
    return read_record(Card, fields), sha256


@require_consistent.register
def _require_shape_and_template(card: Card, fields: Fields) -> None:
    axes = len(KIND_AXES[card.kind])
    if len(card.shape) != axes:
        fields.refuse(f"shape {str(list(card.shape))[:80]}", f"the {axes} lengths of a {card.kind} prompt")
    if card.template.count(TEMPLATE_FIELD) != 1:
        fields.refuse(f"template {card.template[:80]!r}", f"a text that contains {TEMPLATE_FIELD} exactly once")


def write_card(path: Path, card: Card) -> None:
    """Write only the card, atomically. `edge_prompt.formats.prompt.write_prompt` writes a whole prompt."""
    write_json(path, card_fields(card))


def card_fields(card: Card) -> dict[str, Any]:
    """Return a card as a JSON object."""
    value = {"format_version": CARD_FORMAT_VERSION, **asdict(card)}
    if card.head is not None and card.head.activation is None:
        del value["head"]["activation"]
    if card.problem_type is None:
        del value["problem_type"]
    return value
