"""The output of the demos: tables that fit 80 columns, one line per step, and no messages of libraries."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from examples import console as console_module
from examples import demo, demo_lm, demo_vision, language_scores
from examples.accuracy import Accuracy
from examples.console import ENGINE_NAMES, announce, step, tracked
from examples.real_data import ROOT, Wheel, folder_of
from examples.real_images import IMAGE_TASKS
from examples.real_language import LANGUAGE_TASKS

PYTHON = sys.executable
WIDTH = 80
ENGINES = tuple(ENGINE_NAMES)
WIDEST = Accuracy(2000, 2000)
LONG_TEXT = "the quick brown fox jumps over the lazy dog and does so again " * 10

TEXT_ACCURACIES = {(task, engine): WIDEST for task in ("reuters", "newsgroups", "tweets") for engine in ENGINES}
IMAGE_ACCURACIES = {(task, engine): WIDEST for task in IMAGE_TASKS for engine in ENGINES}
LANGUAGE_ACCURACIES = {(task, engine): WIDEST for task in LANGUAGE_TASKS for engine in ENGINES}
KINDS = {"digits": "deep", "parity": "soft", "four-or-nine": "pixel"}

TABLES = {
    "text answers": demo.answers_table(
        [
            demo.Answer("newsgroups", LONG_TEXT, "comp.os.ms-windows.misc", "comp.sys.ibm.pc.hardware", 1.0),
            demo.Answer("tweets", "short", "HillaryClinton", "realDonaldTrump", 0.51),
        ]
    ),
    "text accuracy": demo.accuracy_table(TEXT_ACCURACIES, ENGINES, network_bytes=90_300_000),
    "text speed": demo.speed_table([demo.Speed(engine, 12_345.6, 12_345.6) for engine in ENGINES]),
    "image answers": demo_vision.answers_table(
        [demo_vision.Answer("four-or-nine", "pixel", "nine", 1.0), demo_vision.Answer("digits", "deep", "9", 0.5)]
    ),
    "image accuracy": demo_vision.accuracy_table(IMAGE_ACCURACIES, KINDS, ENGINES, network_bytes=88_200_000),
    "language answers": demo_lm.answers_table(
        [demo_lm.Answer(task, demo_lm.QUESTION, LONG_TEXT, '{"name": "Maria Parker"}') for task in LANGUAGE_TASKS]
    ),
    "language accuracy": demo_lm.accuracy_table(LANGUAGE_ACCURACIES, ENGINES),
    "language speed": demo_lm.speed_table([demo_lm.Speed(engine, 1234.5, 12_345.6, 1234.5) for engine in ENGINES]),
}


@pytest.fixture
def _piped(monkeypatch: pytest.MonkeyPatch) -> None:
    """A console whose output is a pipe of 80 columns."""
    monkeypatch.setattr(console_module, "console", Console(width=WIDTH, force_terminal=False))


@pytest.mark.parametrize("name", TABLES)
def test_every_table_fits_80_columns_without_cutting_words(name: str) -> None:
    table = TABLES[name]
    lines = printed(table).splitlines()
    assert max(map(len, lines)) <= WIDTH
    shown = {word for line in lines for word in line.replace("│", " ").replace("┃", " ").split()}
    assert words_of(table) <= shown  # a word that is cut, or broken between two lines, would be missing


@pytest.mark.parametrize("name", ["text accuracy", "image accuracy", "language accuracy"])
def test_an_accuracy_stays_on_one_line(name: str) -> None:
    assert str(WIDEST) in printed(TABLES[name])


def test_brackets_in_texts_are_printed_as_they_are() -> None:
    texts = demo.answers_table([demo.Answer("tweets", "[red]a[/b]", "a", "a", 1.0)])
    generated = demo_lm.answers_table([demo_lm.Answer("topics", "[red]a[/b]", "[1]", "[/]")])
    assert "[red]a[/b]" in printed(texts)
    assert all(text in printed(generated) for text in ("[red]a[/b]", "[1]", "[/]"))


def printed(table: Table) -> str:
    console = Console(width=WIDTH, force_terminal=False)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def words_of(table: Table) -> set[str]:
    cells = [cell for column in table.columns for cell in (column.header, *column.cells)]
    return {word for cell in cells for word in str(cell).split()}


@pytest.mark.usefixtures("_piped")
def test_without_a_terminal_a_step_is_one_line_with_the_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    announce("Getting the network")
    with step("Exporting"):
        pass
    assert list(tracked(range(5), "Classifying")) == [0, 1, 2, 3, 4]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split("  ")[-1] for line in lines] == ["Getting the network", "Exporting", "Classifying"]
    assert all(line.split()[0].isdigit() and line.split()[1] == "s" for line in lines)


def in_another_process(*lines: str) -> list[str]:
    """Return the command that runs these lines of Python with this repository on its path."""
    paths = [str(ROOT / folder) for folder in (".", "export", "runtime")]
    return [sys.executable, "-c", "\n".join([f"import sys; sys.path[:0] = {paths}", *lines])]


def output_of(*lines: str) -> str:
    """Return the output of these lines of Python, including errors."""
    run = subprocess.run(in_another_process(*lines), capture_output=True, text=True, check=True)
    return run.stdout + run.stderr


def test_a_line_is_written_when_its_step_begins() -> None:
    command = in_another_process("from examples.console import step", "with step('Exporting'): input()")
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert b"Exporting" in process.stdout.readline()
        process.communicate(b"\n")
    assert process.returncode == 0


@pytest.mark.parametrize("name", ["demo", "demo_vision", "demo_lm"])
def test_whole_splits_are_an_option(name: str) -> None:
    assert "--full" in output_of("sys.argv = ['demo', '--help']", f"from examples import {name}", f"{name}.main()")


def test_a_demo_starts_without_waiting_for_torch() -> None:
    assert output_of("from examples import demo, demo_lm, demo_vision", "print('torch' in sys.modules)") == "False\n"


@pytest.mark.parametrize(
    ("there", "both_engines", "found", "formats"),
    [
        ((), False, "demo", ["openvino"]),
        ((), True, "both", ["onnx", "openvino"]),
        (("demo",), False, "demo", None),
        (("demo",), True, "both", ["onnx", "openvino"]),
        (("both", "demo"), False, "both", None),
        (("both",), True, "both", None),
    ],
)
def test_the_language_model_is_exported_only_for_the_engines_that_are_missing(
    there: tuple[str, ...],
    both_engines: bool,
    found: str,
    formats: list[str] | None,
    tmp_path: Path,
    tiny_language_bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in there:
        shutil.copytree(tiny_language_bundle, tmp_path / name)
    exported: list[tuple[Path, list[str]]] = []

    def export(_source: Path, folder: Path, formats: Sequence[str]) -> None:
        exported.append((folder, list(formats)))

    monkeypatch.setattr("edge_prompt_export.export_backbone", export, raising=False)
    monkeypatch.setattr(language_scores, "smollm2", Path)
    monkeypatch.setattr(language_scores, "SMOLLM2_BUNDLE", tmp_path / "both")
    monkeypatch.setattr(demo_lm, "SMOLLM2_BUNDLE", tmp_path / "both")
    monkeypatch.setattr(demo_lm, "DEMO_BUNDLE", tmp_path / "demo")
    assert demo_lm.exported_bundle(both_engines=both_engines) == tmp_path / found
    assert exported == ([] if formats is None else [(tmp_path / found, formats)])


def test_libraries_are_quiet() -> None:
    lines = (
        "from examples.console import quiet_libraries",
        "quiet_libraries()",
        "import logging, warnings",
        "from tqdm import tqdm",
        "logging.getLogger('onnx_ir').warning('noise')",
        "warnings.warn('noise')",
        "list(tqdm(range(3)))",
    )
    assert output_of(*lines) == ""


@pytest.fixture
def pip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that runs instead of Python when pip is called; each test writes it."""
    script = tmp_path / "python"
    monkeypatch.setattr("examples.real_data.sys.executable", str(script))
    return script


