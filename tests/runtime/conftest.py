"""Fixtures for tests of the runtime."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_prompt import Bundle, read_bundle
from edge_prompt_runtime import Runtime
from tests.conftest import AssertClose


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    """The tiny bundle, opened."""
    return read_bundle(tiny_bundle)


@pytest.fixture
def runtime(tiny_bundle: Path, engine: str) -> Runtime:
    """The tiny bundle on each engine in turn."""
    return Runtime(tiny_bundle, engine, threads=1)


@pytest.fixture
def classifier(tiny_image_bundle: Path, engine: str) -> Runtime:
    """The tiny bundle that classifies images, on each engine in turn."""
    return Runtime(tiny_image_bundle, engine, threads=1)


@pytest.fixture
def detector(tiny_detector_bundle: Path, engine: str) -> Runtime:
    """The tiny bundle that detects objects, on each engine in turn."""
    return Runtime(tiny_detector_bundle, engine, threads=1)


@pytest.fixture
def segmenter(tiny_segmenter_bundle: Path, engine: str) -> Runtime:
    """The tiny bundle that labels pixels, on each engine in turn."""
    return Runtime(tiny_segmenter_bundle, engine, threads=1)


@pytest.fixture
def assert_close() -> AssertClose:
    """The project's tolerance: 1e-4, relative to `max(1, |reference|)`."""

    def close(found: NDArray[Any], reference: NDArray[Any]) -> None:
        assert found.shape == reference.shape
        tolerance = 1e-4 * max(1.0, float(np.abs(reference).max()))
        np.testing.assert_allclose(found, reference, rtol=0, atol=tolerance)

    return close
