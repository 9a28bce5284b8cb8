"""The bytes of weights that a token reads, according to the graph.

Every constant counts once, however many operations use it, except tables from which rows are gathered, of which a token
reads one row. An output layer that shares the table of embeddings therefore counts once.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import openvino as ov

LOOKUPS = {"onnx": frozenset({"Gather", "GatherBlockQuantized"}), "openvino": frozenset({"Gather"})}
"""Operations that read rows of a table, by the format of the graph."""

UNPACKING = {
    "onnx": frozenset({"Reshape", "DequantizeLinear", "Cast"}),
    "openvino": frozenset({"Convert", "Multiply", "Subtract", "Reshape"}),
}
"""Operations between a constant and its users, as for compressed weights."""


def bytes_read(graph: Path) -> int:
    """Return the bytes of weights that a token reads, from `.onnx`, `.xml`, or a network's `.safetensors`."""
    return READERS[graph.suffix](graph)


def onnx_bytes_read(path: Path) -> int:
    """Return those of an ONNX graph."""
    graph = onnx.load(path, load_external_data=False).graph
    users: dict[str, list[Any]] = {}
    for node in graph.node:
        for name in node.input:
            users.setdefault(name, []).append(node)

    def only_looked_up(name: str) -> bool:
        nodes = users.get(name, [])
        return bool(nodes) and all(
            node.op_type in LOOKUPS["onnx"]
            or (node.op_type in UNPACKING["onnx"] and all(map(only_looked_up, node.output)))
            for node in nodes
        )

    return sum(_onnx_size(constant) for constant in graph.initializer if not only_looked_up(constant.name))


def openvino_bytes_read(path: Path) -> int:
    """Return those of an OpenVINO graph."""
    model = ov.Core().read_model(path)

    def only_looked_up(node: Any) -> bool:
        users = [target.get_node() for output in node.outputs() for target in output.get_target_inputs()]
        return bool(users) and all(
            user.get_type_name() in LOOKUPS["openvino"]
            or (user.get_type_name() in UNPACKING["openvino"] and only_looked_up(user))
            for user in users
        )

    constants = [node for node in model.get_ops() if node.get_type_name() == "Constant"]
    return sum(_openvino_size(node) for node in constants if not only_looked_up(node))


def safetensors_bytes_read(path: Path) -> int:
    """Return those of a network in torch whose output layer shares the table of embeddings: the whole file."""
    return path.stat().st_size


def _onnx_size(constant: Any) -> int:
    kind = constant.data_type
    bits: int = ONNX_BITS.get(kind) or 8 * onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize
    elements: int = math.prod(constant.dims)
    return math.ceil(elements * bits / 8)


def _openvino_size(node: Any) -> int:
    output = node.output(0)
    bits: int = output.get_element_type().bitwidth
    elements: int = math.prod(output.get_shape())
    return math.ceil(elements * bits / 8)


ONNX_BITS = {onnx.TensorProto.INT4: 4, onnx.TensorProto.UINT4: 4}
"""Bits per element, of types that numpy does not have."""

READERS: dict[str, Callable[[Path], int]] = {
    ".onnx": onnx_bytes_read,
    ".xml": openvino_bytes_read,
    ".safetensors": safetensors_bytes_read,
}
"""Functions by suffix of the graph's file."""
