from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from benchmarks.charts.axes import beyond, span_of
from benchmarks.charts.figures import NARROW, WIDE, drawn, write_charts
from benchmarks.charts.samples import MOST_DOTS, dots
from benchmarks.charts.style import COLOURS, log_locator, looks, points, with_unit, wrapped
from edge_prompt_runtime.bench.results import Chart, Results, Series

LONG = "OpenVINO GenAI, paged, with a LoRA of rank 8 on queries, keys, values and outputs, and more that is to be said"


def results(*series: Series, **chart: object) -> Results:
    """One chart of these series."""
    only = Chart("What is seen, in so many words that a telephone has no room for them", tuple(map(_name, series)))
    made = Chart(only.title, only.series, **chart)  # type: ignore[arg-type]
    return Results("some", "What?", "2030-01-01T00:00:00+00:00", 1.0, {}, {}, {}, series, charts=(made,))


def _name(series: Series) -> str:
    return series.name


LINES = tuple(Series(f"{line} {x}", "ms", (x + 1.0, x + 2.0), line, x) for line in ("PEFT", LONG) for x in (0, 1, 200))
BARS = (Series(LONG, "tokens/s", (5.0, 6.0, 90.0)), Series("one $x$ of $y$", "tokens/s", (3.0,)))
SHAPES = {
    "bars": results(*BARS, limits={"limit by memory bandwidth": 7, LONG[:40]: 6.9}),
    "logarithmic bars": results(*BARS, log=True, limits={"limit by memory bandwidth": 700}),
    "a zero on a logarithmic axis": results(Series("none", "bytes", (0.0, 0.0)), log=True),
    "below zero": results(Series("loss", "points", (-3.0, -2.0))),
    "lines": results(*LINES, x="virtual tokens", limits={"goal": 3, "no prompt": 2}),
    "logarithmic lines": results(*LINES, x="tasks", log=True, limits={LONG: 9}),
    "bytes": results(
        *(Series(f"m {x}", "%", (80.0,), "m", x) for x in (3_080, 297_992, 592_904, 90_855_944)), x="bytes"
    ),
    "one point": results(Series("a", "s", (1.0,), "a", 5), x="tasks"),
    "no x": results(Series("a", "s", (1.0,)), x="tasks", log=True),
}


@pytest.mark.parametrize("width", [WIDE, NARROW])
@pytest.mark.parametrize("shape", SHAPES)
def test_all_text_lies_within_the_chart(shape: str, width: float) -> None:
    figure = drawn(SHAPES[shape], SHAPES[shape].charts[0], width)
    canvas = FigureCanvasAgg(figure)
    box = figure.get_tightbbox(canvas.get_renderer())  # type: ignore[no-untyped-call]
    assert figure.get_figwidth() * 72 == pytest.approx(width)
    assert box.x0 * 72 >= -1
    assert box.x1 * 72 <= width + 1
    assert box.y0 * 72 >= -1
    assert box.y1 <= figure.get_figheight() + 0.01


def test_files_are_the_same_every_time(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "two"]
    for folder in folders:
        folder.mkdir()
    one, two = ([path.read_bytes() for path in write_charts(folder, SHAPES["lines"])] for folder in folders)
    assert one == two
    assert len(one) == 2


def test_an_engine_has_the_same_look_in_every_chart() -> None:
    assert looks(["PEFT", "OpenVINO"])["PEFT"] == looks(["ONNX Runtime", "x", "PEFT"])["PEFT"]
    assert looks(["edge-prompt on ONNX Runtime"]) == {
        "edge-prompt on ONNX Runtime": looks(["onnxruntime"])["onnxruntime"]
    }
    many = looks([f"line {number}" for number in range(len(COLOURS))])
    assert len(set(many.values())) == len(COLOURS)


@pytest.mark.parametrize(
    ("value", "unit", "said"),
    [
        (161_000, "µs", "161 ms"),
        (6.42, "µs", "6.42 µs"),
        (0.05, "µs", "50 ns"),
        (999.9, "µs", "1 ms"),
        (0, "ms", "0"),
        (24_576, "bytes", "24.6 kB"),
        (90.3, "MB", "90.3 MB"),
        (5_400, "s", "5,400 s"),
        (52.06, "tokens/s", "52.06"),
        (-2, "ms", "-2 ms"),
    ],
)
def test_values_have_units_of_their_size(value: float, unit: str, said: str) -> None:
    assert with_unit(value, unit) == said


def test_dots_span_the_samples_from_least_to_greatest() -> None:
    assert dots([3.0, 1.0, 2.0]).tolist() == [1, 2, 3]
    many = dots(range(1000))
    assert (len(many), many[0], many[-1]) == (MOST_DOTS, 0, 999)


@pytest.mark.parametrize("factor", [1.1, 1.5, 3, 9, 20, 90, 1e3, 1e9])
@pytest.mark.parametrize("low", [0.07, 1.0, 38.0])
def test_a_logarithmic_axis_has_some_ticks(low: float, factor: float) -> None:
    inside = [tick for tick in log_locator(low, low * factor, 6).tick_values(low, low * factor) if tick >= low]
    assert 2 <= sum(tick <= low * factor for tick in inside) <= 9


def test_samples_beyond_an_axis_are_counted() -> None:
    tail = Series("a", "ms", (*[1.0] * 50, 2_000.0))
    assert beyond(Chart("", ("a",)), [tail]) == "1 of the samples lie beyond the axis, up to 2 s"
    assert beyond(Chart("", ("a",), log=True), [tail]) == ""
    assert span_of(Chart("", ("a",), limits={"x": 5}), [tail]).high > 5


def test_texts_are_wrapped_where_there_is_no_room() -> None:
    lines = wrapped(LONG, 300, 11)
    assert len(lines) > 1
    assert " ".join(lines) == LONG
    assert all(points(line, 11) <= 300 for line in lines)
    assert wrapped("a\x00b", 300, 11) == ["ab"]
