"""The results of a benchmark, as a reader of its file gets them."""

from __future__ import annotations

from pathlib import Path

from benchmarks.lib.publish import Measured
from edge_prompt_runtime.bench.results import Results, read_results, write_results


def written(found: Measured, folder: Path) -> Results:
    """Write the results and read them: every ratio and chart must refer to existing series of one unit."""
    write_results(folder / "found.json", Results("tiny", "What?", "now", 1.0, {}, {}, {}, **found._asdict()))
    results = read_results(folder / "found.json")
    assert all(results.value(ratio).value > 0 for ratio in results.ratios)
    return results
