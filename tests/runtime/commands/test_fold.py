from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt import Head, read_bundle, read_prompt, write_prompt
from edge_prompt.untrusted.npy import write_npy
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
from tests.conftest import MakePrompt

Command = Callable[..., tuple[int, str, str]]

IMAGES = np.random.default_rng(0).standard_normal((2, 3, 32, 32), dtype=np.float32)


@pytest.fixture
def deep(make_prompt: MakePrompt, tiny_image_bundle: Path) -> Path:
    return make_prompt("deep", "deep", length=4, classes=3, bundle=tiny_image_bundle, provenance={"by": "hand"})


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A deep prompt without a card."""
    path = tmp_path / "bare.npy"
    write_npy(path, np.random.default_rng(0).standard_normal((2, 4, 32), dtype=np.float32))
    return path


def test_a_folded_prompt_answers_as_the_deep_one(
    command: Command, tiny_image_bundle: Path, deep: Path, tmp_path: Path, engine: str
) -> None:
    output = tmp_path / "folded.npy"
    code, out, err = command("fold", tiny_image_bundle, deep, "--output", output, "--engine", engine)
    assert (code, err) == (0, "")
    assert out == f"wrote {output}: a prefix of 4 virtual tokens, {output.stat().st_size:,} bytes\n"
    runtime = Runtime(tiny_image_bundle, engine)
    runtime.load("deep", deep)
    runtime.load("folded", output)
    assert [runtime.task(name).kind for name in ("deep", "folded")] == ["deep", "prefix"]
    found, reference = (runtime.infer({"pixel_values": IMAGES}, task) for task in ("folded", "deep"))
    for name, array in found.items():
        np.testing.assert_allclose(array, reference[name], atol=1e-6)
    for one, other in zip(*(runtime.classify({"pixel_values": IMAGES}, t) for t in ("folded", "deep")), strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-6)


def test_card_and_head_come_along(command: Command, tiny_image_bundle: Path, deep: Path, tmp_path: Path) -> None:
    assert command("fold", tiny_image_bundle, deep, "-o", tmp_path / "folded.npy")[0] == 0
    before, after = read_prompt(deep), read_prompt(tmp_path / "folded.npy")
    assert before.card is not None
    assert after.card is not None
    assert before.head is not None
    assert after.head is not None
    assert after.array.shape == (2, 2, 4, 4, 8)
    assert (after.card.kind, after.card.labels) == ("prefix", before.card.labels)
    assert after.card.fingerprint == before.card.fingerprint
    assert after.card.provenance == {"by": "hand", "folded_from": "deep.npy"}
    np.testing.assert_array_equal(after.head.weight, before.head.weight)
    np.testing.assert_array_equal(after.head.bias, before.head.bias)


def test_labels_without_a_head_come_along(command: Command, tiny_image_bundle: Path, make_prompt: MakePrompt) -> None:
    deep = make_prompt("deep", "deep", bundle=tiny_image_bundle, labels=("x", "y", "z"))
    assert command("fold", tiny_image_bundle, deep, "-o", deep.with_name("folded.npy"))[0] == 0
    card = read_prompt(deep.with_name("folded.npy")).card
    assert card is not None
    assert (card.labels, card.head) == (("x", "y", "z"), None)


def test_a_prompt_without_a_card_is_folded_and_gets_one(
    command: Command, tiny_image_bundle: Path, bare: Path, tmp_path: Path
) -> None:
    assert command("fold", tiny_image_bundle, bare, "-o", tmp_path / "folded.npy")[0] == 0
    folded, bundle = read_prompt(tmp_path / "folded.npy"), read_bundle(tiny_image_bundle)
    assert folded.card is not None
    assert (folded.card.kind, folded.card.fingerprint) == ("prefix", bundle.manifest.backbone.fingerprint)
    np.testing.assert_allclose(folded.array, DeepPromptFolder(bundle, "onnxruntime")(np.load(bare)), atol=1e-6)


def test_a_prompt_of_half_precision_stays_so(
    command: Command, tiny_image_bundle: Path, bare: Path, tmp_path: Path
) -> None:
    half = np.load(bare).astype(np.float16)
    write_npy(tmp_path / "half.npy", half)
    assert command("fold", tiny_image_bundle, tmp_path / "half.npy", "-o", tmp_path / "folded.npy")[0] == 0
    folded = np.load(tmp_path / "folded.npy")
    assert folded.dtype == np.float16
    exact = DeepPromptFolder(read_bundle(tiny_image_bundle), "onnxruntime")(half.astype(np.float32))
    np.testing.assert_allclose(folded.astype(np.float32), exact, atol=5e-3)


def test_a_shape_that_pixels_could_have_is_folded_without_a_question(
    command: Command, tiny_image_bundle: Path, tmp_path: Path
) -> None:
    import shutil
    from dataclasses import replace

    from edge_prompt.formats.manifest import write_manifest

    bundle = shutil.copytree(tiny_image_bundle, tmp_path / "bundle")
    manifest = read_bundle(bundle).manifest
    write_manifest(bundle, replace(manifest, kinds={**manifest.kinds, "pixel": (2, 4, 32)}))
    write_npy(tmp_path / "bare.npy", np.ones((2, 4, 32), np.float32))
    code, _, err = command("fold", bundle, tmp_path / "bare.npy", "-o", tmp_path / "folded.npy")
    assert (code, err) == (0, "")


@pytest.mark.parametrize("kind", ["soft", "prefix", "pixel"])
def test_other_kinds_need_no_folding(
    command: Command, tiny_image_bundle: Path, make_prompt: MakePrompt, kind: str
) -> None:
    path = make_prompt("other", kind, bundle=tiny_image_bundle)
    for prompt in (path, path.with_name("bare.npy")):
        if prompt != path:
            write_npy(prompt, read_prompt(path).array)
        code, out, err = command("fold", tiny_image_bundle, prompt, "-o", path.with_name("folded.npy"))
        assert (code, out) == (1, "")
        assert (
            f"{prompt} is a {kind} prompt; expected a deep prompt. Use it as it is: only deep prompts are folded" in err
        )
    assert not path.with_name("folded.npy").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"output": "folded.bin"}, "expected a name that ends in .npy"),
        ({"output": "bare.npy"}, "bare.npy is the deep prompt itself; expected another file"),
        ({"prompt": "missing.npy"}, "missing.npy"),
        ({"bundle": "missing"}, "missing"),
        ({"shape": (3, 4, 32)}, "expected soft [num_virtual_tokens, 32] or deep [2, num_virtual_tokens, 32]"),
        ({"shape": (2, 4, 31)}, "expected soft [num_virtual_tokens, 32] or deep [2, num_virtual_tokens, 32]"),
    ],
)
def test_errors_are_one_line_and_nothing_is_written(
    command: Command, tiny_image_bundle: Path, bare: Path, tmp_path: Path, arguments: dict[str, Any], message: str
) -> None:
    if "shape" in arguments:
        write_npy(bare, np.ones(arguments["shape"], np.float32))
    given: dict[str, Any] = {"bundle": tiny_image_bundle, "prompt": bare, "output": "folded.npy"} | arguments
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    code, out, err = command("fold", given["bundle"], tmp_path / given["prompt"], "-o", tmp_path / given["output"])
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert message in err
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_prompt_of_other_weights_is_not_folded(command: Command, tiny_image_bundle: Path, tmp_path: Path) -> None:
    head = Head(np.ones((2, 32), np.float32), np.zeros(2, np.float32))
    write_prompt(tmp_path / "deep.npy", np.ones((2, 4, 32), np.float32), "deep", "0" * 64, head=head)
    code, _, err = command("fold", tiny_image_bundle, tmp_path / "deep.npy", "-o", tmp_path / "folded.npy")
    assert code == 1
    assert "was tuned on a backbone with the fingerprint 000000000000" in err


def test_a_backbone_that_takes_no_deep_prompts_folds_none(
    command: Command, tiny_bundle: Path, bare: Path, tmp_path: Path
) -> None:
    code, _, err = command("fold", tiny_bundle, bare, "-o", tmp_path / "folded.npy")
    assert (code, err.count("\n")) == (1, 1)
    assert "shape [2, 4, 32]; expected soft [num_virtual_tokens, 32] or prefix" in err
