"""`edge-prompt tune MODEL TRAIN --output TASK.npy`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from edge_prompt_export.backbone.backbone import LoadOptions
from edge_prompt_export.commands.options import loading_options
from edge_prompt_export.modalities.image.augment import AUGMENTATIONS
from edge_prompt_export.modalities.image.initialise import IMAGE_INITS
from edge_prompt_export.modalities.image.pixel_forms import PIXEL_FORMS
from edge_prompt_export.modalities.text.initialise import INITS
from edge_prompt_export.training.figures import PRECISIONS, Figures
from edge_prompt_export.training.schedule import SCHEDULES
from edge_prompt_export.training.settings import DTYPES, HEADS, KINDS, TuneSettings
from edge_prompt_export.tune import tune_prompt

F = TypeVar("F", bound=Callable[..., Any])


class _ProgressBar:
    """Shows steps, loss and validation accuracy on standard error."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self._bar = progress.add_task("tuning", total=None, loss="", accuracy="")

    def step(self, step: int, steps: int, loss: float) -> None:
        self._progress.update(self._bar, completed=step, total=steps, loss=f"loss {loss:.3f}")

    def epoch(self, epoch: int, figures: Figures, *, best: bool) -> None:
        self._progress.update(self._bar, accuracy=f"validation {figures.right:.1%}")
        self._progress.console.print(f"epoch {epoch}: validation {figures}{' (best)' if best else ''}")


def _setting(name: str, kind: Any, text: str) -> Callable[[F], F]:
    """The option of the field `name` of `TuneSettings`, with that field's default."""
    default = getattr(TuneSettings(), name)
    shown = {} if default is None else {"default": default, "show_default": True}
    return click.option(f"--{name.replace('_', '-')}", type=kind, help=text, **shown)


_COUNT = click.IntRange(1)
_RATE = click.FloatRange(0, min_open=True)
_FILE = click.Path(path_type=Path)


@click.command("tune")
@click.argument("model")
@click.argument("train", type=_FILE)
@click.option("--output", "-o", type=_FILE, required=True, help="The .npy file to write.")
@click.option("--validation", type=_FILE, help="Examples to choose the best epoch by.  [default: the last is kept]")
@_setting("kind", click.Choice(KINDS), "How the prompt enters the network.")
@_setting("virtual_tokens", _COUNT, "Length of the prompt.  [default: 64 of a prefix for texts, otherwise 16]")
@_setting("head", click.Choice(HEADS), "A linear head of the task's own, or the network's own head.  [default: linear]")
@_setting("init", click.Choice([*INITS, *IMAGE_INITS]), "What the prompt starts from.  [default: the training data]")
@_setting("init_text", str, "The text for --init text.")
@_setting("learning_rate", _RATE, "Of the prompt.  [default: the kind's]")
@_setting("head_learning_rate", _RATE, "Of the head.")
@_setting("epochs", _COUNT, "Passes over the training examples.")
@_setting("batch_size", _COUNT, "Examples a forward.  [default: 32, of language models 8]")
@_setting("accumulate", _COUNT, "Forwards an optimiser step.")
@_setting("schedule", click.Choice(list(SCHEDULES)), "Of the learning rates.")
@_setting("patience", _COUNT, "Epochs without improvement of --validation before it ends.  [default: no such end]")
@_setting("max_tokens", click.IntRange(3), "Tokens of a text that are read.  [default: all that fit]")
@_setting("augment", click.Choice(list(AUGMENTATIONS)), "What happens to images in each epoch.")
@_setting("pixel_form", click.Choice(list(PIXEL_FORMS)), "Where in the image a pixel prompt is.")
@_setting("template", str, "The text put around every text.")
@click.option(
    "--chat", is_flag=True, help="Put every text into the language model's chat template, as a user's message."
)
@_setting("system", str, "The system message before it.  [default: the chat template's]")
@click.option(
    "--dropout/--no-dropout", default=TuneSettings().dropout, show_default=True, help="The network's own, while tuning."
)
@_setting("precision", click.Choice(list(PRECISIONS)), "Of matrix products; bf16 is quicker where the CPU has it.")
@_setting("dtype", click.Choice(list(DTYPES)), "Of the file.")
@_setting("seed", int, "For the order, and what is drawn.")
@loading_options
def command(
    model: str,
    train: Path,
    output: Path,
    validation: Path | None,
    task: str | None,
    pooling: str | None,
    options: LoadOptions,
    **settings: Any,
) -> None:
    """Tune a prompt for a task on a frozen backbone.

    MODEL is a local folder or a name on the hub; TRAIN is a .jsonl, .csv or .tsv file with the fields text and label;
    for language models also a .jsonl file with the fields prompt and completion, or messages; for images a .csv file
    with the fields path and label, or a folder that holds a folder of images a class.
    Ctrl-C ends tuning and keeps what it has.
    """
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TextColumn("{task.fields[accuracy]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        tuned = tune_prompt(
            model,
            train,
            output,
            validation_file=validation,
            settings=TuneSettings(**settings),
            task=task,
            pooling=pooling,
            options=options,
            observer=_ProgressBar(progress),
        )
    size_bytes = output.stat().st_size
    validated = "" if tuned.figures is None else f", validation {tuned.figures}"
    click.echo(f"wrote {output}: {size_bytes:,} bytes{validated}")
    if tuned.outcome.interrupted:
        click.echo(f"interrupted; kept what epoch {tuned.outcome.kept_epoch} had reached", err=True)
        sys.exit(130)
