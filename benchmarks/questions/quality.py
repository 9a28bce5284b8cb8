"""How good are prompts, compared with a linear head, LoRA and full fine-tuning on the same network, data and epochs?

    python benchmarks/questions/quality.py  # one task, 600 texts, 4 epochs, two seeds: some minutes
    python benchmarks/questions/quality.py --whole  # three tasks, 3,000 texts, 5 epochs, the whole test splits: hours
    python benchmarks/questions/quality.py --task tweets --method prefix --method full

Every method sees the same training texts for the same number of epochs, keeps its last parameters, and is scored on the
same test rows. Prompts and LoRAs are scored in the precision of their files. The README explains how settings were
chosen.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import torch

from benchmarks.lib.methods import Trial, compare
from benchmarks.lib.publish import Measured, options, publish
from benchmarks.lib.quality_options import Budget, quality_options, settings_of
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.training.settings import TuneSettings
from examples.real_data import TEXT_TASKS, minilm, text_task

FINE_TUNING_RATE = 1e-4
METHODS = ("linear", "soft", "prefix", "LoRA", "full")
QUICK = ("linear", "prefix", "LoRA")
MAX_TOKENS = 64

BUDGETS = {
    "quick": Budget(("tweets",), QUICK, examples=48, epochs=1, test_rows=48, seeds=1),
    "": Budget(("tweets",), METHODS, examples=600, epochs=4, test_rows=100_000, seeds=2),
    "whole": Budget(tuple(TEXT_TASKS), METHODS, examples=3000, epochs=5, test_rows=100_000, seeds=3),
}


def drawn(rows: Sequence[Any], count: int) -> list[Any]:
    """Draw `count` rows with a fixed seed."""
    return random.Random(1).sample(rows, len(rows))[:count]


def trial_of(task: str, examples: int, test_rows: int, settings: TuneSettings) -> Trial:
    """Return the training and test texts of the task, and a fresh network."""
    data = text_task(task)
    labels = tuple(sorted({example.label for example in data.train}))
    training, test = drawn(data.train, examples), drawn(data.test, test_rows)
    return Trial(load_backbone(str(minilm())), training, test, labels, settings, FINE_TUNING_RATE)


def measure(asked: dict[str, Any]) -> Measured:
    """Measure everything; `asked` is recorded as the `settings` of the results."""
    torch.set_num_threads(asked["threads"])

    def trial(task: str, seed: int) -> Trial:
        settings = TuneSettings(epochs=asked["epochs"], max_tokens=MAX_TOKENS, precision=asked["precision"], seed=seed)
        return trial_of(task, asked["examples"], asked["test_rows"], settings)

    found = compare(asked["tasks"], asked["methods"], asked["seeds"], trial, "prefix")
    return found._replace(
        notes=(
            "Network: all-MiniLM-L6-v2 with its own weights.",
            (
                f"{asked['examples']:,} training texts per task, {MAX_TOKENS} tokens per text, "
                f"{asked['epochs']} epochs; training in {asked['precision']}, scoring in fp32."
            ),
            *found.notes,
        )
    )


@click.command()
@quality_options(tuple(TEXT_TASKS), METHODS, "bf16")
@options
def main(*, quick: bool, whole: bool, threads: int, output: Path, **asked: Any) -> None:
    """Measure and publish."""
    settings = settings_of(BUDGETS, asked, threads, quick=quick, whole=whole)
    publish(__file__, __doc__, output, settings, lambda: measure(settings))


if __name__ == "__main__":
    main()
