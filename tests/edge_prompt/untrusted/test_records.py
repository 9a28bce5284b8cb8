from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt.base.errors import CardError
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt.untrusted.records import (
    OMITTABLE,
    Check,
    Count,
    DistinctStrings,
    Named,
    Positive,
    ReadBy,
    Sha256,
    count,
    number,
    one_of,
    read_record,
    require_consistent,
)

DIGEST = "0123456789abcdef" * 4


def backwards(fields: Fields, name: str) -> str:
    return fields.take(name, str)[::-1]


@dataclass(frozen=True)
class Part:
    name: str
    least: Count = 0
    most: int | None = None


@require_consistent.register
def require_order(part: Part, fields: Fields) -> None:
    if part.most is not None and part.most < part.least:
        fields.refuse(f"{part.least} to {part.most}", "an interval")


@dataclass(frozen=True)
class Whole:
    text: str
    integer: int
    decimal: float
    flag: bool
    free: Mapping[str, Any]
    digest: Sha256
    labels: DistinctStrings
    colour: Annotated[str, one_of(("red", "green"), "paint it")]
    share: Annotated[float, number(0, 1)]
    tokens: Annotated[int, count(3)]
    shape: tuple[Positive | None, ...]
    pairs: tuple[tuple[Positive, Positive], ...]
    texts: Mapping[str, str]
    parts: tuple[Part, ...]
    part: Part | None
    part_by_name: Mapping[str, Part]
    some: Annotated[tuple[int, ...], Check(len, "at least one")]
    renamed: Annotated[int, Named("other")]
    reversed: Annotated[str, ReadBy(backwards)]
    comment: Annotated[str, OMITTABLE] = "none"
    notes: Annotated[Mapping[str, Any], OMITTABLE] = field(default_factory=dict)


VALID: dict[str, Any] = {
    "text": "a",
    "integer": -3,
    "decimal": 1,
    "flag": True,
    "free": {"x": [None]},
    "digest": DIGEST,
    "labels": ["b", "a"],
    "colour": "red",
    "share": 0.5,
    "tokens": 3,
    "shape": [None, 2],
    "pairs": [[2, 8], [4, 8]],
    "texts": {"k": "v"},
    "parts": [{"name": "p", "least": 1, "most": 2}],
    "part": {"name": "q", "least": 0},
    "part_by_name": {"r": {"name": "r", "least": 0, "most": None}},
    "some": [1],
    "other": 7,
    "reversed": "abc",
}


def read(changes: Mapping[str, Any], *, without: str = "") -> Whole:
    value = {name: found for name, found in {**VALID, **changes}.items() if name != without}
    return read_record(Whole, Fields(value, "x.json", CardError))


def test_every_annotation_is_read() -> None:
    assert read({"unknown": 1}) == Whole(
        text="a",
        integer=-3,
        decimal=1.0,
        flag=True,
        free={"x": [None]},
        digest=DIGEST,
        labels=("b", "a"),
        colour="red",
        share=0.5,
        tokens=3,
        shape=(None, 2),
        pairs=((2, 8), (4, 8)),
        texts={"k": "v"},
        parts=(Part("p", 1, 2),),
        part=Part("q"),
        part_by_name={"r": Part("r")},
        some=(1,),
        renamed=7,
        reversed="cba",
    )


@pytest.mark.parametrize("changes", [{}, {"comment": None}, {"comment": ""}])
def test_an_omittable_field_may_be_missing_null_or_empty(changes: dict[str, Any]) -> None:
    assert read(changes).comment == "none"
    assert read({"comment": "x"}).comment == "x"


def test_an_optional_field_may_be_missing_or_null() -> None:
    assert read({"part": None}).part is read({}, without="part").part is None


@pytest.mark.parametrize("name", sorted(VALID.keys() - {"part"}))
def test_another_field_must_be_there(name: str) -> None:
    with pytest.raises(CardError, match=f"^x.json: no field '{name}'"):
        read({}, without=name)


