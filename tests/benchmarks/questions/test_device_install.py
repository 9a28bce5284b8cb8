from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from benchmarks.peers.environments import PEERS, RecipeError
from benchmarks.peers.models import RECIPES
from benchmarks.peers.places import ROOT
from benchmarks.peers.workers.first_answer import ANSWERS, IMPORTS
from benchmarks.questions.device_install import (
    ENGINES,
    GOAL,
    LIBRARIES,
    Library,
    ask,
    distributions,
    folder_bytes,
    measured,
    require_same,
    size_bytes,
)
from edge_prompt_runtime.bench.results import Results

CHECKOUT = Path(f"{ROOT}{os.pathsep}{ROOT / 'runtime'}")
"""Stands for the wheel: what `PYTHONPATH` says."""


def test_a_library_is_imported_and_answers_in_a_process_of_its_own(tiny_bundle: Path, engine: str) -> None:
    library = Library(None, f"edge_prompt_{engine}", ours=True)
    said = ask(library, CHECKOUT, 1, tiny_bundle)
    assert len(said["vector"]) == 32
    assert said["peak_bytes"] > 10_000_000
    assert {"answer_ms", "import_ms"} & said.keys() == {"answer_ms"}  # the import is timed in another process
    assert ask(library, CHECKOUT, 1).keys() == {"import_ms", "modules"}


def test_a_failure_is_reported_with_its_reason() -> None:
    with pytest.raises(RecipeError, match="KeyError: 'nothing'"):
        ask(Library(None, "nothing"), CHECKOUT, 1)


def test_sizes_are_those_of_installed_files(tmp_path: Path) -> None:
    sizes = distributions(Path(sys.executable))
    assert size_bytes(Library(None, "", only=("numpy",)), tmp_path) == sizes["numpy"] > 1_000_000
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(bytes(100))
    (tmp_path / "a.py").write_bytes(bytes(10))
    assert folder_bytes(tmp_path) == 10
    assert size_bytes(Library(None, "", only=("numpy",), ours=True), tmp_path) == sizes["numpy"] + 10


def test_vectors_that_differ_are_not_published() -> None:
    assert require_same({"a": [1, 0], "b": [2, 0]}) == 0
    with pytest.raises(SystemExit, match="differ"):
        require_same({"a": [1, 0], "b": [0, 1]})


def test_the_report_includes_the_goal() -> None:
    imports = {name: [{"import_ms": 2.0, "modules": 3}] * 2 for name in LIBRARIES}
    answered = {name: [{"answer_ms": 5.0, "peak_bytes": 7}] for name in LIBRARIES if LIBRARIES[name].folder}
    found = measured(imports, answered, dict.fromkeys(LIBRARIES, 9), {}, 0.0)
    results = Results("device_install", "?", "", 0, {}, {}, {}, **found._asdict())
    goals = [one for one in results.ratios if one.goal == GOAL]
    assert [one.met(results.value(one).value) for one in goals] == [True] * len(ENGINES)
    assert len(results.ratios) == 4 * len(ENGINES)
    assert {name for chart in results.charts for name in chart.series} <= {one.name for one in results.series}


def test_libraries_have_environments_and_workers() -> None:
    assert {library.peer for library in LIBRARIES.values()} <= {None, *PEERS}
    assert {library.worker for library in LIBRARIES.values()} <= IMPORTS.keys()
    assert {library.worker for library in LIBRARIES.values() if library.folder} <= ANSWERS.keys()
    assert {library.folder for library in LIBRARIES.values()} <= {"", "bundle", "network", *RECIPES}
