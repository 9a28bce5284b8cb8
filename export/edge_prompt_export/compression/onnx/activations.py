"""Quantise an ONNX graph with ONNX Runtime's static quantisation, after SmoothQuant (Xiao et al. 2022).

Only linear layers are quantised. The matrix products of attention, where a prefix enters, and the convolution of the
patches, where a pixel prompt enters, stay in fp32. Linear layers take int8 inputs and return fp32 outputs, so the
residual stream is never rounded to 8 bits. ONNX Runtime's own SmoothQuant needs the package neural-compressor, so
`smooth` does it here.
"""

from __future__ import annotations

import logging
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray
from onnx import numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

from edge_prompt_runtime.engines.base import Arrays

ONNX_INT8_FILE = "model_int8.onnx"

SMOOTHING = 0.7
"""Share of a channel's range that moves from the activations into the weights; see https://arxiv.org/abs/2211.10438."""

_LEAST_RANGE = 1e-5
_LINEAR = ("MatMul", "Gemm")

Floats = NDArray[np.float32]


class _CalibrationFeeds(CalibrationDataReader):  # type: ignore[misc]
    """Passes feeds to ONNX Runtime's calibration."""

    def __init__(self, feeds: Sequence[Arrays]) -> None:
        self._feeds: Iterator[Arrays] = iter(feeds)

    def get_next(self) -> dict[str, NDArray[np.generic]] | None:
        """The next batch; None at the end."""
        batch = next(self._feeds, None)
        return None if batch is None else dict(batch)


def quantize_graph(
    graph_file: Path,
    weights_file: Path | None,  # noqa: ARG001 - the graph refers to it
    folder: Path,
    feeds: Sequence[Arrays],
) -> tuple[str, ...]:
    """Write the graph in int8; see `edge_prompt_export.compression.openvino.activations.quantize_graph`."""
    with tempfile.TemporaryDirectory() as name:
        whole, prepared, smoothed = (Path(name) / f"{step}.onnx" for step in ("whole", "prepared", "smoothed"))
        onnx.save(onnx.load(graph_file), whole)  # the next step does not find weights in an external file
        # a failing step of the preprocessing is logged with its traceback and skipped; fatal errors are raised
        logging.getLogger("onnxruntime.quantization.shape_inference").setLevel(logging.CRITICAL)
        quant_pre_process(whole, prepared, skip_symbolic_shape=True)
        model = onnx.load(prepared)
        smooth(model, feeds)
        onnx.save(model, smoothed)
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # quantize_static logs to the root logger
        try:
            quantize_static(
                smoothed,
                folder / ONNX_INT8_FILE,
                _CalibrationFeeds(feeds),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                per_channel=True,
                op_types_to_quantize=list(_LINEAR),
                nodes_to_quantize=[node.name for node in _linear_layers(model)],
                extra_options={"OpTypesToExcludeOutputQuantization": list(_LINEAR)},
            )
        finally:
            root.setLevel(level)
    return (ONNX_INT8_FILE,)


def smooth(model: onnx.ModelProto, feeds: Sequence[Arrays]) -> None:
    """Divide channels of large range by factors, and multiply the weights of the following linear layers by them.

    Args:
        model: The model, changed in place; apart from rounding, its outputs stay the same.
        feeds: Inputs on which the ranges are measured.
    """
    graph = model.graph
    weights = {constant.name: constant for constant in graph.initializer}
    layers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
    linear = _linear_layers(model)
    readers_of = Counter(node.input[1] for node in linear)
    for node in linear:
        alone = readers_of[node.input[1]] == 1  # weights shared by two layers cannot absorb two sets of factors
        if node.op_type == "MatMul" and alone and len(weights[node.input[1]].dims) == 2:
            layers[node.input[0]].append(node)
    ranges = _ranges(model, tuple(layers), feeds)
    for name, readers in layers.items():
        arrays = {node.input[1]: numpy_helper.to_array(weights[node.input[1]]) for node in readers}
        factors = _factors(ranges[name], np.max([np.abs(array).max(1) for array in arrays.values()], 0))
        divided = f"{name}_smoothed"
        graph.initializer.append(numpy_helper.from_array(1 / factors, f"{divided}_factors"))
        place = min(index for index, node in enumerate(graph.node) if name in node.input)
        graph.node.insert(
            place, onnx.helper.make_node("Mul", [name, f"{divided}_factors"], [divided], name=f"{divided}_mul")
        )
        for node in readers:
            node.input[0] = divided
        for key, array in arrays.items():
            weights[key].CopyFrom(numpy_helper.from_array(array * factors[:, None], key))


def _factors(activations: Floats, weights: Floats) -> Floats:
    large, small = np.maximum(activations, _LEAST_RANGE), np.maximum(weights, _LEAST_RANGE)
    factors: Floats = (large**SMOOTHING / small ** (1 - SMOOTHING)).astype(np.float32)
    return np.maximum(factors, _LEAST_RANGE)


def _ranges(model: onnx.ModelProto, names: Sequence[str], feeds: Sequence[Arrays]) -> Mapping[str, Floats]:
    """The largest magnitude of each channel (the last axis) of tensors of the graph, by name."""
    opened = onnx.ModelProto()
    opened.CopyFrom(model)
    opened.graph.output.extend(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in names)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(opened.SerializeToString(), options, providers=["CPUExecutionProvider"])
    ranges: dict[str, Floats] = {}
    for batch in feeds:
        for name, found in zip(names, session.run(list(names), dict(batch)), strict=True):
            largest = np.abs(found).reshape(-1, found.shape[-1]).max(0)
            ranges[name] = np.maximum(ranges.get(name, largest), largest)
    return ranges


def _linear_layers(model: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that multiply by a constant weight."""
    constants = {constant.name for constant in model.graph.initializer}
    return [node for node in model.graph.node if node.op_type in _LINEAR and node.input[1] in constants]
