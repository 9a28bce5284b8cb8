"""The plan of a measurement."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DEFAULT_TOKENS = 32
DEFAULT_LENGTHS = (8, 32, 64)


@dataclass(frozen=True)
class Plan:
    """The arguments of `edge-prompt bench`.

    Attributes:
        bundle: The folder of the bundle.
        prompts: The prompts whose requests and swaps are measured, in addition to random ones.
        kind: The kind of prompts without a card whose shape is ambiguous.
        engines: The names of the engines; empty means all for which the bundle has a graph.
        threads: The number of threads per engine; None means one per core.
        cores: The cores to run on; None means all.
        precision: The precision of the computation.
        rounds: The maximum number of samples of each variant.
        seconds: The approximate time limit for measuring requests, which reduces the number of rounds.
        starts: The number of fresh processes per engine.
        batch: The batch size of a request; all rows have the same task.
        tokens: The number of tokens per row of text; None means `DEFAULT_TOKENS`, or fewer if they do not fit.
        new_tokens: The number of tokens that a language model generates.
        image_size: The height and width of the image for image backbones, before resizing.
        lengths: The numbers of virtual tokens of the random prompts.
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
