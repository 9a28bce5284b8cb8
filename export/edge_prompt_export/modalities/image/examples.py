"""Training images: preprocessed once, and augmented again in every epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt_export.modalities.image.augment import AUGMENTATIONS
from edge_prompt_export.training.examples import Batch
from edge_prompt_runtime.inputs.image import prepare_image

if TYPE_CHECKING:
    from edge_prompt_runtime.inputs.image.files import ImageInput

LARGEST_KEPT_BYTES = 2**31
"""Memory for preprocessed float32 images; images beyond it are read again in every epoch."""


class ImageExamples:
    """Labelled images; see `Examples`.

    The device runtime preprocesses them, so a prompt is tuned on exactly the pixel values that a device computes.

    Args:
        images: Paths, arrays, or other images that `edge_prompt_runtime.inputs.image` reads.
        labels: The class index of each image.
        settings: The preprocessing settings.
        augment: A key of `AUGMENTATIONS`, applied in training.
        seed: Random seed of the augmentation.
    """

    def __init__(
        self, images: Sequence[ImageInput], labels: Sequence[int], settings: ImageSettings, augment: str, seed: int
    ) -> None:
        self._images = images
        self._labels = torch.tensor(labels)
        self._settings = settings
        self._augment = AUGMENTATIONS[augment]
        self._random = torch.Generator().manual_seed(seed)
        self._kept: dict[int, Tensor] = {}
        self._bytes_in_memory = 0

    def __len__(self) -> int:
        """The number of images."""
        return len(self._images)

    def shuffled(self, batch_size: int, rng: random.Random) -> Iterator[Batch]:
        """All images once, in random order and augmented."""
        order = list(range(len(self)))
        rng.shuffle(order)
        for batch in self._batches(order, batch_size):
            augmented = self._augment(batch.request["pixel_values"], self._random)
            yield Batch({"pixel_values": augmented}, batch.labels)

    def ordered(self, batch_size: int) -> Iterator[Batch]:
        """All images once, in order and without augmentation."""
        return self._batches(range(len(self)), batch_size)

    def _batches(self, order: Sequence[int], batch_size: int) -> Iterator[Batch]:
        for start in range(0, len(order), batch_size):
            rows = list(order[start : start + batch_size])
            pixel_values = torch.stack([self._prepared(row) for row in rows])
            yield Batch({"pixel_values": pixel_values}, self._labels[rows])

    def _prepared(self, row: int) -> Tensor:
        if row not in self._kept:
            prepared = torch.from_numpy(prepare_image(self._images[row], self._settings).pixel_values)
            if self._bytes_in_memory + prepared.nbytes > LARGEST_KEPT_BYTES:
                return prepared
            self._kept[row] = prepared
            self._bytes_in_memory += prepared.nbytes
        return self._kept[row]
