from __future__ import annotations

from pathlib import Path

import pytest

from edge_prompt.cli import main
from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.preprocessing import TextPreprocessing


def test_a_backbone_becomes_a_bundle(tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tiny_backbone), str(tmp_path / "bundle"), "--format", "onnx", "--pooling", "cls"])
    assert ended.value.code == 0
    manifest = read_bundle(tmp_path / "bundle").manifest
    assert list(manifest.graphs) == ["onnxruntime"]
    assert isinstance(manifest.preprocessing, TextPreprocessing)
    assert manifest.preprocessing.pooling == "cls"
    output = capsys.readouterr()
    assert "soft and prefix prompts" in output.out
    assert "comparing onnxruntime with torch" in output.err


def test_a_bad_model_is_one_line_and_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tmp_path / "nothing"), str(tmp_path / "bundle")])
    assert ended.value.code == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("Error: ")]
    assert len(errors) == 1
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_refused(tiny_backbone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").write_text("kept", encoding="utf-8")
    with pytest.raises(SystemExit) as ended:
        main(["export", str(tiny_backbone), str(tmp_path)])
    assert ended.value.code == 1
    assert "already exists" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_language_model_is_exported_by_the_name_of_its_task(
    tiny_language: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(tiny_language), str(tmp_path / "bundle"), "--task", "text-generation"]
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--format", "openvino"])
    assert ended.value.code == 0
    assert "takes soft and prefix prompts" in capsys.readouterr().out
