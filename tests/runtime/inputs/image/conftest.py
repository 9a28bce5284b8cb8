"""Fixtures for tests of images: pictures, and transformers' image processors as the reference."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import pytest
from PIL import Image

MakeProcessor = Callable[..., Any]


@pytest.fixture(scope="session")
def processor_of() -> MakeProcessor:
    """Create transformers' Pillow image processor: `processor_of("ViT", **fields)`."""

    def make(family: str, **fields: Any) -> Any:
        name = family.lower()
        module = import_module(f"transformers.models.{name}.image_processing_pil_{name}")
        return getattr(module, f"{family}ImageProcessorPil")(**fields)

    return make


@pytest.fixture(scope="session")
def picture() -> Callable[[int, int], Image.Image]:
    """Create an RGB picture of a given size, a gradient with noise: it has every value, and edges for the filters."""

    def make(height: int, width: int) -> Image.Image:
        rows, columns = np.mgrid[0:height, 0:width]
        smooth = np.stack([rows * 3 + columns, rows + columns * 2, rows ^ columns], axis=-1)
        noise = np.random.default_rng(height * 10_000 + width).integers(0, 64, (height, width, 3))
        return Image.fromarray(((smooth + noise) % 256).astype(np.uint8))

    return make
