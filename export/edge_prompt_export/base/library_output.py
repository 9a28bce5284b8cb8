"""Silence the logs and progress bars of libraries; whatever matters to the user is raised as an error instead."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

from transformers import modeling_gguf_pytorch_utils as gguf_files
from transformers.utils import logging as hf_logging

_LOGGERS = ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")


@contextmanager
def suppress_library_output() -> Iterator[None]:
    """Suppress reports, progress bars and warnings of transformers, torch's exporters and the converters."""
    verbosity, bars = hf_logging.get_verbosity(), hf_logging.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in _LOGGERS]
    levels = [logger.level for logger in loggers]
    gguf_bar = gguf_files.tqdm  # ignores the setting that disables progress bars
    gguf_files.tqdm = partial(gguf_bar, disable=True)
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        gguf_files.tqdm = gguf_bar
        hf_logging.set_verbosity(verbosity)
        if bars:
            hf_logging.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
