from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_prompt.base.errors import InputError
from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.image import examples as image_batches
from edge_prompt_export.modalities.image.examples import ImageExamples
from edge_prompt_export.training.examples import Batch
from edge_prompt_runtime.inputs.image import prepare_image

SIZES = [(40, 30), (32, 32), (20, 50), (64, 64), (31, 33)]


@pytest.fixture
def settings(loaded_vision: LoadedBackbone) -> ImageSettings:
    assert isinstance(loaded_vision.preprocessing, ImagePreprocessing)
    assert loaded_vision.preprocessing.settings is not None
    return loaded_vision.preprocessing.settings


@pytest.fixture
def paths(make_image: Callable[..., Path]) -> list[Path]:
    return [make_image(f"picture_{row}", *size) for row, size in enumerate(SIZES)]


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The images that were read, in order."""
    seen: list[Any] = []

    def noting(image: Any, settings: ImageSettings) -> Any:
        seen.append(image)
        return prepare_image(image, settings)

    monkeypatch.setattr(image_batches, "prepare_image", noting)
    return seen


def pixel_values_of(batches: Iterable[Batch]) -> torch.Tensor:
    return torch.cat([batch.request["pixel_values"] for batch in batches])


def test_images_are_prepared_as_the_device_does(paths: list[Path], settings: ImageSettings) -> None:
    rows = ImageExamples(paths, [0, 1, 2, 0, 1], settings, "none", seed=0)
    assert len(rows) == 5
    batches = list(rows.ordered(2))
    assert [len(batch.labels) for batch in batches] == [2, 2, 1]
    assert torch.cat([batch.labels for batch in batches]).tolist() == [0, 1, 2, 0, 1]
    assert {batch.labels.dtype for batch in batches} == {torch.int64}
    wanted = np.stack([prepare_image(path, settings).pixel_values for path in paths])
    found = pixel_values_of(batches)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), wanted)


def test_an_image_is_read_once(paths: list[Path], settings: ImageSettings, read: list[Any]) -> None:
    rows = ImageExamples(paths, [0] * 5, settings, "none", seed=0)
    first, second = (pixel_values_of(rows.ordered(2)) for _ in range(2))
    list(rows.shuffled(3, random.Random(0)))
    assert read == paths
    assert torch.equal(first, second)


def test_beyond_the_budget_images_are_read_anew(
    paths: list[Path], settings: ImageSettings, read: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = prepare_image(paths[0], settings).pixel_values.nbytes
    monkeypatch.setattr(image_batches, "LARGEST_KEPT_BYTES", 2 * one)
    rows = ImageExamples(paths, [0] * 5, settings, "none", seed=0)
    first, second = (pixel_values_of(rows.ordered(2)) for _ in range(2))
    assert read == [*paths, *paths[2:]]
    assert torch.equal(first, second)


def test_training_sees_images_moved_and_validation_as_they_are(paths: list[Path], settings: ImageSettings) -> None:
    plain, moved = (ImageExamples(paths, range(5), settings, augment, seed=0) for augment in ("none", "move"))
    wanted = pixel_values_of(plain.ordered(5))
    epochs = [next(moved.shuffled(5, random.Random(3))) for _ in range(2)]
    still = next(plain.shuffled(5, random.Random(3)))
    assert torch.equal(still.request["pixel_values"], wanted[still.labels])
    assert all(torch.equal(epoch.labels, still.labels) for epoch in epochs)
    assert not torch.allclose(epochs[0].request["pixel_values"], still.request["pixel_values"], atol=0.1)
    assert not torch.allclose(epochs[0].request["pixel_values"], epochs[1].request["pixel_values"], atol=0.1)
    assert torch.equal(pixel_values_of(moved.ordered(2)), wanted)


def test_a_seed_gives_the_same_epochs(paths: list[Path], settings: ImageSettings) -> None:
    first, second, other = (
        pixel_values_of(ImageExamples(paths, [0] * 5, settings, "move", seed).shuffled(2, random.Random(0)))
        for seed in (1, 1, 2)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)


PIXELS = ImageSettings(
    resize="none",
    size=(),
    multiple=1,
    resample=2,
    crop_size=(),
    rescale_factor=1.0,
    image_mean=(0.0, 0.0, 0.0),
    image_std=(1.0, 1.0, 1.0),
    pad="none",
    pad_size=(),
)
"""Pixel values are the image's own bytes."""


@given(st.integers(1, 40), st.integers(1, 9), st.integers(0, 99))
def test_an_epoch_sees_every_image_once_with_its_label(count: int, batch_size: int, seed: int) -> None:
    images = [np.full((1, 1, 3), number, np.uint8) for number in range(count)]
    rows = ImageExamples(images, [number % 5 for number in range(count)], PIXELS, "none", seed=0)
    batches = list(rows.shuffled(batch_size, random.Random(seed)))
    assert all(len(batch.labels) == batch_size for batch in batches[:-1])
    seen = [
        (int(image[0, 0, 0]), int(label))
        for batch in batches
        for image, label in zip(batch.request["pixel_values"], batch.labels, strict=True)
    ]
    assert sorted(seen) == [(number, number % 5) for number in range(count)]


def test_epochs_differ_in_order() -> None:
    rows = ImageExamples([np.zeros((1, 1, 3), np.uint8)] * 64, range(64), PIXELS, "none", seed=0)
    rng = random.Random(0)
    first, second = ([batch.labels.tolist() for batch in rows.shuffled(8, rng)] for _ in range(2))
    assert first != second


def test_a_broken_image_is_named(paths: list[Path], settings: ImageSettings) -> None:
    paths[3].write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"picture_3\.png"):
        list(ImageExamples(paths, [0] * 5, settings, "none", seed=0).ordered(2))
