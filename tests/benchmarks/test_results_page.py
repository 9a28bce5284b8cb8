"""Checks of docs/results.md, which is edited by hand."""

from __future__ import annotations

import re

from benchmarks.all import ORDER
from examples.real_data import ROOT

PAGE = ROOT / "docs" / "results.md"
CHARTS = PAGE.parent / "results"


def test_the_page_is_short() -> None:
    assert len(PAGE.read_text(encoding="utf-8").splitlines()) <= 200


def test_its_six_charts_are_the_committed_ones() -> None:
    shown = re.findall(r"^!\[.+\]\(results/(.+\.svg)\)$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    assert len(shown) == 6
    assert sorted(shown) == sorted(path.name for path in CHARTS.iterdir())


def test_each_chart_belongs_to_a_benchmark() -> None:
    assert {path.stem.rpartition("-")[0] for path in CHARTS.iterdir()} <= set(ORDER)


def test_every_benchmark_of_the_report_is_named_with_its_script() -> None:
    named = re.findall(r"`(?:python benchmarks/questions/)?(\w+)\.py`", PAGE.read_text(encoding="utf-8"))
    assert set(named) == set(ORDER)


def test_the_rows_of_a_table_have_as_many_cells_as_its_head() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        assert len({row.count("|") for row in table.splitlines()}) == 1, table
