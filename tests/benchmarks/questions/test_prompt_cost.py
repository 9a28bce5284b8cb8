from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import pytest
import torch
from numpy.typing import NDArray
from transformers import AutoModel, ViTConfig, ViTModel

from benchmarks.lib.prompt_graphs import made_by, opened_graphs
from benchmarks.lib.publish import Measured
from benchmarks.questions.prompt_cost import Call, image_network, measure_on, require_equal, text_network
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_runtime.engines.base import Engine
from tests.benchmarks.written import written


def measured(conditioned: ConditionedModule, graphs: Mapping[str, Engine]) -> Measured:
    return measure_on("here", conditioned, graphs, (50,), 2, perf_counter_ns)


def tiny_vit() -> ViTModel:
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    return ViTModel(ViTConfig(image_size=32, patch_size=8, **sizes), add_pooling_layer=False)


@pytest.fixture
def tiny_text(tiny_backbone: Path) -> ConditionedModule:
    return text_network(AutoModel.from_pretrained(tiny_backbone))


def test_every_kind_and_length_is_measured_for_images(tmp_path: Path) -> None:
    vision = image_network(tiny_vit(), (32, 32))
    graphs = opened_graphs("tiny", vision, "openvino", 1, tmp_path)
    assert sorted(graphs) == ["naive", "ours", "plain"]
    found = measured(vision, graphs)
    kinds = ["plain 0", "none 0", "pixel 0", *(f"{kind} 50" for kind in ("naive", "folded", "soft"))]
    assert [one.name for one in found.series[: len(kinds)]] == [f"here: {kind}" for kind in kinds]
    assert [ratio.goal for ratio in found.ratios] == [1.02, 1.05]
    (chart,) = written(found, tmp_path).charts
    assert list(chart.limits) == ["a graph without prompt inputs"]
    assert not {"here: plain 0", "here: pixel 0"} & set(chart.series)


def test_graphs_are_made_once_per_weights(tiny_text: ConditionedModule, tmp_path: Path) -> None:
    found = measured(tiny_text, opened_graphs("tiny", tiny_text, "openvino", 1, tmp_path))
    assert {one.line for one in found.series} >= {"plain", "none", "soft", "prefix"}
    assert [ratio.goal for ratio in found.ratios] == [1.02, None]
    (made,) = tmp_path.iterdir()
    stamp = (made / "ours" / "openvino_model.xml").stat().st_mtime_ns
    opened_graphs("tiny", tiny_text, "openvino", 1, tmp_path)
    assert (made / "ours" / "openvino_model.xml").stat().st_mtime_ns == stamp
    before = made_by(tiny_text)
    with torch.no_grad():
        next(tiny_text.parameters()).add_(1)
    assert made_by(tiny_text) != before


def test_graphs_that_disagree_are_not_timed(tiny_text: ConditionedModule, tmp_path: Path) -> None:
    class Engines:
        """Gives what it is fed."""

        def run(self, feeds: Mapping[str, NDArray[Any]], outputs: tuple[str, ...]) -> dict[str, NDArray[Any]]:
            return dict.fromkeys(outputs, feeds["x"])

    one, other = (Call("any", {"x": torch.ones(2).mul(n).numpy()}, kind, 0) for n, kind in ((1, "none"), (2, "plain")))
    with pytest.raises(SystemExit, match="none 0 differs from plain 0"):
        require_equal("here", [one, other], {"any": Engines()})  # type: ignore[dict-item]
