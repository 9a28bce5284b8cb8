from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from transformers.utils.deprecation import deprecate_kwarg

from tests.deprecations import DeprecatedCallError, our_deprecations_are_errors

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
VERSION = "999.0.0"


def foreign(source: str, file: str) -> dict[str, Any]:
    """Return the namespace of a file of another library."""
    names: dict[str, Any] = {"warnings": warnings}
    exec(compile(source, file, "exec"), names)  # noqa: S102 - our own code, compiled under another file name
    return names


def test_our_call_of_what_is_deprecated_is_an_error() -> None:
    library = foreign("def old():\n    warnings.warn('gone', DeprecationWarning, stacklevel=2)", "/site/library.py")
    with pytest.raises(DeprecatedCallError, match=r"test_deprecations\.py: gone"):
        library["old"]()


def test_a_call_inside_another_library_is_not_ours() -> None:
    inner = foreign("def old():\n    warnings.warn('gone', DeprecationWarning, stacklevel=2)", "/site/inner.py")
    outer = foreign("def new(old):\n    old()", "/site/outer.py")
    outer["new"](inner["old"])  # raises nothing


class Network(torch.nn.Module):
    @deprecate_kwarg("old_name", VERSION, new_name="name")  # type: ignore[untyped-decorator]
    def forward(self, name: int = 0) -> int:
        return name


def test_an_argument_is_ours_through_decorators_and_modules() -> None:
    assert Network()(name=3) == 3
    with pytest.raises(DeprecatedCallError, match="old_name"):
        Network()(old_name=3)


def test_it_ends_with_the_tests() -> None:
    before = warnings.warn
    with our_deprecations_are_errors():
        assert warnings.warn is not before
    assert warnings.warn is before
