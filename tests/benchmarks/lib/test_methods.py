from __future__ import annotations

from pathlib import Path

import pytest
import torch

from benchmarks.lib.methods import LORA_RANK, METHODS, FineTuned, Trial, compare, over_rows, score
from benchmarks.questions.quality import drawn
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.settings import TuneSettings
from edge_prompt_runtime.bench.results import Results
from tests.conftest import HIDDEN_SIZE, LAYERS

LABELS = ("few", "many")
EXAMPLES = [Example(f"w{number} w{number % 7}", LABELS[number > 20]) for number in range(40)]


def trial_of(folder: Path, seed: int = 0) -> Trial:
    settings = TuneSettings(epochs=1, batch_size=8, virtual_tokens=2, seed=seed)
    return Trial(load_backbone(str(folder)), EXAMPLES, EXAMPLES[::2], LABELS, settings, 1e-3)


def test_every_method_is_trained_and_scored_on_the_same_rows(tiny_backbone: Path) -> None:
    found = compare(
        ("a",), ("linear", "soft", "prefix", "LoRA", "full"), 2, lambda _, seed: trial_of(tiny_backbone, seed), "prefix"
    )
    by_name = {one.name: one for one in found.series}
    assert {name: len(one.samples) for name, one in by_name.items()}.items() >= {"a: linear": 1, "a: LoRA": 2}.items()
    assert all(0 <= one.median.value <= 100 for one in found.series if one.unit == "%")
    head = 4 * 2 * (HIDDEN_SIZE + 1)
    projections = 4 * LAYERS
    sizes = {name: sum(one.samples) for name, one in by_name.items()}
    assert sizes["a: linear, trained bytes"] == head
    assert sizes["a: soft, trained bytes"] == head + 2 * 2 * HIDDEN_SIZE
    assert sizes["a: LoRA, trained bytes"] == head + 2 * projections * 2 * LORA_RANK * HIDDEN_SIZE
    results = Results("quality", "?", "", 0, {}, {}, {}, **found._asdict())
    assert all(results.value(one).value > 0 for one in found.ratios)
    assert {name for chart in found.charts for name in chart.series} <= by_name.keys()
    assert "over 20 test rows" in found.notes[0]


@pytest.mark.parametrize("method", ["LoRA", "full"])
def test_the_network_is_trained_and_scored_in_the_precision_of_its_file(tiny_backbone: Path, method: str) -> None:
    trial = trial_of(tiny_backbone)
    before = [weight.clone() for weight in load_backbone(str(tiny_backbone)).module.parameters()]
    classifier = METHODS[method](trial)
    assert isinstance(classifier, FineTuned)
    trained = classifier.trained()
    if method == "LoRA":
        assert all(torch.equal(weight, weight.half().float()) for weight in trained)
        assert any(weight.abs().max() > 0 for weight in trained if weight.shape[1] == LORA_RANK)  # they start at 0
    else:
        assert any(not torch.equal(old, new) for old, new in zip(before, trained, strict=True))


def test_the_interval_reflects_the_number_of_rows(tiny_backbone: Path) -> None:
    scored = score("linear", trial_of(tiny_backbone))
    assert scored.rows == 20
    (said,) = over_rows({("a", "linear"): [scored._replace(right=10)]}, ["a"])
    assert "linear 50.0 (25.0 to 7" in said or "linear 50.0 (30.0 to 7" in said


def test_rows_are_drawn_reproducibly() -> None:
    assert drawn(range(100), 5) == drawn(range(100), 5)
    assert len(drawn(range(3), 5)) == 3
