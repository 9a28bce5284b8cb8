"""One real image backbone, exported once; three tasks on real images, each a prompt of another kind.

make demo-vision

The prompts in `examples/prompts/vision/` were tuned on the training split by `examples/tune_image_prompts.py`: ten
digits by a deep prompt (folded when it is loaded), odd or even by a soft prompt, four or nine by a pixel prompt. This
script exports the network, answers the whole test split on both engines, and draws a sheet of images with their answers
under two tasks.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from time import perf_counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from rich.progress import track
from rich.table import Table

from edge_prompt_export import export_backbone
from edge_prompt_runtime import Runtime
from examples.real_data import CACHE
from examples.real_images import IMAGE_TASKS, digits, dinov2, examples_of

PROMPTS = Path(__file__).resolve().parent / "prompts" / "vision"
BATCH_SIZE = 50
SHEET_TASKS = ("digits", "parity")
SHEET_COLUMNS, SHEET_ROWS = 8, 5
CELL_WIDTH, CELL_HEIGHT, DIGIT_SIDE = 104, 132, 84

console = Console()


class Score(NamedTuple):
    """One task on one engine."""

    task: str
    kind: str
    engine: str
    accuracy: float


def main() -> None:
    """Export, answer, draw, and print the table."""
    console.print(
        "[bold]One image backbone, three tasks[/bold]: getting DINOv2-small (fine-tuned for saliency) and digits"
    )
    backbone, test = dinov2(), digits()[1]
    bundle = CACHE / "demo-vision" / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    start = perf_counter()
    manifest = export_backbone(backbone, bundle).manifest
    console.print(f"exported once, for {' and '.join(manifest.graphs)}, in {perf_counter() - start:.0f} s")
    scores = []
    for engine in manifest.graphs:
        runtime = Runtime(bundle, engine)
        runtime.load_all(PROMPTS)
        for task in IMAGE_TASKS:
            accuracy = accuracy_of(runtime, task, examples_of(task, test))
            scores.append(Score(task, runtime.task(task).kind, engine, accuracy))
        if len(scores) == len(IMAGE_TASKS):
            sheet = bundle.parent / "sheet.png"
            draw_sheet(runtime, [digit.image for digit in test[:: len(test) // (SHEET_COLUMNS * SHEET_ROWS)]], sheet)
    show_scores(scores, network_bytes=4 * manifest.backbone.num_parameters)
    console.print(f"each image with its answers under two tasks, in one batch: {sheet.relative_to(Path.cwd())}")


def accuracy_of(runtime: Runtime, task: str, examples: list[tuple[NDArray[np.uint8], str]]) -> float:
    """The share of `examples` that `runtime` classifies right under `task`."""
    right = 0
    for start in track(
        range(0, len(examples), BATCH_SIZE), f"{runtime.engine}: {task}", console=console, transient=True
    ):
        batch = examples[start : start + BATCH_SIZE]
        answers = runtime.classify([image for image, _ in batch], task=task)
        right += sum(answer.label == label for answer, (_, label) in zip(answers, batch, strict=True))
    return right / len(examples)


def draw_sheet(runtime: Runtime, images: list[NDArray[np.uint8]], path: Path) -> None:
    """Draw images with their answers under two tasks; each image is asked about twice in one batch, a task a row."""
    images = images[: SHEET_COLUMNS * SHEET_ROWS]
    tasks = [task for _ in images for task in SHEET_TASKS]
    answers = runtime.classify([image for image in images for _ in SHEET_TASKS], task=tasks)
    sheet = Image.new("RGB", (SHEET_COLUMNS * CELL_WIDTH, SHEET_ROWS * CELL_HEIGHT), "white")
    draw = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        left, top = number % SHEET_COLUMNS * CELL_WIDTH, number // SHEET_COLUMNS * CELL_HEIGHT
        shown = Image.fromarray(image).resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.NEAREST)
        sheet.paste(shown, (left + (CELL_WIDTH - DIGIT_SIDE) // 2, top + 4))
        for line, answer in enumerate(answers[len(SHEET_TASKS) * number :][: len(SHEET_TASKS)]):
            text = f"{SHEET_TASKS[line]}: {answer.label}"
            draw.text((left + 10, top + DIGIT_SIDE + 8 + 16 * line), text, fill="black")
    sheet.save(path)


def show_scores(scores: list[Score], network_bytes: int) -> None:
    """The table of all tasks and engines."""
    table = Table(title="Each task: a prompt instead of a network")
    for column in ("task", "kind", "engine", "accuracy", "prompt + head", "network"):
        table.add_column(column, justify="left" if column in {"task", "kind", "engine"} else "right", no_wrap=True)
    for score in sorted(scores, key=lambda score: score.task):
        table.add_row(
            score.task,
            score.kind,
            score.engine,
            f"{score.accuracy:.1%}",
            f"{task_bytes(score.task) / 1e3:.0f} kB",
            f"{network_bytes / 1e6:.1f} MB",
        )
    console.print(table)


def task_bytes(task: str) -> int:
    """What a task needs on disk beside the one network: prompt, card and head."""
    return sum(path.stat().st_size for path in PROMPTS.glob(f"{task}.*"))


if __name__ == "__main__":
    main()
