from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_prompt.formats.bundle import read_bundle
from edge_prompt_export import export_backbone
from edge_prompt_export.compression.onnx.gptq import Gptq, round_matrix, second_moments
from edge_prompt_export.compression.onnx.quantizer import quantize_matrix
from edge_prompt_runtime.reference import check_reference

Float32 = NDArray[np.float32]


def values(rows: int, size: int, seed: int = 0) -> Float32:
    """Correlated numbers, like activations between two layers."""
    random = np.random.default_rng(seed)
    mixed = random.standard_normal((rows, size)) @ random.standard_normal((size, size))
    return (mixed + 3 * random.standard_normal((rows, 1))).astype(np.float32)


def of_blocks(numbers: NDArray[np.uint8], scales: Float32, inputs: int) -> Float32:
    """The matrix `[inputs, outputs]` that blocks represent."""
    apart = np.stack([numbers & 15, numbers >> 4], -1).reshape(*numbers.shape[:2], -1).astype(np.float32) - 8
    whole: Float32 = (apart * scales[..., None]).reshape(len(numbers), -1).T[:inputs]
    return whole


@pytest.mark.parametrize(("inputs", "outputs", "block_size"), [(64, 24, 32), (96, 7, 16), (40, 16, 16)])
def test_products_change_less_than_by_rounding_to_the_nearest(inputs: int, outputs: int, block_size: int) -> None:
    rows = values(500, inputs)
    matrix = np.random.default_rng(1).standard_normal((inputs, outputs), dtype=np.float32)
    found = Gptq({"x": rows.T @ rows})(matrix, block_size, "x")
    assert found is not None
    nearest = quantize_matrix(matrix, 4, block_size)
    assert [part.shape for part in found] == [part.shape for part in nearest]
    assert [part.dtype for part in found] == [part.dtype for part in nearest]
    ours, theirs = (np.square(rows @ (of_blocks(*each, inputs) - matrix)).mean() for each in (found, nearest))
    assert ours < 0.6 * theirs


def test_uncorrelated_inputs_are_rounded_to_the_nearest() -> None:
    matrix = np.random.default_rng(1).standard_normal((64, 24), dtype=np.float32)
    found = Gptq({"x": np.eye(64, dtype=np.float32)})(matrix, 32, "x")
    assert found is not None
    for ours, theirs in zip(found, quantize_matrix(matrix, 4, 32), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_inputs_that_are_always_zero_do_no_harm() -> None:
    rows = values(100, 32)
    rows[:, 5:9] = 0
    matrix = np.zeros((32, 4), np.float32)
    matrix[:, 1:] = 1
    numbers, scales = round_matrix(matrix, 16, rows.T @ rows)
    assert np.isfinite(scales).all()
    assert not numbers[:, 0].any()
    assert np.isfinite(round_matrix(matrix, 16, np.zeros((32, 32), np.float32))[1]).all()


def test_matrices_without_statistics_are_skipped_unless_already_rounded() -> None:
    rows, matrix = values(100, 32), np.ones((32, 4), np.float32)
    gptq = Gptq({"x": rows.T @ rows})
    assert gptq(matrix, 16, "y") is None
    assert gptq(matrix, 16, "x") is gptq(matrix, 16, "y")


def test_second_moments_are_those_of_the_multiplied_inputs(tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import onnx_ir

    from edge_prompt_export.compression.onnx import gptq as onnx_gptq
    from edge_prompt_export.compression.onnx.blocks import BLOCKS, calibration_inputs

    graph_file = tiny_bundle / "model.onnx"
    inputs = calibration_inputs(onnx_ir.load(graph_file), BLOCKS["int4"])
    names = read_bundle(tiny_bundle).graph("onnxruntime").inputs
    ids = np.arange(5, 25)[None]
    empty = {"soft_prompt": np.zeros((1, 0, 32), np.float32), "prefix": np.zeros((2, 2, 1, 4, 0, 8), np.float32)}
    feeds: list[dict[str, Any]] = [
        {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": 0 * ids, **empty}
    ]
    assert set(names) <= set(feeds[0])
    found = second_moments(graph_file, inputs, feeds)
    monkeypatch.setattr(onnx_gptq, "AT_ONCE_BYTES", 1)  # one pass per input
    again = second_moments(graph_file, inputs, feeds)
    assert len(found) == len(dict.fromkeys(inputs)) > 2
    for name, moments in found.items():
        np.testing.assert_array_equal(moments, again[name])
        np.testing.assert_allclose(moments, moments.T, rtol=1e-4, atol=1e-4)
        assert np.linalg.eigvalsh(moments).min() > -1e-2


def test_calibration_brings_a_bundle_closer_to_torch(tiny_language: Path, tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("the oil price rose after the meeting " * 100, encoding="utf-8")
    for name, texts in (("nearest", None), ("calibrated", tmp_path / "texts.txt")):
        export_backbone(tiny_language, tmp_path / name, weights="int4", calibrate=texts, formats=("onnx",))
    bundle = read_bundle(tmp_path / "calibrated")
    assert bundle.graph("onnxruntime").compression["gptq"] is True
    assert "gptq" not in read_bundle(tmp_path / "nearest").graph("onnxruntime").compression
    assert max(check_reference(bundle, "onnxruntime").values()) < 2
    sizes = [(tmp_path / name / "model.onnx_data").stat().st_size for name in ("nearest", "calibrated")]
    assert sizes[0] == sizes[1]  # and both graphs read the same bytes
