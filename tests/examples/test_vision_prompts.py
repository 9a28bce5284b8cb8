from __future__ import annotations

import numpy as np
import pytest

from edge_prompt.formats.prompt import read_prompt
from edge_prompt_export import export_backbone
from edge_prompt_runtime import Runtime
from examples.demo_vision import PROMPTS, draw_sheet
from examples.real_images import IMAGE_TASKS, digits, dinov2, examples_of
from examples.tune_image_prompts import KINDS

LEAST_ACCURACY = {"digits": 0.9, "parity": 0.9, "four-or-nine": 0.85}
IMAGES = 60


@pytest.mark.parametrize("task", IMAGE_TASKS)
def test_every_prompt_is_small_and_has_a_card_with_labels_and_head(task: str) -> None:
    prompt = read_prompt(PROMPTS / f"{task}.npy")
    assert prompt.array.nbytes < 200_000
    assert prompt.card is not None
    assert prompt.card.kind == KINDS[task]
    assert set(prompt.card.labels) == set(IMAGE_TASKS[task].labels.values())
    assert prompt.head is not None


def test_there_is_a_prompt_for_every_task() -> None:
    assert {path.stem for path in PROMPTS.glob("*.npy")} == set(IMAGE_TASKS)


@pytest.mark.real_weights
def test_one_network_answers_all_tasks_and_the_sheet_is_drawn(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("dinov2")
    export_backbone(dinov2(), folder / "bundle", formats=("onnx",))
    runtime = Runtime(folder / "bundle", "onnxruntime")
    runtime.load_all(PROMPTS)  # refused if they were tuned on another network
    test = digits()[1]
    for task, least in LEAST_ACCURACY.items():
        examples = examples_of(task, test)
        examples = examples[:: len(examples) // IMAGES][:IMAGES]
        answers = runtime.classify([image for image, _ in examples], task=task)
        right = np.mean([answer.label == label for answer, (_, label) in zip(answers, examples, strict=True)])
        assert right >= least, task
    draw_sheet(runtime, [digit.image for digit in test[::25]], folder / "sheet.png")
    assert (folder / "sheet.png").stat().st_size > 1000
