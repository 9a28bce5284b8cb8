from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks.all import HERE, ORDER, REPORT, main
from benchmarks.lib.processes import run_script


@pytest.fixture
def script(tmp_path: Path) -> Path:
    return tmp_path / "some.py"


def test_the_output_of_a_script_is_kept(script: Path, tmp_path: Path) -> None:
    script.write_text("import sys; print(sys.argv[1:])")
    run = run_script("some", script, ["--quick"], tmp_path / "logs", 60, quick=True)
    assert (run.name, run.failed, run.quick) == ("some", "", True)
    assert (tmp_path / "logs" / "some.log").read_text() == "['--quick']\n"


def test_a_failure_is_reported_with_the_last_line_of_its_log(script: Path, tmp_path: Path) -> None:
    script.write_text("import sys; print('no room\\n└──┘', flush=True); sys.exit(1)")
    run = run_script("peers/some", script, [], tmp_path, 60, quick=False)
    assert run.failed == "it ended with 1: no room"
    assert (tmp_path / "peers-some.log").exists()


def test_a_script_beyond_its_time_is_stopped(script: Path, tmp_path: Path) -> None:
    script.write_text("import time; print('begun', flush=True); time.sleep(600)")
    run = run_script("some", script, [], tmp_path, 3, quick=False)
    assert run.failed == "it was stopped after 0.05 minutes: begun"


def test_the_report_shows_existing_results(tmp_path: Path) -> None:
    ended = CliRunner().invoke(main, ["--report-only", "--output", str(tmp_path)])
    assert ended.exit_code == 0, ended.output
    assert "not measured" in (tmp_path / REPORT).read_text(encoding="utf-8")


def test_a_missing_script_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "scripts"
    (empty / "peers").mkdir(parents=True)
    (empty / "peers" / "prepare.py").write_text("")
    monkeypatch.setattr("benchmarks.all.HERE", empty)
    ended = CliRunner().invoke(main, ["--quick", "--only", "swap", "--output", str(tmp_path)])
    assert ended.exit_code == 1
    runs = json.loads((tmp_path / "logs" / "runs.json").read_text())
    assert [(run["name"], bool(run["failed"])) for run in runs] == [("peers/prepare", False), ("swap", True)]
    assert "swap failed: it ended with 2" in (tmp_path / REPORT).read_text(encoding="utf-8")


def test_every_script_that_publishes_is_in_the_table() -> None:
    scripts = {
        path.stem
        for path in (HERE / "questions").glob("*.py")
        if "publish(__file__" in "".join(path.read_text().split())
    }
    assert scripts == set(ORDER)
