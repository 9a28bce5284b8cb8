from __future__ import annotations

import re
from pathlib import Path

from benchmarks.report.folder import Folder
from benchmarks.report.markdown import markdown, plain, write_docs


def test_the_same_results_give_the_same_files(found: Folder, tmp_path: Path) -> None:
    first = {path.name: path.read_bytes() for path in write_docs(tmp_path / "one", found)}
    second = {path.name: path.read_bytes() for path in write_docs(tmp_path / "two", found)}
    assert first == second
    assert sorted(first) == ["hostile-1.svg", "many_tasks-1.svg", "many_tasks-2.svg", "results.md", "swap-1.svg"]


def test_charts_of_no_result_go(found: Folder, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "old-1.svg").write_text("<svg/>")
    write_docs(tmp_path, found)
    assert not (tmp_path / "results" / "old-1.svg").exists()


def test_tables_hold_whatever_names_there_are(found: Folder) -> None:
    written = markdown(found)
    rows = [line for line in written.splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} <= {6, 7, 8}
    assert "| A warm swap beside PEFT | PEFT over onnxruntime: warm swap | 26.7 |" in written
    assert "not measured" in written
    assert re.findall(r"(?<!\\)<(\w+)", written) == ["details", "summary"] * 3


def test_only_code_is_markup() -> None:
    assert plain("a_b *c* `d|e` <f>\ng") == "a\\_b \\*c\\* `d\\|e` \\<f\\> g"
