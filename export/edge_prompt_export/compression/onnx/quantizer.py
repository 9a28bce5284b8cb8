"""ONNX Runtime's block-wise quantiser of matrices, imported without its changes to the logging setup."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _quantizer() -> tuple[Any, Any]:
    """The quantiser and its configuration. A plain import would send the logs of the whole process to the terminal."""
    root, placeholder = logging.getLogger(), logging.NullHandler()
    root.addHandler(placeholder)  # the import configures the root logger if it has no handler
    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415 - see above
            DefaultWeightOnlyQuantConfig,
            DefaultWeightOnlyQuantizer,
        )
    finally:
        root.removeHandler(placeholder)
    return DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer


def quantize_matrix(
    matrix: NDArray[np.float32], bits: int, block_size: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Quantise a matrix in blocks along its inputs, symmetric about zero, rounding each value to the nearest.

    Args:
        matrix: `[inputs, outputs]`, C-ordered.
        bits: 4 or 8.
        block_size: Number of values that share a scale; inputs are padded with zeros to whole blocks.

    Returns:
        The numbers `[outputs, blocks, block_size * bits / 8]` and the scales `[outputs, blocks]`. Two 4-bit numbers
        share a byte, the low half first.
    """
    config, quantizer = _quantizer()
    numbers, scales, _ = quantizer(config(block_size=block_size, is_symmetric=True, bits=bits)).qbits_block_quant(
        matrix
    )
    return numbers, scales.reshape(matrix.shape[1], -1)
