from __future__ import annotations

import copy
import pickle

import pytest

from edge_prompt.base import errors
from edge_prompt.base.errors import EdgePromptError

SUBCLASSES = EdgePromptError.__subclasses__()

BUILTINS = {
    "MissingFileError": FileNotFoundError,
    "ReadError": OSError,
    "WriteError": OSError,
    "UnknownTaskError": KeyError,
    "MissingExtraError": ImportError,
    "ParityError": ArithmeticError,
    "QueueFullError": RuntimeError,
    "RequestTimeoutError": TimeoutError,
    "ClosedError": RuntimeError,
    "LogitsError": ArithmeticError,
}


def test_every_error_of_the_module_descends_from_the_root() -> None:
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes == {EdgePromptError, *SUBCLASSES}


@pytest.mark.parametrize("error", SUBCLASSES)
def test_every_error_also_has_its_builtin_class(error: type[EdgePromptError]) -> None:
    assert issubclass(error, BUILTINS.get(error.__name__, ValueError))


@pytest.mark.parametrize("error", SUBCLASSES)
def test_the_message_is_one_sentence_of_found_wanted_and_remedy(error: type[EdgePromptError]) -> None:
    raised = error(found="x is 'blue'", wanted="red", remedy="paint it")
    assert str(raised) == "x is 'blue'; expected red. Paint it"
    assert (raised.found, raised.wanted, raised.remedy) == ("x is 'blue'", "red", "paint it")


@pytest.mark.parametrize("error", SUBCLASSES)
@pytest.mark.parametrize("copied", [lambda e: pickle.loads(pickle.dumps(e)), copy.copy, copy.deepcopy])  # noqa: S301
def test_errors_can_be_pickled(error: type[EdgePromptError], copied: object) -> None:
    assert callable(copied)
    found = copied(error(found="a", wanted="b", remedy="c"))
    assert type(found) is error
    assert str(found) == "a; expected b. C"
    assert (found.found, found.wanted, found.remedy) == ("a", "b", "c")
