from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_prompt import read_bundle
from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt.formats.manifest import EncoderManifest, write_manifest
from edge_prompt.formats.preprocessing import ArrayInput, ArrayPreprocessing, EncoderPreprocessing, ImagePreprocessing

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


def test_a_bundle_is_described(command: Command, tiny_bundle: Path) -> None:
    code, out, _ = command("inspect", tiny_bundle)
    assert code == 0
    for wanted in (
        "BertModel",
        "feature-extraction",
        "soft [num_virtual_tokens, 32]",
        "prefix [2, 2, 4,",
        "from torch",
        "up to 48 tokens, 64 positions including the prompt",
        "size 32, pooling mean",
    ):
        assert wanted in out


def test_an_image_bundle_is_described(command: Command, tiny_image_bundle: Path, tiny_detector_bundle: Path) -> None:
    code, out, _ = command("inspect", tiny_image_bundle)
    assert code == 0
    for wanted in (
        "ViTForImageClassification",
        "image-classification",
        "red, green, blue",
        "deep [2, num_virtual_tokens, 32]",
        "pixel [3, 32, 32]",
        "3 channels, 32 x 32 pixels",
        "resize exact 32 32, times 0.00392157, mean 0.5 0.5 0.5, standard deviation 0.5 0.5 0.5",
        "size 32, pooling cls",
        "onnxruntime fold graph",
    ):
        assert wanted in out
    _, out, _ = command("inspect", tiny_detector_bundle)
    for wanted in ("refuses pixel", "3 channels, any size", "resize two_edges_of_16 32 96", "pad batch"):
        assert wanted in out


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        (None, "by the caller"),
        (
            ImageSettings("shortest_edge", (9,), 1, 2, (8, 8), 1, (0, 0, 0), (1, 1, 1), "exact", (12, 12)),
            "resize shortest_edge 9, crop 8 8, times 1, mean 0 0 0, standard deviation 1 1 1, pad exact 12 12",
        ),
        (ImageSettings("none", (), 1, 2, (), 1, (0, 0, 0), (1, 1, 1), "none", ()), "times 1, mean 0 0 0"),
    ],
)
def test_image_preprocessing_is_described(
    command: Command, bundle_copy: Path, settings: ImageSettings | None, wanted: str
) -> None:
    height, width = (None, None) if settings is None else settings.fixed_size or (None, None)
    image = ImagePreprocessing(3, height, width, settings, "mean", normalize=False)
    with_preprocessing(bundle_copy, image, "pixel_values")
    code, out, _ = command("inspect", bundle_copy)
    assert code == 0
    assert wanted in out


def test_a_bundle_of_arrays_is_described(command: Command, bundle_copy: Path) -> None:
    inputs = {"signal": ArrayInput("float32", (None, 2, None)), "step": ArrayInput("int64", (None,))}
    with_preprocessing(bundle_copy, ArrayPreprocessing(inputs), *inputs)
    code, out, _ = command("inspect", bundle_copy)
    assert code == 0
    for wanted in ("array signal", "float32 [batch, 2, free]", "array step", "int64 [batch]", "size 32"):
        assert wanted in out


def with_preprocessing(folder: Path, preprocessing: EncoderPreprocessing, *inputs: str) -> None:
    """Say in the manifest that requests are something else; the graphs are not looked at."""
    manifest = read_bundle(folder).manifest
    assert isinstance(manifest, EncoderManifest)
    graphs = {
        name: replace(graph, inputs=(*inputs, "soft_prompt", "prefix")) for name, graph in manifest.graphs.items()
    }
    write_manifest(folder, replace(manifest, preprocessing=preprocessing, graphs=graphs))


def test_a_prompt_with_a_card_is_described(command: Command, make_prompt: Callable[..., Path]) -> None:
    prompt = make_prompt(
        "spam", "prefix", length=7, classes=2, template="[b] {text}", provenance={"by": {"hand": True}}
    )
    code, out, _ = command("inspect", prompt)
    assert code == 0
    for wanted in ("[2, 2, 4, 7, 8] float32", "prefix", "spam_0, spam_1", "[b] {text}", "by.hand", "[2, 32]"):
        assert wanted in out


def test_a_bare_prompt_is_described(command: Command, tmp_path: Path) -> None:
    np.save(tmp_path / "bare.npy", np.ones((3, 4, 5), np.float16))
    code, out, _ = command("inspect", tmp_path / "bare.npy")
    assert code == 0
    assert "deep or pixel" in out


def test_a_missing_path_is_reported(command: Command, tmp_path: Path) -> None:
    for name in ("missing", "missing.npy"):
        code, out, err = command("inspect", tmp_path / name)
        assert (code, out, err.count("\n")) == (1, "", 1)
