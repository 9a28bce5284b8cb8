from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from importlib.util import find_spec

import click
import pytest

from edge_prompt import __version__
from edge_prompt.base import extras
from edge_prompt.cli import COMMANDS, main

HEAVY = ("torch", "transformers", "onnx", "onnxruntime", "openvino", "tokenizers", "edge_prompt_export")


@pytest.fixture(autouse=True)
def _warnings_are_shown_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)


def loaded_by(*arguments: str) -> tuple[str, set[str]]:
    """Return the output of a fresh `edge-prompt`, and the packages that it loads."""
    code = (
        "import sys\n"
        "from edge_prompt.cli import main\n"
        "try:\n"
        f"    main({list(arguments)})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print('\\n' + ' '.join(sys.modules))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    shown, _, modules = result.stdout.strip().rpartition("\n")
    return shown, {name.partition(".")[0] for name in modules.split()}


@pytest.mark.parametrize("arguments", [("--help",), ("-h",), ("--version",)])
def test_help_and_version_load_no_engine(arguments: tuple[str, ...]) -> None:
    _, modules = loaded_by(*arguments)
    assert "edge_prompt" in modules
    assert not modules & {*HEAVY, "edge_prompt_runtime"}


def test_help_lists_every_command_with_its_summary() -> None:
    shown, _ = loaded_by("--help")
    for name, lazy in COMMANDS.items():
        assert name in shown
        assert lazy.summary.partition(":")[0].split()[0] in shown


def test_version_is_that_of_the_distribution(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["--version"])
    assert end.value.code == 0
    assert capsys.readouterr().out == f"edge-prompt, version {__version__}\n"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_listed_command_exists(name: str) -> None:
    assert isinstance(importlib.import_module(COMMANDS[name].module).command, click.Command)


def test_an_unknown_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["nonsense"])
    assert end.value.code == 2
    assert "No such command 'nonsense'" in capsys.readouterr().err


@pytest.mark.parametrize("name", [name for name, lazy in COMMANDS.items() if lazy.extra])
def test_a_missing_extra_is_reported_with_the_pip_command(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    missing = extras.EXTRA_PACKAGES[COMMANDS[name].extra][0]
    monkeypatch.setattr(extras, "find_spec", lambda package: None if package == missing else find_spec(package))
    with pytest.raises(SystemExit) as end:
        main([name, "--help"])
    assert end.value.code == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith(f"Error: edge-prompt {name} needs {missing}")
    assert shown.err.endswith(f"pip install 'edge-prompt[{COMMANDS[name].extra}]'\n")


def test_our_errors_become_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(["inspect", "no-such-bundle"])
    assert end.value.code not in {0, None}
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "Traceback" not in shown.err
    assert "no-such-bundle" in shown.err


def test_warnings_become_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--version"])
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = sys.modules["edge_prompt.cli"]._show_warning
        warnings.warn("careful", UserWarning, stacklevel=1)
    assert capsys.readouterr().err == "Warning: careful\n"
