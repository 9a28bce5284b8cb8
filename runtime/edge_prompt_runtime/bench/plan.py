"""What is to be measured of a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_TOKENS = 32
DEFAULT_LENGTHS = (8, 32, 64)


@dataclass(frozen=True)
class Plan:
    """What `edge-prompt bench` was asked for.

    Attributes:
        bundle: The bundle's folder.
        prompts: Prompts to measure requests and swaps of, beside made-up ones.
        kind: The kind of those whose shape leaves it open.
        engines: Names of engines; empty is all that the bundle has a graph for.
        threads: Threads of each engine; None is as many as there are cores to compute on.
        cores: The cores to compute on; None is all.
        precision: What networks are computed in.
        rounds: Samples of each variant, at most.
        seconds: How long requests may take to measure, about; the number of rounds is cut to it.
        starts: Fresh processes an engine.
        batch: Rows of a request, all under one task.
        tokens: Tokens of a row of text; None is `DEFAULT_TOKENS`, or what fits.
        new_tokens: Tokens that a language model generates.
        image_size: Height and width of the picture that image backbones are asked about, before it is resized.
        lengths: Virtual tokens of the made-up prompts.
    """

    bundle: Path
    prompts: tuple[Path, ...] = ()
    kind: str | None = None
    engines: tuple[str, ...] = ()
    threads: int | None = None
    cores: tuple[int, ...] | None = None
    precision: str = "f32"
    rounds: int = 200
    seconds: float = 60
    starts: int = 7
    batch: int = 1
    tokens: int | None = None
    new_tokens: int = 32
    image_size: tuple[int, int] = (480, 640)
    lengths: tuple[int, ...] = DEFAULT_LENGTHS
