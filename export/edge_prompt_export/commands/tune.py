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
from edge_prompt_export.training.metrics import PRECISIONS, Metrics
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

    def epoch(self, epoch: int, figures: Metrics, *, best: bool) -> None:
        self._progress.update(self._bar, accuracy=f"validation {figures.right:.1%}")
        self._progress.console.print(f"epoch {epoch}: validation {figures}{' (best)' if best else ''}")


def _setting(name: str, kind: Any, text: str) -> Callable[[F], F]:
    """An option for the field `name` of `TuneSettings`, with that field's default."""
    default = getattr(TuneSettings(), name)
    shown = {} if default is None else {"default": default, "show_default": True}
    return click.option(f"--{name.replace('_', '-')}", type=kind, help=text, **shown)


_COUNT = click.IntRange(1)
_RATE = click.FloatRange(0, min_open=True)
_FILE = click.Path(path_type=Path)


@click.command("tune")
@click.argument("model")
@click.argument("train", type=_FILE)
@click.option("--output", "-o", type=_FILE, required=True, help="Prompt file (.npy) to write.")
@click.option("--validation", type=_FILE, help="Validation examples that select the best epoch.  [default: last epoch]")
@_setting("kind", click.Choice(KINDS), "Kind of prompt, which determines where it enters the network.")
@_setting("virtual_tokens", _COUNT, "Length of the prompt.  [default: 64 for a prefix of a text encoder, otherwise 16]")
@_setting(
    "head", click.Choice(HEADS), "Train a linear head for this task, or use the network's own head.  [default: linear]"
)
@_setting("init", click.Choice([*INITS, *IMAGE_INITS]), "Initialisation of the prompt.  [default: the training data]")
@_setting("init_text", str, "Text to initialise the prompt with if --init is text.")
@_setting("learning_rate", _RATE, "Learning rate of the prompt.  [default: depends on the kind]")
@_setting("head_learning_rate", _RATE, "Learning rate of the head.")
@_setting("epochs", _COUNT, "Number of passes over the training examples.")
@_setting("batch_size", _COUNT, "Batch size of one forward pass.  [default: 32; 8 for language models]")
@_setting("accumulate", _COUNT, "Forward passes per optimiser step (gradient accumulation).")
@_setting("schedule", click.Choice(list(SCHEDULES)), "Learning-rate schedule.")
@_setting("patience", _COUNT, "Stop after this many epochs without improvement on --validation.  [default: never]")
@_setting(
    "max_tokens",
    click.IntRange(3),
    "Maximum number of tokens per text; longer texts are truncated.  [default: as many as fit]",
)
@_setting("augment", click.Choice(list(AUGMENTATIONS)), "Augmentation of the training images.")
@_setting("pixel_form", click.Choice(list(PIXEL_FORMS)), "Region of the image that a pixel prompt covers.")
@_setting("template", str, "Template that every text is put into.")
@click.option("--chat", is_flag=True, help="Put every text into the language model's chat template, as a user message.")
@_setting("system", str, "System message for --chat.  [default: that of the chat template]")
@click.option(
    "--dropout/--no-dropout",
    default=TuneSettings().dropout,
    show_default=True,
    help="Apply the network's own dropout during tuning.",
)
@_setting(
    "precision", click.Choice(list(PRECISIONS)), "Precision of matrix products; bf16 is faster on CPUs that support it."
)
@_setting("dtype", click.Choice(list(DTYPES)), "Data type of the prompt file.")
@_setting("seed", int, "Random seed.")
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

    MODEL is a local folder or a model name on the hub. TRAIN depends on the modality. For text it is a .jsonl, .csv or
    .tsv file with the fields text and label. For language models it may also be a .jsonl file with the fields prompt
    and completion, or with the field messages. For images it is a .csv file with the fields path and label, or a
    folder with one subfolder of images per class. Ctrl-C stops tuning early and writes the prompt as trained so far.
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
        click.echo(f"interrupted; wrote the prompt as of epoch {tuned.outcome.kept_epoch}", err=True)
        sys.exit(130)