def test_a_default_that_serves_constructors_does_not_let_a_file_omit_the_field() -> None:
    with pytest.raises(CardError, match=r"^x\.json: part: no field 'least'"):
        read({"part": {"name": "q"}})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"text": 1}, "'text' is int; expected 'text' as str"),
        ({"integer": True}, "'integer' is bool; expected 'integer' as int"),
        ({"integer": 1.0}, "'integer' is float"),
        ({"decimal": "1"}, "'decimal' is str; expected 'decimal' as float"),
        ({"decimal": 10**400}, "'decimal' is an integer of 401 digits"),
        ({"flag": 0}, "'flag' is int; expected 'flag' as bool"),
        ({"free": []}, "'free' is list; expected 'free' as dict"),
        ({"digest": DIGEST.upper()}, "'digest' is '0123456789ABCDEF.*'; expected a SHA-256 in 64 lower-case"),
        ({"labels": ["a", "a"]}, r"'labels' is \['a', 'a'\]; expected distinct strings"),
        ({"labels": ["a", 1]}, r"'labels\[1\]' is int"),
        ({"labels": "ab"}, "'labels' is str; expected 'labels' as list"),
        ({"colour": "blue"}, "'colour' is 'blue'; expected one of red, green. Paint it"),
        ({"colour": "x" * 999}, "'colour' is 'x{80}'; expected"),
        ({"share": 1.5}, r"'share' is 1\.5; expected a number from 0 to 1"),
        ({"share": float("nan")}, "'share' is nan"),
        ({"tokens": 2}, "'tokens' is 2; expected a count from 3 to 2147483647"),
        ({"tokens": 2**31}, "'tokens' is 2147483648"),
        ({"shape": [None, 0]}, r"'shape\[1\]' is 0; expected a count from 1 to 2147483647"),
        ({"pairs": [[2, 8], [4]]}, r"'pairs\[1\]' has 1 items; expected 2"),
        ({"pairs": [[2, 8], [4, 0]]}, r"'pairs\[1\]\[1\]' is 0"),
        ({"pairs": [3]}, r"'pairs\[0\]' is int; expected 'pairs\[0\]' as list"),
        ({"texts": {"k": 1}}, "texts: 'k' is int"),
        ({"parts": [VALID["part"], 3]}, r"'parts\[1\]' is int; expected 'parts\[1\]' as dict"),
        ({"parts": [VALID["part"], {}]}, r"parts\[1\]: no field 'name'"),
        ({"parts": [{"name": "p", "least": 2, "most": 1}]}, r"parts\[0\]: 2 to 1; expected an interval"),
        ({"part": {"name": "p", "least": 2, "most": 1}}, "part: 2 to 1; expected an interval"),
        ({"part_by_name": {"r": {"name": 3}}}, "part_by_name: r: 'name' is int"),
        ({"some": []}, r"'some' is \[\]; expected at least one"),
        ({"other": "7"}, "'other' is str"),
        ({"reversed": 3}, "'reversed' is int"),
        ({"comment": 0}, "'comment' is int"),
        ({"notes": []}, "'notes' is list"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_place(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CardError, match=rf"^x\.json: {message}"):
        read(changes)


texts = st.text(max_size=8)
counts = st.integers(0, 2**31 - 1)
positives = st.integers(1, 2**31 - 1)
free = st.dictionaries(texts, st.none() | st.booleans() | st.integers() | texts, max_size=3)
parts = st.builds(Part, texts, counts, st.none()) | st.builds(Part, texts, st.just(5), st.integers(5))
wholes = st.builds(
    Whole,
    text=texts,
    integer=st.integers(),
    decimal=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    free=free,
    digest=st.text("0123456789abcdef", min_size=64, max_size=64),
    labels=st.lists(texts, max_size=3, unique=True).map(tuple),
    colour=st.sampled_from(["red", "green"]),
    share=st.floats(0, 1),
    tokens=st.integers(3, 2**31 - 1),
    shape=st.lists(st.none() | positives, max_size=4).map(tuple),
    pairs=st.lists(st.tuples(positives, positives), max_size=3).map(tuple),
    texts=st.dictionaries(texts, texts, max_size=3),
    parts=st.lists(parts, max_size=3).map(tuple),
    part=st.none() | parts,
    part_by_name=st.dictionaries(texts, parts, max_size=3),
    some=st.lists(st.integers(), min_size=1, max_size=3).map(tuple),
    renamed=st.integers(),
    reversed=texts,
    comment=st.text(min_size=1, max_size=8),
    notes=free,
)


@given(wholes)
def test_what_is_written_is_read_back_equal(whole: Whole) -> None:
    value = asdict(whole)
    value["other"] = value.pop("renamed")
    value["reversed"] = value["reversed"][::-1]
    assert read_record(Whole, Fields(json.loads(json.dumps(value)), "x.json", CardError)) == whole


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=4,
)


@given(st.sampled_from(sorted(VALID)), JSON)
def test_any_value_is_read_or_refused(name: str, value: Any) -> None:
    try:
        found = read({name: value})
    except CardError as error:
        assert "x.json: " in str(error)  # noqa: PT017
    else:
        assert isinstance(found, Whole)
