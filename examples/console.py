"""What the demos print: one line per step, with the seconds since the start, and no messages from libraries."""

from __future__ import annotations

import argparse
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")

ENGINE_NAMES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
"""The engines as their authors write them."""

console = Console(highlight=False)

_START_S = perf_counter()
_NO_BARS = {"TQDM_DISABLE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"}


def quiet_libraries() -> None:
    """Hide warnings, log messages and progress bars of libraries; call it before they are imported."""
    os.environ.update(_NO_BARS)
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")


def demo_parser(description: str) -> argparse.ArgumentParser:
    """The options that all demos have; the first line of `description` is shown by `--help`."""
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--full", action="store_true", help="score whole test splits instead of a sample")
    return parser


def announce(text: str) -> None:
    """Print the line of a step, with the seconds since the start."""
    console.print(f"[dim]{perf_counter() - _START_S:4.0f} s[/dim]  {text}", soft_wrap=True)


@contextmanager
def step(text: str) -> Iterator[None]:
    """Announce a step; on a terminal a spinner turns while it runs."""
    announce(text)
    with console.status(""):
        yield


def tracked(items: Sequence[Item], text: str) -> Iterator[Item]:
    """Announce a step and iterate over `items`; on a terminal a bar shows how far it is."""
    announce(text)
    if console.is_terminal:
        yield from track(items, "      ", console=console, transient=True)
    else:
        yield from items
