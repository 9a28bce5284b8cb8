"""Requests with images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt_runtime.inputs.requests import Request
from edge_prompt_runtime.tasks.task import Task


class Reader:
    """Reads images; see `Requests`."""

    masked = False

    def __init__(self, bundle: Bundle) -> None:
        preprocessing = bundle.manifest.preprocessing
        assert isinstance(preprocessing, ImagePreprocessing)  # noqa: S101 - this reader is chosen by the preprocessing
        self._preprocessing = preprocessing

    def items(self, inputs: Any) -> tuple[list[Any], bool]:
        """Accept an image (a path, bytes, a Pillow image or an array), or a list of images."""
        return (list(inputs), False) if isinstance(inputs, list | tuple) else ([inputs], True)

    def encode(self, items: Sequence[Any], tasks: Sequence[Task]) -> Request:  # noqa: ARG002 - tasks do not matter
        """Read and preprocess images."""
        from edge_prompt_runtime.inputs.image import prepare_image  # noqa: PLC0415 - imports Pillow

        settings = self._preprocessing.settings
        if settings is None:
            raise InputError(
                found="this backbone was exported without preprocessor_config.json",
                wanted="arrays instead of images",
                remedy="preprocess the images yourself and pass pixel_values",
            )
        prepared = [prepare_image(item, settings) for item in items]
        images = [image.pixel_values for image in prepared]
        alike = len({image.shape for image in images}) == 1
        return Request(
            {"pixel_values": np.stack(images) if alike else images},
            len(images),
            sizes=tuple(image.sizes.original for image in prepared),
        )

    def take(self, arrays: Mapping[str, NDArray[Any]]) -> Request:
        """Check preprocessed images."""
        preprocessing = self._preprocessing
        height, width = preprocessing.height or "height", preprocessing.width or "width"
        wanted = f"pixel_values float32 [batch, {preprocessing.channels}, {height}, {width}]"
        if arrays.keys() != {"pixel_values"}:
            raise InputError(
                found=f"the arrays are named {sorted(arrays)}", wanted=wanted, remedy="pass only this array"
            )
        array = np.asarray(arrays["pixel_values"])
        lengths = (None, preprocessing.channels, preprocessing.height, preprocessing.width)
        fits = array.ndim == 4 and all(want in (None, have) for want, have in zip(lengths, array.shape, strict=True))
        if not fits or 0 in array.shape or array.dtype.kind != "f":
            raise InputError(
                found=f"pixel_values has shape {list(array.shape)} and dtype {array.dtype}",
                wanted=wanted,
                remedy="preprocess the images as the backbone requires, or pass the images themselves",
            )
        with np.errstate(over="ignore"):  # values beyond float32 become infinity, which is refused below
            array = array.astype(np.float32, copy=False)
        if not np.isfinite(array).all():
            raise InputError(
                found="pixel_values contains NaN or infinity",
                wanted="finite numbers",
                remedy="correct the preprocessing",
            )
        return Request({"pixel_values": array}, len(array))

    def require_room(self, request: Request, tasks: Sequence[Task]) -> None:
        """Do nothing: any prompt fits next to any image."""
