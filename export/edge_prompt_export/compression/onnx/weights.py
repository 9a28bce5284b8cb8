"""Small weights in ONNX graphs: ONNX Runtime's block-wise products for 8 and 4 bits, halves in standard operators."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx_ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edge_prompt_export.base.quiet import quiet
from edge_prompt_export.compression.onnx.blocks import BLOCKS, OUTER_BLOCKS, Same, multiplied, to_blocks
from edge_prompt_export.compression.onnx.gptq import Gptq, second_moments
from edge_prompt_export.compression.onnx.halves import to_halves
from edge_prompt_export.compression.precisions import Compressed
from edge_prompt_export.graphs.onnx.export import share_weights
from edge_prompt_runtime.engines.base import Arrays


def compress(sources: Sequence[Path], target: Path, weights: str, feeds: Sequence[Arrays]) -> Compressed:
    """Write graphs with small weights, which lie in one data file beside them.

    Args:
        sources: Graphs in fp32 on the same weights; the first is the one to open.
        target: The folder to write to, another than that of the graphs.
        weights: `fp16`, `int8` or `int4`.
        feeds: All inputs by name, a batch each, to round to `int4` on; may be none.

    Returns:
        The files written, and how.
    """
    first, *others = sources
    data_file = f"{(others or sources)[0].name}_data"
    how = {"tool": f"onnxruntime {version('onnxruntime')}", **_HOW[weights]}
    calibrated = None
    if weights in CALIBRATED and feeds:
        inputs = multiplied(onnx_ir.load(first), BLOCKS[weights])
        calibrated = Gptq(second_moments(first, inputs, feeds))
        how |= {"gptq": True, "rows": len(feeds)}
    for source in sources:
        model = onnx_ir.load(source)
        same = to_blocks(model, BLOCKS[weights], calibrated) if weights in BLOCKS else to_halves(model)
        with quiet():
            RemoveUnusedNodesPass()(model)
        if source == first:
            _save(model, target / source.name, data_file, same)
        else:
            share_weights(model, onnx_ir.load(target / first.name), target)
            onnx_ir.save(model, target / source.name)
    return Compressed((first.name, data_file), how)


CALIBRATED = frozenset({"int4"})
"""The weights that are rounded on texts where there are some; 8 bits lose too little for that."""

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
    """Save with weights beside the graph, those that are the same bytes in two shapes once."""
    for name in same:  # so that they are not written
        model.graph.initializers[name].const_value = onnx_ir.tensor([0.0])
    onnx_ir.save(model, path, external_data=data_file)
    written = onnx_ir.load(path)
    for name, (other, shape) in same.items():
        place = written.graph.initializers[other].const_value
        assert place is not None  # noqa: S101 - it was written just now
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
        else:  # too small to lie beside the graph
            place = onnx_ir.tensor(place.numpy().reshape(shape), name=name)
        written.graph.initializers[name].const_value = place
    onnx_ir.save(written, path)
