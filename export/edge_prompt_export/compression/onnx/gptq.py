"""Round matrices to 4 bits on calibration texts so that their products change least: GPTQ (Frantar et al. 2022).

The inputs of a matrix are rounded one after another. The inputs that are not yet rounded compensate for the error of
each one, using second moments measured on the texts (https://arxiv.org/abs/2210.17323). The order of the inputs does
not change, so each block still has one scale and the graph is as fast as without calibration.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx_ir
import onnxruntime
from numpy.typing import NDArray

from edge_prompt_export.graphs.onnx.passes.base import shape_of
from edge_prompt_runtime.engines.base import Arrays

DAMPING = 0.01
"""Share of the diagonal's mean that is added to the diagonal; the value of the paper."""

AT_ONCE_BYTES = 1 << 30
"""Memory for the second moments of one pass over the texts; a large network takes several passes."""

_LEAST, _MOST = -8, 7

Float32 = NDArray[np.float32]
Rounded = tuple[NDArray[np.uint8], Float32]


def second_moments(graph_file: Path, inputs: Sequence[onnx_ir.Value], feeds: Sequence[Arrays]) -> dict[str, Float32]:
    """Measure the second moments of the inputs of products on the texts.

    Args:
        graph_file: The graph in fp32.
        inputs: The values `[…, size]` that are multiplied; they are found in the graph by name.
        feeds: Batches of all inputs of the graph by name.

    Returns:
        By name, the sum over all tokens of `x xᵀ`, `[size, size]`.
    """
    found: dict[str, Float32] = {}
    for names in _passes(inputs):
        model = onnx_ir.load(graph_file)
        values = {value.name: value for node in model.graph for value in node.outputs}
        model.graph.outputs.clear()
        model.graph.outputs.extend(values[name] for name in names)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(graph_file.parent))
        content = onnx_ir.serde.serialize_model(model).SerializeToString()
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        taken = {value.name for value in session.get_inputs()}
        for batch in feeds:
            outputs = session.run(names, {name: array for name, array in batch.items() if name in taken})
            for name, output in zip(names, outputs, strict=True):
                rows = output.reshape(-1, output.shape[-1])
                found[name] = found.get(name, np.float32(0)) + rows.T @ rows
    return found


class Gptq:
    """Rounds matrices whose inputs have been measured; a matrix that occurs in two graphs is rounded once.

    Args:
        moments: The second moments of each product's input, by name; see `second_moments`.
    """

    def __init__(self, moments: Mapping[str, Float32]) -> None:
        self._moments = moments
        self._done: dict[tuple[bytes, int], Rounded] = {}

    def __call__(self, matrix: Float32, block_size: int, input_name: str) -> Rounded | None:
        """Round a matrix to blocks of 4 bits, in the form that `quantize_matrix` of `quantizer` returns.

        Args:
            matrix: `[inputs, outputs]`.
            block_size: Number of values that share a scale.
            input_name: Name of the activation that it multiplies.

        Returns:
            Numbers and scales; None if the input was not measured and the matrix was not rounded before.
        """
        key = hashlib.sha256(matrix.tobytes()).digest(), block_size
        if key not in self._done:
            if input_name not in self._moments:
                return None
            self._done[key] = _packed(*round_matrix(matrix, block_size, self._moments[input_name]))
        return self._done[key]


def round_matrix(matrix: Float32, block_size: int, moments: Float32) -> tuple[NDArray[np.int8], Float32]:
    """Round a matrix to 4 bits, symmetric about zero.

    Args:
        matrix: `[inputs, outputs]`.
        block_size: Number of values that share a scale; inputs are padded with zeros to whole blocks.
        moments: `[inputs, inputs]`.

    Returns:
        The numbers from -8 to 7, `[padded inputs, outputs]`, and the scales `[blocks, outputs]`.
    """
    filled = -len(matrix) % block_size
    left = np.pad(matrix, ((0, filled), (0, 0)))
    spread = _spread(np.pad(moments, ((0, filled), (0, filled))))
    numbers = np.zeros(left.shape, np.int8)
    scales = np.zeros((len(left) // block_size, left.shape[1]), np.float32)
    for start in range(0, len(left), block_size):
        end = start + block_size
        block, own = left[start:end], spread[start:end, start:end]
        largest = np.take_along_axis(block, np.abs(block).argmax(0)[None], 0)[0]
        scale = np.where(largest == 0, np.float32(1), largest / _LEAST)
        errors = np.empty_like(block)
        for place in range(block_size):
            number = np.clip(np.rint(block[place] / scale), _LEAST, _MOST)
            numbers[start + place] = number
            errors[place] = (block[place] - number * scale) / own[place, place]
            block[place + 1 :] -= np.outer(own[place, place + 1 :], errors[place])
        left[end:] -= spread[start:end, end:].T @ errors
        scales[start // block_size] = scale
    return numbers, scales


def _spread(moments: Float32) -> Float32:
    """How later inputs compensate for an error at one input: the upper Cholesky factor of the inverse moments."""
    square = moments.astype(np.float64)
    diagonal = np.diag_indices(len(square))
    square[diagonal] += DAMPING * square[diagonal].mean() + np.finfo(np.float32).tiny
    return np.linalg.cholesky(np.linalg.inv(square)).T.astype(np.float32)


def _packed(numbers: NDArray[np.int8], scales: Float32) -> Rounded:
    """Pack two numbers per byte, the low half first, each stored as its distance from -8."""
    blocks, outputs = scales.shape
    above = (numbers - _LEAST).astype(np.uint8).T.reshape(outputs, blocks, -1)
    pairs: NDArray[np.uint8] = above[..., 0::2] | above[..., 1::2] << np.uint8(4)
    return pairs, np.ascontiguousarray(scales.T)


def _passes(inputs: Sequence[onnx_ir.Value]) -> Iterator[list[str]]:
    """The names of the inputs, grouped so that the second moments of a group fit into memory."""
    names: list[str] = []
    size_bytes = 0
    for value in dict.fromkeys(inputs):
        size = shape_of(value)[-1]
        own_bytes = 4 * size**2 if isinstance(size, int) else AT_ONCE_BYTES
        if names and size_bytes + own_bytes > AT_ONCE_BYTES:
            yield names
            names, size_bytes = [], 0
        names.append(str(value.name))
        size_bytes += own_bytes
    if names:
        yield names
