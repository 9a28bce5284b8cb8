from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_prompt import read_bundle

Command = Callable[..., tuple[int, str, str]]


def test_a_good_bundle_and_its_prompts_pass(
    command: Command, tiny_bundle: Path, make_prompt: Callable[..., Path]
) -> None:
    prompts = [make_prompt("spam", classes=2), make_prompt("tone", "prefix")]
    code, out, _ = command("verify", tiny_bundle, *(word for prompt in prompts for word in ("--prompt", prompt)))
    assert code == 0
    for wanted in (
        "every file is as it was exported",
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
