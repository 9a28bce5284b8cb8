"""Results of every shape that a report must show, including hostile names."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.report.folder import Folder, Run, read_folder, write_runs
from benchmarks.report.page import page
from edge_prompt_runtime.bench.results import Chart, Ratio, Results, Series, write_results

HOSTILE = "</script><script>document.title='pwned'</script> & \"x\" $a$ $b$ | <img src=x>"
LONG = "ours on ONNX Runtime, under a prefix of 100 virtual tokens, with a name that goes on for much more than a line"
FIGURES = ("PEFT over onnxruntime: warm swap", "load another network over onnxruntime: warm swap")


@pytest.fixture(scope="session")
def swap() -> Results:
    """Bars on a logarithmic axis, the first two key figures."""
    return results(
        "swap",
        (
            Series("onnxruntime: warm swap", "µs", (6.0, 7.0, 6.5, 40.0), "onnxruntime"),
            Series("PEFT: set_adapter", "µs", (180.0, 181.0, 179.0, 200.0), "PEFT"),
            Series("onnxruntime: load another network", "µs", (161e3,), "onnxruntime"),
        ),
        ratios=(
            Ratio(FIGURES[0], "PEFT: set_adapter", "onnxruntime: warm swap", goal=20, at_least=True),
            Ratio(
                FIGURES[1],
                "onnxruntime: load another network",
                "onnxruntime: warm swap",
                paired=False,
                goal=30_000,
                at_least=True,
            ),
        ),
        charts=(
            Chart(
                "What a switch takes",
                ("onnxruntime: warm swap", "PEFT: set_adapter", "onnxruntime: load another network"),
                log=True,
                limits={"np.load": 45},
            ),
        ),
        notes=("Of `weights` of its own.",),
    )


@pytest.fixture(scope="session")
def growth() -> Results:
    """Lines over a growing quantity, with limits."""
    series = tuple(
        Series(f"{line}, {count:,} tasks", "µs", (base, base * 1.1, base * 0.9), line, count)
        for line, base in (("onnxruntime", 6.0), ("PEFT", 90.0), (LONG, 400.0))
        for count in (1, 10, 10_000)
    )
    names = tuple(one.name for one in series)
    charts = tuple(
        Chart(f"Drawn {'in powers' if log else 'evenly'}", names, "tasks", log, {"a session": 500, "the goal": 490})
        for log in (True, False)
    )
    return results("many_tasks", series, charts=charts, left_out={"a peer": "pip said no"})


@pytest.fixture(scope="session")
def hostile() -> Results:
    """Names that are markup, formulas, or too long; bars from zero, with limits."""
    named = {HOSTILE: (50.0, 51.0, 49.0), **{f"{LONG}, {place}": (40.0 + place,) for place in range(20)}}
    series = tuple(Series(name, "tokens/s", own, name[:5], higher_is_better=True) for name, own in named.items())
    chart = Chart(HOSTILE, tuple(one.name for one in series), limits={HOSTILE: 52, "of memory": 53, "least": 1})
    return results("hostile", series, charts=(chart,), notes=(HOSTILE,), left_out={HOSTILE: HOSTILE})


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, swap: Results, growth: Results, hostile: Results) -> Path:
    """All of them as files, one of them broken, and records of failed runs."""
    path = tmp_path_factory.mktemp("bench")
    for one in (swap, growth, hostile):
        write_results(path / f"{one.name}.json", one)
    (path / "broken.json").write_text("{")
    runs = (
        Run("swap", "2030-01-01T00:00:00+00:00", 3.0, quick=True),
        Run("hostile", "2030-01-01T00:00:00+00:00", 3.0, failed=HOSTILE),
        Run("footprint", "2030-01-01T00:00:00+00:00", 300.0, failed="it ended with 1: no room"),
    )
    write_runs(path, {run.name: run for run in runs})
    return path


@pytest.fixture(scope="session")
def found(folder: Path) -> Folder:
    """The contents of the folder."""
    return read_folder(folder, ("swap", "many_tasks"))


@pytest.fixture(scope="session")
def text(found: Folder) -> str:
    """The report on it."""
    return page(found)


def results(
    name: str,
    series: tuple[Series, ...],
    ratios: tuple[Ratio, ...] = (),
    charts: tuple[Chart, ...] = (),
    notes: tuple[str, ...] = (),
    left_out: dict[str, str] | None = None,
) -> Results:
    """Results of another machine."""
    return Results(
        name=name,
        question=f"What does {name} show? {HOSTILE if name == 'hostile' else ''}",
        begun="2030-01-01T00:00:00+00:00",
        seconds=83.2,
        machine={"processor": "a processor", "cores": 2, "memory_bytes": 8_000_000_000},
        versions={"python": "3.11.2", "numpy": "2.0"},
        settings={"threads": 2},
        series=series,
        ratios=ratios,
        charts=charts,
        left_out=left_out or {},
        notes=notes,
        commit="0123456789ab+",
    )
