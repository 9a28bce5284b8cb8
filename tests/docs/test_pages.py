"""Generated pages and pictures are up to date, and the README keeps its size."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]


def script(path: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(Path(path).stem, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pictures_are_up_to_date() -> None:
    for path, text in script("docs/pictures/draw.py").drawn().items():
        assert path.read_text(encoding="utf-8") == text, f"run docs/pictures/draw.py: {path.name} differs"


def test_the_notebook_is_up_to_date() -> None:
    made = script("docs/tutorials/make_notebook.py")
    assert made.NOTEBOOK.read_text(encoding="utf-8") == made.notebook_of(made.PAGE.read_text(encoding="utf-8"))


def test_the_readme_is_at_most_120_lines() -> None:
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120
