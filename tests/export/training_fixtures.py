from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from edge_prompt_export.modalities.image.backbone import ImageBackbone
from edge_prompt_export.modalities.image.network import ConditionedVision
from edge_prompt_export.modalities.language.backbone import LanguageBackbone
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.modalities.text.backbone import TextBackbone
from edge_prompt_export.training.data import Example

RED, BLUE = [f"w{number}" for number in range(20)], [f"w{number}" for number in range(20, 40)]


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tiny networks are faster on one thread, and much faster if other workers run at the same time."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def loaded(tiny_backbone: Path) -> TextBackbone:
    backbone = load_backbone(str(tiny_backbone))
    assert isinstance(backbone, TextBackbone)
    return backbone


@pytest.fixture(scope="session")
def loaded_language(tiny_language: Path) -> LanguageBackbone:
    backbone = load_backbone(str(tiny_language))
    assert isinstance(backbone, LanguageBackbone)
    return backbone


@pytest.fixture(scope="session")
def tiny_image_backbone(tiny_image_bundle: Path) -> Path:
    """The folder of the random ViT of `tiny_image_bundle`, which has a head for three classes of images."""
    return tiny_image_bundle.with_name(f"{tiny_image_bundle.name}_backbone")


@pytest.fixture(scope="session")
def image_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Forty pictures of two classes that differ in colour, one subfolder per class; do not modify them."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    for label, colour in (("warm", (200, 120, 40)), ("cold", (40, 110, 200))):
        (folder / label).mkdir()
        for number in range(20):
            noise = random.integers(-40, 41, (24, 36, 3))
            Image.fromarray((noise + colour).astype(np.uint8)).save(folder / label / f"{number}.png")
    return folder


@pytest.fixture(scope="session")
def loaded_vision(tiny_image_backbone: Path) -> ImageBackbone:
    backbone = load_backbone(str(tiny_image_backbone))
    assert isinstance(backbone, ImageBackbone)
    return backbone


@pytest.fixture(scope="session")
def trained_vision(loaded_vision: ImageBackbone) -> ConditionedVision:
    return loaded_vision.module


@pytest.fixture(scope="session")
def examples() -> list[Example]:
    """Two classes that differ in their words."""
    rng = random.Random(0)
    words = {"red": RED, "blue": BLUE}
    return [
        Example(" ".join(rng.choices(words[label], k=rng.randint(2, 9))), label)
        for label in ("red", "blue")
        for _ in range(60)
    ]


@pytest.fixture
def train_file(tmp_path: Path, examples: list[Example]) -> Path:
    path = tmp_path / "train.jsonl"
    path.write_text("".join(json.dumps(example._asdict()) + "\n" for example in examples), encoding="utf-8")
    return path


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write a file: `written("data.csv", content)` returns its path."""

    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write
