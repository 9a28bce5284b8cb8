from __future__ import annotations

import pytest
import torch
from torch import Tensor

from edge_prompt_export.modalities.image.augment import (
    AUGMENTATIONS,
    LARGEST_SCALE,
    LARGEST_SHIFT,
    LARGEST_TURN_RADIANS,
)

MOVING = ["move", "move-and-mirror"]


def augmented(name: str, images: Tensor, seed: int = 0) -> Tensor:
    return AUGMENTATIONS[name](images, torch.Generator().manual_seed(seed))


@pytest.fixture
def images() -> Tensor:
    return torch.randn(6, 3, 20, 28, generator=torch.Generator().manual_seed(1))


def test_none_leaves_images_as_they_are(images: Tensor) -> None:
    assert torch.equal(augmented("none", images), images)


@pytest.mark.parametrize("name", MOVING)
def test_every_image_is_moved_differently(name: str, images: Tensor) -> None:
    before = images.clone()
    found = augmented(name, images[:1].expand_as(images))
    assert found.shape == images.shape
    assert found.dtype == images.dtype
    assert all(not torch.equal(image, images[0]) for image in found)
    assert all(not torch.equal(image, found[0]) for image in found[1:])
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", MOVING)
def test_an_image_of_one_colour_stays_unchanged(name: str) -> None:
    """The area outside is filled with the colour of the edge, not with black."""
    images = torch.tensor([-1.5, 0.25, 2.0]).view(1, 3, 1, 1).expand(5, 3, 20, 28)
    assert torch.allclose(augmented(name, images), images, atol=1e-5)


@pytest.mark.parametrize("name", MOVING)
def test_a_seed_gives_the_same_moves(name: str, images: Tensor) -> None:
    assert torch.equal(augmented(name, images, 7), augmented(name, images, 7))
    assert not torch.equal(augmented(name, images, 7), augmented(name, images, 8))


@pytest.mark.parametrize("name", MOVING)
def test_the_next_epoch_moves_differently(name: str, images: Tensor) -> None:
    random = torch.Generator().manual_seed(0)
    assert not torch.equal(AUGMENTATIONS[name](images, random), AUGMENTATIONS[name](images, random))


def test_a_move_is_small() -> None:
    """Pixel values that encode their own position show how far each pixel moved."""
    side = 64
    places = (torch.arange(side) + 0.5) / side * 2 - 1
    down, across = torch.meshgrid(places, places, indexing="ij")
    images = torch.stack([across, down]).expand(200, 2, side, side)
    moved = (augmented("move", images) - images).abs()
    largest = 2 * LARGEST_SHIFT + LARGEST_SCALE + (1 + LARGEST_SCALE) * LARGEST_TURN_RADIANS
    assert 0.5 * largest < moved.max() <= largest + 1e-4


def test_half_of_the_images_are_mirrored_and_none_is_by_a_move() -> None:
    """The brighter side distinguishes left from right, however an image was moved."""
    images = torch.linspace(-1, 1, 32).expand(400, 1, 32, 32)

    def mirrored(name: str) -> int:
        found = augmented(name, images)
        return int((found[..., :16].mean((1, 2, 3)) > found[..., 16:].mean((1, 2, 3))).sum())

    assert mirrored("move") == 0
    assert 150 < mirrored("move-and-mirror") < 250
