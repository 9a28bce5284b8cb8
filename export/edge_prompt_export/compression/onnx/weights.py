"""Compress the weights of ONNX graphs: 8 and 4 bits with ONNX Runtime's operators, float16 with standard operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edge_prompt_export.base.library_output import suppress_library_output
from edge_prompt_export.compression.onnx.blocks import BLOCKS, OUTER_BLOCKS, Same, StoreInBlocks, calibration_inputs
from edge_prompt_export.compression.onnx.float16 import StoreInFloat16
from edge_prompt_export.compression.onnx.gptq import Gptq, second_moments
from edge_prompt_export.compression.precisions import Compressed
from edge_prompt_export.graphs.onnx.export import share_weights
from edge_prompt_export.graphs.onnx.passes.base import constant_tensor, run_passes
from edge_prompt_runtime.engines.base import Arrays


def compress(sources: Sequence[Path], target: Path, weights: str, feeds: Sequence[Arrays]) -> Compressed:
    """Write graphs with compressed weights, which are stored in one data file next to them.

    Args:
        sources: Graphs in fp32 that share weights; the first is the one to open.
        target: The folder to write to, which differs from that of the graphs.
        weights: `fp16`, `int8` or `int4`.
        feeds: Batches of all inputs by name to calibrate `int4` on; may be empty.

    Returns:
        The files written, and the settings used.
    """
    first, *others = sources
    data_file = f"{(others or sources)[0].name}_data"
    how = {"tool": f"onnxruntime {version('onnxruntime')}", **_HOW[weights]}
    calibrated = None
    if weights in CALIBRATED and feeds:
        inputs = calibration_inputs(onnx_ir.load(first), BLOCKS[weights])
        calibrated = Gptq(second_moments(first, inputs, feeds))
        how |= {"gptq": True, "rows": len(feeds)}
    for source in sources:
        model = onnx_ir.load(source)
        store = StoreInBlocks(BLOCKS[weights], calibrated) if weights in BLOCKS else StoreInFloat16()
        with suppress_library_output():
            run_passes(model, (store, RemoveUnusedNodesPass()))
        if source == first:
            same = store.same if isinstance(store, StoreInBlocks) else {}
            _save(model, target / source.name, data_file, same)
        else:
            share_weights(model, onnx_ir.load(target / first.name), target)
            onnx_ir.save(model, target / source.name)
    return Compressed((first.name, data_file), how)


CALIBRATED = frozenset({"int4"})
"""The weight formats that are calibrated if texts are given; with 8 bits, calibration would gain too little."""

_HOW: Mapping[str, Mapping[str, Any]] = {
    "fp16": {"storage": "float16"},
    **{
        weights: {"operator": "MatMulNBits", **blocks._asdict(), "embeddings and output layers": OUTER_BLOCKS._asdict()}
        for weights, blocks in BLOCKS.items()
    },
}


def keep_fold(graph_file: Path, weights_file: Path | None, target: Path) -> tuple[str, ...]:  # noqa: ARG001
    """See `edge_prompt_export.compression.openvino.weights.keep_fold`."""
    data_file = f"{graph_file.name}_data"
    onnx_ir.save(onnx_ir.load(graph_file), target / graph_file.name, external_data=data_file)
    return graph_file.name, data_file


def _save(model: onnx_ir.Model, path: Path, data_file: str, same: Mapping[str, Same]) -> None:
    """Save the model with external weights; bytes that occur in two shapes are stored once."""
    for name in same:  # a placeholder, so that the bytes are not written twice
        model.graph.initializers[name].const_value = onnx_ir.tensor([0.0])
    onnx_ir.save(model, path, external_data=data_file)
    written = onnx_ir.load(path)
    for name, (other, shape) in same.items():
        place = constant_tensor(written.graph.initializers[other])
        if isinstance(place, onnx_ir.ExternalTensor):
            place = onnx_ir.ExternalTensor(
                location=place.location,
                offset=place.offset,
                length=place.length,
                dtype=place.dtype,
                shape=onnx_ir.Shape(shape),
                name=name,
                base_dir=path.parent,
            )
        else:  # too small for the external file
            place = onnx_ir.tensor(place.numpy().reshape(shape), name=name)
        written.graph.initializers[name].const_value = place
    onnx_ir.save(written, path)
