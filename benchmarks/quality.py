"""How good are prompts? Beside a linear head and full fine-tuning of the same network, same data, same epochs.

    python benchmarks/quality.py                       # every task and method; most of an hour on two cores
    python benchmarks/quality.py --task tweets --method prefix --method full

Every method sees the same training texts in the same number of epochs, keeps its last parameters, and is scored on the
whole test split, a prompt in the numbers of its file. How settings were chosen: see the README.
"""

from __future__ import annotations

from pathlib import Path

import click
import torch

from benchmarks.methods import Trial, measure, show
from edge_prompt_export.loading import load_backbone
from edge_prompt_export.tuning.settings import TuneSettings
from examples.real_data import TEXT_TASKS, minilm, text_task

FINE_TUNING_RATE = 1e-4
METHODS = ("linear", "soft", "prefix", "full")


def trial_of(task: str, examples: int, settings: TuneSettings) -> Trial:
    """The task's first `examples` training texts in an order of a fixed seed, and its test split."""
    data = text_task(task)
    order = torch.randperm(len(data.train), generator=torch.Generator().manual_seed(1)).tolist()
    training = [data.train[index] for index in order[:examples]]
    labels = tuple(sorted({example.label for example in data.train}))
    return Trial(load_backbone(str(minilm())), training, data.test, labels, settings, FINE_TUNING_RATE)


@click.command()
@click.option("--task", "tasks", type=click.Choice(list(TEXT_TASKS)), multiple=True, default=list(TEXT_TASKS))
@click.option("--method", "methods", type=click.Choice(METHODS), multiple=True, default=METHODS)
@click.option("--examples", default=3000, show_default=True, help="Training texts a task.")
@click.option("--epochs", default=TuneSettings().epochs, show_default=True)
@click.option("--virtual-tokens", type=int, help="Of prompts.  [default: that of `edge-prompt tune` for the kind]")
@click.option("--max-tokens", default=64, show_default=True, help="Tokens of a text.")
@click.option(
    "--dropout/--no-dropout", default=TuneSettings().dropout, show_default=True, help="The network's own, for prompts."
)
@click.option("--head-learning-rate", default=TuneSettings().head_learning_rate, show_default=True, help="For prompts.")
@click.option("--precision", default="bf16", show_default=True, help="Of training; scoring is in fp32.")
@click.option("--threads", default=2, show_default=True)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the results, a line each.")
def main(
    *,
    tasks: tuple[str, ...],
    methods: tuple[str, ...],
    examples: int,
    epochs: int,
    virtual_tokens: int | None,
    max_tokens: int,
    dropout: bool,
    head_learning_rate: float,
    precision: str,
    threads: int,
    seed: int,
    json_file: Path | None,
) -> None:
    """Print a table of test accuracies."""
    torch.set_num_threads(threads)
    settings = TuneSettings(
        virtual_tokens=virtual_tokens,
        epochs=epochs,
        max_tokens=max_tokens,
        dropout=dropout,
        head_learning_rate=head_learning_rate,
        precision=precision,
        seed=seed,
    )
    show((measure(task, method, trial_of(task, examples, settings)) for task in tasks for method in methods), json_file)


if __name__ == "__main__":
    main()
