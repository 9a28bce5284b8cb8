from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_prompt_export.loading import LoadedBackbone, load_backbone
from edge_prompt_export.tuning.data import Example

RED, BLUE = [f"w{number}" for number in range(20)], [f"w{number}" for number in range(20, 40)]


@pytest.fixture(scope="session")
def loaded(tiny_backbone: Path) -> LoadedBackbone:
    return load_backbone(str(tiny_backbone))


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
    """Write a file: `written("data.csv", content)` gives its path."""

    def write(name: str, content: str) -> Path:
        path = tmp_path / name
        path.write_text(content, encoding="utf-8")
        return path

    return write
