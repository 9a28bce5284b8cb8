from __future__ import annotations

from io import StringIO

from rich.console import Console

from edge_prompt_runtime.bench.results import Ratio, Series
from edge_prompt_runtime.bench.tables import print_results
from tests.runtime.bench.test_results import results

LONG = "onnxruntime: first token of a request under a task other than that of the one before it"


def lines_of(width: int = 80) -> list[str]:
    samples = tuple(1234.5 + place for place in range(200))
    made = results(
        series=(
            Series("onnxruntime: request, no prompt", "ms", samples, line="onnxruntime"),
            Series("reading", "µs", samples, line="reading"),
            Series(LONG, "tokens/s", samples, line="onnxruntime"),
            Series("[openvino]: request, no prompt", "ms", samples, line="[openvino]"),
        ),
        ratios=(Ratio(f"{LONG}, over no prompt", LONG, "onnxruntime: request, no prompt"),)[:0],
        charts=(),
    )
    stream = StringIO()
    print_results(made, Console(width=width, file=stream))
    return [line.rstrip() for line in stream.getvalue().splitlines()]


def test_rows_stand_below_their_engine_and_do_not_repeat_it() -> None:
    lines = lines_of()
    places = [lines.index(title) for title in ("onnxruntime", "[openvino]")]
    assert places == sorted(places)
    assert lines[places[0] + 1].startswith("  request, no prompt ")
    assert sum("onnxruntime:" in line for line in lines) == 0
    assert any(line.startswith("reading ") for line in lines)


def test_in_80_columns_no_number_is_cut_and_names_keep_their_room() -> None:
    lines = lines_of()
    assert max(map(len, lines)) <= 80
    assert "…" not in "".join(lines)
    of_name = [line for line in lines if line.startswith("  ") and "request, no" not in line]
    assert len(of_name) <= 5
    assert "1,334" in "".join(lines)
