"""Faults of other libraries that tests expect, each with the affected versions.

A test marked with a fault must fail on those versions: once it passes, the run fails, and the mark must be removed.
"""

from __future__ import annotations

import importlib.metadata

import pytest
from packaging.specifiers import SpecifierSet


def known_fault(reason: str, **versions: str) -> pytest.MarkDecorator:
    """Mark tests that fail if every library has one of the given versions: `known_fault("…", peft="<0.22")`."""
    applies = all(
        SpecifierSet(wanted, prereleases=True).contains(importlib.metadata.version(name))
        for name, wanted in versions.items()
    )
    stated = ", ".join(f"{name}{wanted}" for name, wanted in versions.items())
    return pytest.mark.xfail(applies, reason=f"{stated}: {reason}", strict=True)


PEFT_GENERATES_WRONG_TOKENS = known_fault(
    "PEFT looks for the cache under the name that transformers 5.24 gave up, so generating drops the prompt",
    peft="<0.22",
    transformers=">=5.24",
)
PEFT_FINDS_NO_CACHE = known_fault(
    "PEFT looks for past_key_values below a classifier, which transformers 5.24 renamed to cache",
    peft="<0.22",
    transformers=">=5.24",
)
