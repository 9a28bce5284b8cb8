"""ONNX Runtime's quantiser of matrices in blocks, imported without what it does to the log."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from numpy.typing import NDArray


def _quantizer() -> tuple[Any, Any]:
    """Its configuration and itself. On import it would have the log of the whole process go to the terminal."""
    root, held = logging.getLogger(), logging.NullHandler()
    root.addHandler(held)  # it sets up a log that has no handler
    try:
        from onnxruntime.quantization.matmul_nbits_quantizer import (  # noqa: PLC0415 - see above
            DefaultWeightOnlyQuantConfig,
            DefaultWeightOnlyQuantizer,
        )
    finally:
        root.removeHandler(held)
    return DefaultWeightOnlyQuantConfig, DefaultWeightOnlyQuantizer


def quantized(matrix: NDArray[np.float32], bits: int, block_size: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """A matrix in blocks along its inputs, symmetric about zero, each rounded to the nearest.

    Args:
        matrix: `[inputs, outputs]`, C-ordered.
        bits: 4 or 8.
        block_size: Numbers that share a scale; inputs are filled up with zeros to whole blocks.

    Returns:
        The numbers `[outputs, blocks, block_size * bits / 8]`, of 4 bits two a byte, the lower first; and the scales
        `[outputs, blocks]`.
    """
    config, quantizer = _quantizer()
    numbers, scales, _ = quantizer(config(block_size=block_size, is_symmetric=True, bits=bits)).qbits_block_quant(
        matrix
    )
    return numbers, scales.reshape(matrix.shape[1], -1)
