"""Tune the prompts in `examples/prompts/vision/`: each task in another kind, on all of its training images.

python examples/tune_image_prompts.py            # some ten minutes on two cores
"""

from __future__ import annotations

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from PIL import Image

from edge_prompt_export import TuneSettings, tune_prompt
from edge_prompt_export.training.metrics import Metrics
from examples.real_images import IMAGE_TASKS, digits, dinov2, examples_of

PROMPTS = Path(__file__).resolve().parent / "prompts" / "vision"
SETTINGS = TuneSettings(kind="deep", epochs=5, augment="move", precision="bf16", dtype="float16")
KINDS = {"digits": "deep", "parity": "soft", "four-or-nine": "pixel"}
"""The kind that each task is tuned in."""


class _Printed:
    """Tells how tuning goes, a line every hundred steps."""

    def step(self, step: int, steps: int, loss: float) -> None:
        if step % 100 == 0:
            print(f"step {step} of {steps}: loss {loss:.3f}", flush=True)

    def epoch(self, epoch: int, figures: Metrics, *, best: bool) -> None:
        pass


def main(names: list[str]) -> None:
    """Tune the tasks `names`, or all."""
    for name in names or IMAGE_TASKS:
        with tempfile.TemporaryDirectory() as folder:
            for number, (image, label) in enumerate(examples_of(name, digits()[0])):
                inner = Path(folder) / label
                inner.mkdir(exist_ok=True)
                Image.fromarray(image).save(inner / f"{number}.png")
            settings = replace(SETTINGS, kind=KINDS[name])
            tuned = tune_prompt(dinov2(), folder, PROMPTS / f"{name}.npy", settings=settings, observer=_Printed())
        print(f"{name}: wrote {tuned.path.name}, {tuned.path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
