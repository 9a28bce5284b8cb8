from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_prompt import read_bundle
from edge_prompt_runtime import Runtime

Command = Callable[..., tuple[int, str, str]]


def test_a_good_bundle_and_its_prompts_pass(
    command: Command, tiny_bundle: Path, make_prompt: Callable[..., Path]
) -> None:
    prompts = [make_prompt("spam", classes=2), make_prompt("tone", "prefix")]
    code, out, _ = command("verify", tiny_bundle, *(word for prompt in prompts for word in ("--prompt", prompt)))
    assert code == 0
    for wanted in (
        "all files match their digests",
        "onnxruntime",
        "openvino",
        "2 labels",
        "prefix, 5 virtual tokens",
    ):
        assert wanted in out


def test_a_good_bundle_of_images_and_its_prompts_pass(
    command: Command, tiny_image_bundle: Path, make_prompt: Callable[..., Path]
) -> None:
    kinds = ("deep", "pixel", "soft")
    prompts = [make_prompt(kind, kind, bundle=tiny_image_bundle) for kind in kinds]
    arguments = [word for prompt in prompts for word in ("--prompt", prompt)]
    code, out, _ = command("verify", tiny_image_bundle, *arguments)
    assert code == 0
    for wanted in ("base ", "deep, 5 virtual tokens, 3 labels", "pixel, 3 labels", "soft, 5 virtual tokens"):
        assert wanted in out


def test_an_altered_graph_that_folds_is_found(command: Command, tiny_image_bundle: Path, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_image_bundle, tmp_path / "bundle")
    fold_graphs = read_bundle(bundle).manifest.fold_graphs
    assert fold_graphs.keys() == {"onnxruntime", "openvino"}
    for graph in fold_graphs.values():
        content = (bundle / graph.file).read_bytes()
        (bundle / graph.file).write_bytes(content + b" ")
        code, _, err = command("verify", bundle)
        assert code == 1
        assert f"{graph.file} is altered" in err
        (bundle / graph.file).write_bytes(content)


@pytest.mark.parametrize("name", ["model.onnx", "openvino_model.bin", "tokenizer.json", "reference.npz"])
def test_an_altered_file_is_found(command: Command, tiny_bundle: Path, tmp_path: Path, name: str) -> None:
    bundle = shutil.copytree(tiny_bundle, tmp_path / "bundle")
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    code, _, err = command("verify", bundle)
    assert code == 1
    assert f"{name} is altered" in err


def test_a_prompt_of_another_backbone_is_refused(
    command: Command, tiny_bundle: Path, tiny_classifier_bundle: Path, make_prompt: Callable[..., Path]
) -> None:
    code, _, err = command("verify", tiny_bundle, "--prompt", make_prompt("spam", bundle=tiny_classifier_bundle))
    assert code == 1
    assert "fingerprint" in err


def labelled_file(folder: Path, labels: list[str]) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": f"oil {n}", "label": label}) + "\n" for n, label in enumerate(labels)))
    return path


def test_labelled_rows_are_answered_on_each_engine(
    command: Command, tiny_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    prompt = make_prompt("spam", classes=2)
    runtime = Runtime(tiny_bundle)
    runtime.load("spam", prompt)
    texts = [f"oil {number}" for number in range(20)]
    answers = [answer.label for answer in runtime.classify(texts, "spam")]
    first, second = runtime.task("spam").labels
    other = {first: second, second: first}
    rows = labelled_file(tmp_path, [*answers[:15], *(other[answer] for answer in answers[15:])])
    code, out, _ = command("verify", tiny_bundle, "--prompt", prompt, "--data", rows)
    assert code == 0
    for engine in ("onnxruntime", "openvino"):
        assert f"{engine}: 15 of 20 rows of {rows} correct, 75.0 %" in out


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no rows"),
        ('{"text": "oil", "label": "unheard of"}', "line 1: the label 'unheard of'"),
        ('{"text": "oil"}', "line 1: not a JSON object with a field 'label'"),
        ('{"label": "L"}', "line 1: "),
    ],
)
def test_bad_labelled_rows_are_one_line(
    content: str, said: str, command: Command, tiny_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "rows.jsonl").write_text(content)
    arguments = ("--prompt", make_prompt("spam", classes=2), "--data", tmp_path / "rows.jsonl")
    code, _, err = command("verify", tiny_bundle, *arguments)
    assert code == 1
    assert said in err


def test_data_belongs_to_one_prompt_with_labels(
    command: Command, tiny_bundle: Path, make_prompt: Callable[..., Path], tmp_path: Path
) -> None:
    rows = labelled_file(tmp_path, ["spam"])
    assert command("verify", tiny_bundle, "--data", rows)[0] == 2
    code, _, err = command("verify", tiny_bundle, "--prompt", make_prompt("bare", "prefix"), "--data", rows)
    assert code == 1
    assert "a prompt with labels" in err