def write_script(path: Path, body: str) -> None:
    path.write_text(f"#!{PYTHON}\nimport sys, zipfile\nfrom pathlib import Path\n{body}\n", encoding="utf-8")
    path.chmod(0o755)


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a first line")
def test_pips_output_is_hidden(pip: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = "Path(sys.argv[sys.argv.index('--dest') + 1])"
    make = f"with zipfile.ZipFile({folder} / 'a.whl', 'w') as wheel: wheel.writestr('inner/file.txt', 'text')"
    write_script(pip, f"print('noise'); print('WARNING: noise', file=sys.stderr)\n{make}")
    target = folder_of(Wheel("thing==1", "inner/"), tmp_path / "thing")
    assert (target / "file.txt").read_text() == "text"
    captured = capfd.readouterr()
    assert captured.out + captured.err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="the stand-in is a script with a first line")
def test_pips_output_is_shown_if_it_fails(pip: Path, tmp_path: Path) -> None:
    write_script(pip, "print('ERROR: no such thing', file=sys.stderr)\nsys.exit(1)")
    with pytest.raises(SystemExit, match=r"(?s)ERROR: no such thing.*could not download thing==1"):
        folder_of(Wheel("thing==1", "inner/"), tmp_path / "thing")
    assert not (tmp_path / "thing").exists()
