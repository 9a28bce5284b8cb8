from __future__ import annotations

import tomllib
from importlib.util import find_spec

import pytest

from edge_prompt.base import extras
from edge_prompt.base.errors import MissingExtraError
from edge_prompt.base.extras import EXTRA_PACKAGES, require_extra
from tests.places import ROOT


@pytest.mark.parametrize("extra", EXTRA_PACKAGES)
def test_an_installed_extra_is_accepted(extra: str) -> None:
    require_extra(extra, "a test")  # raises nothing


@pytest.mark.parametrize(("extra", "package"), [(e, p) for e, packages in EXTRA_PACKAGES.items() for p in packages])
def test_a_missing_package_is_named_with_the_pip_line(
    monkeypatch: pytest.MonkeyPatch, extra: str, package: str
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == package else find_spec(name))
    with pytest.raises(MissingExtraError) as caught:
        require_extra(extra, "the command")
    assert caught.value.found == f"the command needs {package}, which is not installed"
    assert str(caught.value).endswith(f"Run: pip install 'edge-prompt[{extra}]'")
    assert isinstance(caught.value, ImportError)


def test_each_extra_is_one_that_the_distribution_has() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert EXTRA_PACKAGES.keys() <= project["project"]["optional-dependencies"].keys()
