"""Calibration inputs for weight compression: rows of tokens from a text file that resembles the expected requests."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edge_prompt.base.errors import InputError, MissingFileError, UnsupportedArchitectureError
from edge_prompt.formats.kv_cache_names import SHARED_INPUTS, STATEFUL_INPUT
from edge_prompt.formats.preprocessing import LanguagePreprocessing, TextPreprocessing, modality_of
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_runtime.engines.base import Arrays

MOST_ROWS, ROW_TOKENS = 64, 128
"""Number of rows, spread over the whole file, and tokens per row; more make little difference."""


def calibration_feeds(path: Path, backbone: LoadedBackbone, inputs: Sequence[str]) -> list[Arrays]:
    """The inputs of a graph for the texts of a file, without a prompt.

    Args:
        path: A text file in UTF-8.
        backbone: A backbone that reads texts.
        inputs: Names of the graph's inputs.

    Returns:
        Batches of one row each.

    Raises:
        MissingFileError: The file does not exist.
        UnsupportedArchitectureError: The backbone does not read texts.
        InputError: The file contains too little text.
    """
    modality = modality_of(backbone.preprocessing)
    if not isinstance(backbone.preprocessing, TextPreprocessing | LanguagePreprocessing):
        raise UnsupportedArchitectureError(
            found=f"calibration texts for a backbone that reads {modality}",
            wanted="a backbone that reads texts",
            remedy="compress its weights without calibration",
        )
    if not path.is_file():
        raise MissingFileError(found=f"{path}: no such file", wanted="a text file", remedy="check the path")
    tokenizer: Any = backbone.tokenizer
    tokens = np.array(tokenizer(path.read_text(encoding="utf-8"), add_special_tokens=False, verbose=False)["input_ids"])
    longest = min(ROW_TOKENS, backbone.preprocessing.max_positions or ROW_TOKENS)
    if len(tokens) < longest:
        raise InputError(
            found=f"{path} has {len(tokens)} tokens",
            wanted=f"at least {longest}, preferably {MOST_ROWS * ROW_TOKENS}, similar to the expected requests",
            remedy="add more text",
        )
    starts = np.linspace(0, len(tokens) - longest, min(MOST_ROWS, len(tokens) // longest)).astype(int)
    return [_feeds(tokens[start : start + longest], backbone, inputs) for start in starts]


def _feeds(row: Any, backbone: LoadedBackbone, inputs: Sequence[str]) -> Arrays:
    ids = torch.from_numpy(row)[None]
    request = {name: torch.zeros_like(ids) for name in backbone.preprocessing.input_names}
    request |= {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    arrays = {name: tensor.numpy() for name, tensor in backbone.module.graph_inputs(request, {}).items()}
    arrays |= dict(zip(SHARED_INPUTS, (np.array([len(row) - 1], np.int32), np.array(len(row), np.int32)), strict=True))
    arrays[STATEFUL_INPUT] = np.zeros(1, np.int32)
    return {name: arrays[name] for name in inputs if name in arrays}
