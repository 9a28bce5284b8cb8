from __future__ import annotations

from typing import Any

import pytest

from edge_prompt.base.errors import CardError, ManifestError
from edge_prompt.untrusted.json_fields import Fields


def fields(**value: Any) -> Fields:
    return Fields(value, "x.json", CardError)


@pytest.mark.parametrize(
    ("kind", "value"), [(str, "a"), (int, 3), (float, 0.5), (float, 3), (bool, False), (list, [1]), (dict, {"a": 1})]
)
def test_a_field_of_its_type_is_taken(kind: type[Any], value: Any) -> None:
    assert fields(x=value).take("x", kind) == value


@pytest.mark.parametrize("kind", [str, int, float, bool, list, dict])
def test_a_missing_field_is_refused_by_name(kind: type[Any]) -> None:
    with pytest.raises(CardError, match=rf"x\.json: no field 'x'; expected 'x' as {kind.__name__}"):
        fields().take("x", kind)


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        (str, 1),
        (str, None),
        (int, "1"),
        (int, 1.0),
        (int, True),
        (float, "1"),
        (float, True),
        (bool, 1),
        (bool, 0),
        (list, {}),
        (list, "abc"),
        (dict, []),
    ],
)
def test_a_field_of_another_type_is_refused_by_type(kind: type[Any], value: Any) -> None:
    with pytest.raises(CardError, match=f"'x' is {type(value).__name__}; expected 'x' as {kind.__name__}"):
        fields(x=value).take("x", kind)


def test_an_optional_field_may_be_missing_or_null() -> None:
    assert fields().optional("x", str) is None
    assert fields(x=None).optional("x", str) is None
    assert fields(x="a").optional("x", str) == "a"


def test_an_optional_field_of_another_type_is_refused() -> None:
    with pytest.raises(CardError, match="'x' is int"):
        fields(x=1).optional("x", str)


@pytest.mark.parametrize("count", [0, 1, 2**31 - 1])
def test_a_count_is_taken(count: int) -> None:
    assert fields(x=count).size("x") == count


@pytest.mark.parametrize("count", [-1, 2**31, 10**4000])
def test_a_count_out_of_bounds_is_refused(count: int) -> None:
    with pytest.raises(CardError, match="expected a count from 0 to 2147483647"):
        fields(x=count).size("x")


def test_items_are_fields_by_their_places() -> None:
    items = fields(x=["b", 3]).items("x")
    assert items.value == {"x[0]": "b", "x[1]": 3}
    with pytest.raises(CardError, match=r"x\.json: 'x\[1\]' is int; expected 'x\[1\]' as str"):
        items.take("x[1]", str)


def test_a_sha256_is_taken() -> None:
    assert fields(x="0a" * 32).sha256("x") == "0a" * 32


@pytest.mark.parametrize("value", ["", "0a", "0A" * 32, "0g" * 32, "0a" * 32 + "\n", " " + "0a" * 32])
def test_what_is_no_sha256_is_refused(value: str) -> None:
    with pytest.raises(CardError, match="expected a SHA-256 in 64 lower-case hexadecimal digits"):
        fields(x=value).sha256("x")


def test_errors_name_the_path_of_an_inner_object() -> None:
    with pytest.raises(ManifestError, match=r"x\.json: inner: no field 'y'"):
        Fields({"inner": {}}, "x.json", ManifestError).inside("inner").take("y", str)


def test_known_format_versions_are_accepted() -> None:
    for version in (1, 2):
        fields(format_version=version).require_version(2)  # raises nothing


@pytest.mark.parametrize("version", [0, -1, 3, 10**4000])
def test_an_unknown_format_version_is_refused(version: int) -> None:
    with pytest.raises(CardError, match=r"format version .*; expected 1 to 2. Install a newer edge-prompt"):
        fields(format_version=version).require_version(2)


@pytest.mark.parametrize("version", [True, "1", 1.0, None])
def test_a_format_version_of_another_type_is_refused(version: Any) -> None:
    with pytest.raises(CardError, match="'format_version' is"):
        fields(format_version=version).require_version(2)


def test_an_integer_beyond_all_floats_is_no_float() -> None:
    fields = Fields({"x": 10**400}, "x.json", CardError)
    with pytest.raises(CardError, match="'x' is an integer of 401 digits; expected 'x' as float"):
        fields.take("x", float)
    assert fields.take("x", int) == 10**400
