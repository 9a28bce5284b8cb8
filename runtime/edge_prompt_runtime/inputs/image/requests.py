"""Requests with images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import InputError
from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt_runtime.inputs.requests import Request, Tasks, one_per_row
from edge_prompt_runtime.tasks.task import Task


class ImageRequests:
    """Reads images; see `Requests`.

    Args:
        preprocessing: How an image becomes the inputs of the backbone.
    """

    def __init__(self, preprocessing: ImagePreprocessing) -> None:
        self._preprocessing = preprocessing

    def read(self, inputs: Any, tasks: Tasks) -> Request:
        """Preprocess an image (a path, bytes, a Pillow image or an array) or a list of them, or check `pixel_values`.

        Any prompt fits next to any image.
        """
        if isinstance(inputs, Mapping):
            pixel_values = self._checked(inputs)
            return Request({"pixel_values": pixel_values}, one_per_row(tasks, len(pixel_values)))
        single = not isinstance(inputs, list | tuple)
        items = [inputs] if single else inputs
        return self._prepared(items, one_per_row(tasks, len(items)), single=single)

    def _prepared(self, items: Sequence[Any], tasks: Sequence[Task], *, single: bool) -> Request:
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
        arrays: dict[str, NDArray[Any] | list[NDArray[Any]]] = {"pixel_values": np.stack(images) if alike else images}
        return Request(arrays, tasks, single, tuple(image.sizes.original for image in prepared))

    def _checked(self, arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float32]:
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
        return array
