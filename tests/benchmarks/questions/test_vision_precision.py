from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.questions import vision_precision
from benchmarks.questions.vision_precision import LINEAR, RIGHT, Data, measure
from examples.real_images import Digit
from tests.benchmarks.written import written
from tests.conftest import write_tiny_image_network

SIZE = 32


def test_speed_size_and_accuracy_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_precision, "IMAGE_SIZE", SIZE)
    write_tiny_image_network(tmp_path / "tiny", "ViTForImageClassification")
    random = np.random.default_rng(0)
    images = [Digit(random.integers(0, 256, (28, 28), np.uint8), label) for label in list(range(10)) * 3]
    found = measure((SIZE,), ("openvino",), tmp_path / "tiny", 2, 1, Data(images, images[:20], ()), tmp_path / "kept")
    names = [one.name for one in found.series]
    assert f"openvino, int8, {SIZE} px: latency" in names
    right = [one for one in found.series if f": {RIGHT}, {LINEAR}" in one.name]
    assert len(right) == 4
    assert all(0 <= one.samples[0] <= 100 for one in right)
    assert [ratio.goal for ratio in found.ratios if "latency" in ratio.name] == [None, 1.8, None]
    assert [chart.title for chart in written(found, tmp_path).charts] == [
        f"Time per image of {SIZE} px",
        f"Accuracy: {LINEAR}",
    ]
