from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from edge_prompt.base.errors import ResultsError
from edge_prompt_runtime.bench.machine import machine, peak_resident_bytes, resident_bytes, versions
from edge_prompt_runtime.bench.results import Chart, Ratio, Results, Series, as_written, read_results, write_results
from edge_prompt_runtime.bench.tables import tables


def results(**changes: Any) -> Results:
    given = {
        "name": "swap",
        "question": "What does it cost?",
        "begun": "2026-01-01T00:00:00+00:00",
        "seconds": 1.5,
        "machine": machine(),
        "versions": versions(),
        "settings": {"rounds": 3},
        "series": (
            Series("ours", "µs", (1.0, 2.0, 3.0), line="ours", x=1.0),
            Series("theirs", "µs", (20.0, 40.0, 60.123456), line="theirs"),
        ),
        "ratios": (Ratio("theirs over ours", "theirs", "ours", goal=20, at_least=True),),
        "charts": (Chart("all", ("ours", "theirs"), log=True, limits={"goal": 2.0}),),
        "left_out": {"a peer": "cannot be installed"},
        "notes": ("One sentence.",),
    }
    return Results(**{**given, **changes})


def test_written_results_are_read(tmp_path: Path) -> None:
    write_results(tmp_path / "swap.json", results())
    read = read_results(tmp_path / "swap.json")
    assert read.find("theirs").samples == (20.0, 40.0, 60.1235)
    assert read.find("ours") == results().find("ours")
    assert (read.ratios, read.charts, read.left_out, read.notes) == (
        results().ratios,
        results().charts,
        results().left_out,
        results().notes,
    )
    assert read.machine == machine() | {"load_average": read.machine["load_average"]}


def test_what_is_shown_has_the_numbers_of_the_file(tmp_path: Path) -> None:
    measured = results(
        series=(Series("a", "ms", (1 / 3, 2e6 / 7)), Series("b", "ms", (1.0, 2.0))), ratios=(), charts=()
    )
    write_results(tmp_path / "a.json", measured)
    assert read_results(tmp_path / "a.json").series == as_written(measured).series != measured.series


def test_ratios_are_compared_with_their_goals() -> None:
    (ratio,) = results().ratios
    assert results().value(ratio).value == 20
    assert ratio.met(20)
    assert ratio.met(19.9) is False
    assert Ratio("at most", "a", "b", goal=1.05).met(1.04)
    assert Ratio("none", "a", "b").met(3) is None


MALFORMED: dict[str, Callable[[dict[str, Any]], object]] = {
    "another version": lambda value: value.update(format_version=2),
    "no series": lambda value: value.pop("series"),
    "series that are texts": lambda value: value.update(series=["ours"]),
    "no samples": lambda value: value["series"][0].update(samples=[]),
    "a sample that is a text": lambda value: value["series"][0].update(samples=["1"]),
    "a sample that is true": lambda value: value["series"][0].update(samples=[True]),
    "a sample beyond all floats": lambda value: value["series"][0].update(samples=[10**400]),
    "a sample beyond what is measured": lambda value: value["series"][0].update(samples=[1e19]),
    "a sample next to nothing": lambda value: value["series"][0].update(samples=[1e-300]),
    "a ratio over nothing": lambda value: value["series"][0].update(samples=[0, 1, 2]),
    "two of one name": lambda value: value["series"][1].update(name="ours"),
    "a ratio of what is not there": lambda value: value["ratios"][0].update(top="others"),
    "a ratio of two units": lambda value: value["series"][0].update(unit="bytes"),
    "pairs that are none": lambda value: value["series"][0].update(samples=[1.0]),
    "a chart of nothing": lambda value: value["charts"][0].update(series=[]),
    "a version that is a number": lambda value: value.update(versions={"numpy": 2}),
}


@pytest.mark.parametrize("change", MALFORMED.values(), ids=MALFORMED)
def test_what_is_no_file_of_results_is_refused(tmp_path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = tmp_path / "swap.json"
    write_results(path, results())
    value = json.loads(path.read_text(encoding="utf-8"))
    change(value)
    path.write_text(json.dumps(value), encoding="utf-8")
    with pytest.raises(ResultsError, match=r"swap\.json"):
        read_results(path)


def test_the_tables_show_everything() -> None:
    stream = StringIO()
    written = Console(width=200, file=stream)
    for part in tables(results()):
        written.print(part)
    said = stream.getvalue()
    for expected in ("What does it cost?", "ours", "theirs over ours", "at least 20", "met", "a peer", "One sentence."):
        assert expected in said


def test_this_machine_has_cores_and_memory() -> None:
    found = machine()
    assert isinstance(found["cores"], int)
    assert found["cores"] >= 1
    assert versions()["numpy"]
    assert 0 <= resident_bytes() <= peak_resident_bytes()
