"""Three image tasks on one image backbone: the network is exported once, each task is a prompt of another kind.

make demo-vision         # accuracy on a sample of the test images
make demo-vision FULL=1  # on all of them

The prompts in `examples/prompts/vision/` were tuned on the training split by `examples/tune_image_prompts.py`: ten
digits by a deep prompt (folded when it is loaded), odd or even by a soft prompt, four or nine by a pixel prompt. This
script exports the network, classifies an image under all tasks in one batch, draws a sheet of images with their answers
under two tasks, and measures accuracy on both engines.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.table import Table

import edge_prompt_export
from edge_prompt_runtime import Runtime
from examples.accuracy import Accuracy, sample
from examples.console import ENGINE_NAMES, announce, console, demo_parser, quiet_libraries, step, tracked
from examples.demo import task_bytes
from examples.real_data import CACHE, ROOT
from examples.real_images import IMAGE_TASKS, digits, dinov2, examples_of

PROMPTS = Path(__file__).resolve().parent / "prompts" / "vision"
SAMPLE = 200
BATCH_SIZE = 50
SHEET_TASKS = ("digits", "parity")
SHEET_COLUMNS, SHEET_ROWS = 8, 5
CELL_WIDTH, CELL_HEIGHT, DIGIT_SIDE = 104, 132, 84


class Answer(NamedTuple):
    """One answer of the first batch: the task, the kind of its prompt, and the label and score that were given."""

    task: str
    kind: str
    label: str
    score: float


def main() -> None:
    """Export the network, classify, draw, measure, and print the tables."""
    full = demo_parser(__doc__ or "").parse_args().full
    quiet_libraries()
    console.print("[bold]One image backbone, three tasks[/bold]")
    with step("Getting DINOv2-small (fine-tuned for saliency) and handwritten digits"):
        backbone, test = dinov2(), digits()[1]
    rows = {task: sample(examples_of(task, test), None if full else SAMPLE) for task in IMAGE_TASKS}
    bundle = CACHE / "demo-vision" / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    with step("Exporting the network once, for ONNX Runtime and OpenVINO"):
        manifest = edge_prompt_export.export_backbone(backbone, bundle).manifest
    accuracies: dict[tuple[str, str], Accuracy] = {}
    sheet = bundle.parent / "sheet.png"
    for number, engine in enumerate(manifest.graphs):
        runtime = Runtime(bundle, engine)
        runtime.load_all(PROMPTS)
        if number == 0:
            announce("First answers:")
            nine = next(digit.image for digit in test if digit.digit == 9)
            console.print(answers_table(answers_to(runtime, nine)))
            with step("Drawing a sheet of images with their answers"):
                shown = test[:: len(test) // (SHEET_COLUMNS * SHEET_ROWS)]
                draw_sheet(runtime, [digit.image for digit in shown], sheet)
        for task, examples in rows.items():
            accuracies[task, engine] = accuracy_of(runtime, task, examples)
    kinds = {task: runtime.task(task).kind for task in IMAGE_TASKS}
    network_bytes = 4 * manifest.backbone.num_parameters
    console.print(accuracy_table(accuracies, kinds, tuple(manifest.graphs), network_bytes))
    if full:
        console.print("Accuracy on the whole test split, with 95% confidence intervals.")
    else:
        console.print(f"Accuracy on {SAMPLE} random test images per task, with 95% confidence intervals.")
        console.print("For the whole test split, run [bold]make demo-vision FULL=1[/bold].")
    console.print(f"Images with their answers under two tasks: {sheet.relative_to(ROOT)}")
    announce("Done")


def answers_to(runtime: Runtime, image: NDArray[np.uint8]) -> list[Answer]:
    """Classify one image under every task, all in one batch."""
    answers = runtime.classify([image] * len(IMAGE_TASKS), task=list(IMAGE_TASKS))
    return [
        Answer(task, runtime.task(task).kind, answer.label, answer.score)
        for task, answer in zip(IMAGE_TASKS, answers, strict=True)
    ]


def accuracy_of(runtime: Runtime, task: str, examples: Sequence[tuple[NDArray[np.uint8], str]]) -> Accuracy:
    """The accuracy of `runtime` on `examples` under `task`."""
    batches = [examples[start : start + BATCH_SIZE] for start in range(0, len(examples), BATCH_SIZE)]
    right = 0
    for batch in tracked(batches, f"{ENGINE_NAMES[runtime.engine]}: classifying {len(examples):,} images for {task}"):
        answers = runtime.classify([image for image, _ in batch], task=task)
        right += sum(answer.label == label for answer, (_, label) in zip(answers, batch, strict=True))
    return Accuracy(right, len(examples))


def draw_sheet(runtime: Runtime, images: list[NDArray[np.uint8]], path: Path) -> None:
    """Draw images with their answers under two tasks; one batch asks about each image twice, under a different task."""
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


def answers_table(answers: Sequence[Answer]) -> Table:
    """One image under every task."""
    table = Table("task", "kind of prompt", "answer", title="One handwritten 9, a different task in each row")
    for answer in answers:
        table.add_row(answer.task, answer.kind, f"{answer.label} ({answer.score:.0%})")
    return table


def accuracy_table(
    accuracies: Mapping[tuple[str, str], Accuracy],
    kinds: Mapping[str, str],
    engines: Sequence[str],
    network_bytes: int,
) -> Table:
    """The accuracy of every task on every engine, and what it needs compared with a network of its own."""
    table = Table(title=f"A prompt and a head instead of a network ({network_bytes / 1e6:.1f} MB)")
    for name in ("task", "kind"):
        table.add_column(name)
    for name in (*(f"accuracy,\n{ENGINE_NAMES[engine]}" for engine in engines), "prompt\nand head"):
        table.add_column(name, justify="right")
    for task, kind in kinds.items():
        table.add_row(
            task,
            kind,
            *(str(accuracies[task, engine]) for engine in engines),
            f"{task_bytes(PROMPTS, task) / 1e3:.0f} kB",
        )
    return table


if __name__ == "__main__":
    main()
