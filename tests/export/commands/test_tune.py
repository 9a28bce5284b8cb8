from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_prompt.cli import main
from edge_prompt.formats.prompt import read_prompt


@pytest.fixture
def train_file(tmp_path: Path) -> Path:
    path = tmp_path / "train.jsonl"
    rows = [{"text": f"w{number}", "label": "low" if number < 30 else "high"} for number in range(60)]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_prompt_is_tuned(
    tiny_backbone: Path, train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "size.npy"
    options = [
        "--kind",
        "soft",
        "--virtual-tokens",
        "3",
        "--epochs",
        "1",
        "--dtype",
        "float16",
        "--template",
        "w9 {text}",
    ]
    with pytest.raises(SystemExit) as ended:
        main(["tune", str(tiny_backbone), str(train_file), "--output", str(output), *options])
    assert ended.value.code == 0
    card = read_prompt(output).card
    assert card is not None
    assert (card.kind, card.shape, card.template) == ("soft", (3, 32), "w9 {text}")
    assert f"{output.stat().st_size:,} bytes" in capsys.readouterr().out


def test_a_prompt_of_a_language_model_is_tuned(
    tiny_language: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    train_file, output = tmp_path / "pairs.jsonl", tmp_path / "say.npy"
    train_file.write_text('{"prompt": "Say it.", "completion": "oil"}\n' * 4, encoding="utf-8")
    options = ["--kind=prefix", "--virtual-tokens=3", "--epochs=1", "--chat", "--system=Be kind."]
    with pytest.raises(SystemExit) as ended:
        main(
            ["tune", str(tiny_language), str(train_file), "-o", str(output), "--validation", str(train_file), *options]
        )
    assert ended.value.code == 0
    card = read_prompt(output).card
    assert card is not None
    assert card.shape == (2, 2, 2, 3, 16)
    assert card.template.startswith("<|system|>Be kind.")
    said = capsys.readouterr()
    assert "bytes, validation exact match 0.0%, loss " in said.out
    assert "epoch 1: validation exact match 0.0%, loss " in said.err


def test_bad_data_is_one_line_and_leaves_nothing(
    tiny_backbone: Path, train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with train_file.open("a", encoding="utf-8") as stream:
        stream.write('\n{"text": "w1"}\n')
    with pytest.raises(SystemExit) as ended:
        main(["tune", str(tiny_backbone), str(train_file), "--output", str(tmp_path / "size.npy")])
    assert ended.value.code == 1
    assert "line 61" in capsys.readouterr().err
    assert not list(tmp_path.glob("size*"))


@pytest.mark.parametrize(
    "option", ["--kind=lora", "--virtual-tokens=0", "--epochs=0", "--learning-rate=0", "--head=none"]
)
def test_an_impossible_option_is_a_usage_error(
    option: str, tiny_backbone: Path, train_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune", str(tiny_backbone), str(train_file), "--output", str(tmp_path / "size.npy"), option])
    assert ended.value.code == 2
    assert option.split("=", maxsplit=1)[0] in capsys.readouterr().err
