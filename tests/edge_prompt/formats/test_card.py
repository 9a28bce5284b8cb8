from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_prompt.base.errors import CardError, MissingFileError
from edge_prompt.formats.card import CARD_FORMAT_VERSION, Card, HeadFile, card_path, read_card, write_card
from edge_prompt.formats.head import ACTIVATIONS
from edge_prompt.formats.kinds import KIND_AXES

DIGEST = "0123456789abcdef" * 4
VALID: dict[str, Any] = {
    "format_version": 1,
    "kind": "soft",
    "shape": [5, 32],
    "sha256": DIGEST,
    "fingerprint": DIGEST,
    "labels": ["a", "b"],
    "template": "Say: {text}",
    "head": {"file": "x.head.npz", "sha256": DIGEST},
    "max_tokens": 40,
    "provenance": {"by": "a test"},
}
MISSING = object()

digests = st.text("0123456789abcdef", min_size=64, max_size=64)
around = st.text(max_size=20).filter(lambda text: "{text}" not in text)


@st.composite
def cards(draw: st.DrawFn) -> Card:
    kind = draw(st.sampled_from(sorted(KIND_AXES)))
    return Card(
        kind=kind,
        shape=tuple(draw(st.integers(1, 2**31 - 1)) for _ in KIND_AXES[kind]),
        sha256=draw(digests),
        fingerprint=draw(digests),
        labels=tuple(draw(st.lists(st.text(), unique=True, max_size=4))),
        template=draw(st.builds("{}{{text}}{}".format, around, around)),
        head=draw(
            st.none() | st.builds(HeadFile, st.text(max_size=9), digests, st.none() | st.sampled_from([*ACTIVATIONS]))
        ),
        max_tokens=draw(st.none() | st.integers(0, 2**31 - 1)),
        provenance=draw(st.dictionaries(st.text(), st.text() | st.integers() | st.booleans(), max_size=3)),
    )


def written(folder: Path, **changes: Any) -> Path:
    value = {name: field for name, field in {**VALID, **changes}.items() if field is not MISSING}
    path = folder / "x.json"
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(card=cards())
def test_a_written_card_is_read_again(tmp_path: Path, card: Card) -> None:
    write_card(tmp_path / "x.json", card)
    assert read_card(tmp_path / "x.json") == card


def test_a_card_has_every_field(tmp_path: Path) -> None:
    expected = Card(
        "soft", (5, 32), DIGEST, DIGEST, ("a", "b"), "Say: {text}", HeadFile("x.head.npz", DIGEST), 40, {"by": "a test"}
    )
    assert read_card(written(tmp_path)) == expected


@pytest.mark.parametrize("absent", [MISSING, None])
def test_optional_fields_may_be_missing_or_null(tmp_path: Path, absent: object) -> None:
    path = written(tmp_path, labels=absent, template=absent, head=absent, max_tokens=absent, provenance=absent)
    assert read_card(path) == Card("soft", (5, 32), DIGEST, DIGEST)


def test_an_unknown_field_is_ignored(tmp_path: Path) -> None:
    assert read_card(written(tmp_path, surplus=1)).kind == "soft"


@pytest.mark.parametrize("name", ["format_version", "kind", "shape", "sha256", "fingerprint"])
def test_required_fields_may_not_be_missing(tmp_path: Path, name: str) -> None:
    with pytest.raises(CardError, match=f"no field '{name}'"):
        read_card(written(tmp_path, **{name: MISSING}))


@pytest.mark.parametrize("version", [0, CARD_FORMAT_VERSION + 1, 10**30])
def test_a_card_of_another_format_version_is_refused(tmp_path: Path, version: int) -> None:
    with pytest.raises(CardError, match="Install a newer edge-prompt"):
        read_card(written(tmp_path, format_version=version))


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"kind": "hard"}, "'kind' is 'hard'"),
        ({"kind": 1}, "'kind' is int"),
        ({"shape": "5"}, "'shape' is str"),
        ({"shape": []}, r"shape \[\]"),
        ({"shape": [5, 32, 1]}, r"shape \[5, 32, 1\]"),
        ({"shape": [0, 32]}, r"'shape\[0\]' is 0"),
        ({"shape": [-5, 32]}, r"'shape\[0\]' is -5"),
        ({"shape": [True, 32]}, r"'shape\[0\]' is bool"),
        ({"shape": [5.0, 32]}, r"'shape\[0\]' is float"),
        ({"shape": [5, 2**31]}, r"'shape\[1\]' is 2147483648"),
        ({"sha256": "0"}, "'sha256' is '0'"),
        ({"fingerprint": DIGEST.upper()}, "'fingerprint' is"),
        ({"labels": "ab"}, "'labels' is str"),
        ({"labels": ["a", 1]}, r"'labels\[1\]' is int"),
        ({"labels": ["a", "a"]}, r"'labels' is \['a', 'a'\]; expected distinct strings"),
        ({"template": "no place"}, "template 'no place'"),
        ({"template": "{text} {text}"}, "template"),
        ({"template": 1}, "'template' is int"),
        ({"head": "x.npz"}, "'head' is str"),
        ({"head": {"file": "x.npz"}}, "head: no field 'sha256'"),
        ({"head": {"file": 1, "sha256": DIGEST}}, "head: 'file' is int"),
        (
            {"head": {"file": "x.npz", "sha256": DIGEST, "activation": "swish"}},
            "head: 'activation' is 'swish'; expected one of gelu, relu, tanh",
        ),
        ({"max_tokens": -1}, "'max_tokens' is -1"),
        ({"max_tokens": "40"}, "'max_tokens' is str"),
        ({"provenance": []}, "'provenance' is list"),
    ],
)
def test_a_malformed_card_is_refused(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    with pytest.raises(CardError, match=rf"x\.json: {found}"):
        read_card(written(tmp_path, **changes))


def test_a_missing_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"x\.json: no such file"):
        read_card(tmp_path / "x.json")


def test_a_card_is_next_to_its_prompt() -> None:
    assert card_path(Path("prompts/v1.2.npy")) == Path("prompts/v1.2.json")
