from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_prompt.base.errors import ParityError
from edge_prompt.formats.bundle import REFERENCE_NAME, Bundle, read_bundle
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt.untrusted.npy import write_npy
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder
from edge_prompt_export.parity import LEAST_EFFECT, _require, measure_parity, write_reference
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE, difference

PREPROCESSING = TextPreprocessing(48, 64, 120, 2, 0, "mean", normalize=False)
SIZES = [(batch, sequence) for batch in (1, 3) for sequence in (2, 17)]


@pytest.fixture
def module(tiny_backbone: Path) -> ConditionedTextEncoder:
    module = load_backbone(str(tiny_backbone)).module
    assert isinstance(module, ConditionedTextEncoder)
    return module


@pytest.fixture
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.mark.parametrize("length", [0, 1, 16])
@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_an_engine_gives_what_torch_gives_at_every_size(
    kind: str, length: int, module: ConditionedTextEncoder, bundle: Bundle, engine: str, tmp_path: Path
) -> None:
    runtime = Runtime(bundle.folder, engine)
    soft, prefix = (length, 0) if kind == "soft" else (0, length)
    prompts = module.example_inputs(1, 2, soft, prefix, seed=5)
    if length:
        array = prompts["soft_prompt"][0] if kind == "soft" else prompts["prefix"][:, :, 0]
        write_npy(tmp_path / "task.npy", array.numpy())
        runtime.load("task", tmp_path / "task.npy")
    for batch, sequence in SIZES:
        inputs = module.example_inputs(batch, sequence, soft, prefix, seed=batch)
        inputs |= {name: prompts[name] for name in ("soft_prompt", "prefix")}
        mask = inputs["attention_mask"][:, length:]
        given = {"input_ids": inputs["input_ids"].numpy(), "attention_mask": mask.numpy()}
        with torch.no_grad():
            features, hidden = module(**inputs)
        found = runtime.infer(given, "task" if length else None)
        real = mask.numpy() > 0
        assert found["features"].dtype == found["last_hidden_state"].dtype == np.float32
        assert difference({"features": found["features"]}, {"features": features.numpy()}) <= TOLERANCE
        assert difference({"h": found["last_hidden_state"][real]}, {"h": hidden.numpy()[real]}) <= TOLERANCE


def test_differences_are_small_and_every_kind_has_an_effect(
    module: ConditionedTextEncoder, bundle: Bundle, engine: str
) -> None:
    figures = measure_parity(bundle, module, module.parity_requests(PREPROCESSING), engine)
    effect = figures.pop("effect")
    assert figures.keys() == {"torch", "length_0", "mixed_batch"}
    assert all(figure <= TOLERANCE for figure in figures.values())
    assert effect.keys() == {"soft", "prefix"}
    assert all(value > LEAST_EFFECT for value in effect.values())


def test_a_network_that_is_not_the_exported_one_fails(module: ConditionedTextEncoder, bundle: Bundle) -> None:
    module.model.encoder.layer[0].output.dense.weight[0].add_(0.01)
    with pytest.raises(ParityError, match=r"BertModel on onnxruntime differs from torch by .*at most 1e-04"):
        measure_parity(bundle, module, module.parity_requests(PREPROCESSING), "onnxruntime")


def test_a_network_that_is_not_as_its_authors_wrote_it_fails(
    module: ConditionedTextEncoder, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    untouched = module.original_outputs
    monkeypatch.setattr(
        module, "original_outputs", lambda request: {name: out + 2e-3 for name, out in untouched(request).items()}
    )
    with pytest.raises(ParityError, match="without a prompt differs from the original network"):
        measure_parity(bundle, module, module.parity_requests(PREPROCESSING), "onnxruntime")


@pytest.mark.parametrize("value", [1.1e-4, float("inf"), float("nan")])
@pytest.mark.parametrize(
    ("figure", "sentence"),
    [
        ("torch", "differs from torch"),
        ("length_0", "without a prompt differs"),
        ("mixed_batch", "differs between a row of a mixed batch and that row alone"),
    ],
)
def test_each_figure_has_its_own_sentence(figure: str, sentence: str, value: float) -> None:
    figures = dict.fromkeys(("torch", "length_0", "mixed_batch"), TOLERANCE)
    _require(figures, {"soft": 1.0}, "BertModel", "openvino")
    with pytest.raises(ParityError, match=f"BertModel on openvino {sentence}"):
        _require(figures | {figure: value}, {"soft": 1.0}, "BertModel", "openvino")


@pytest.mark.parametrize("value", [0.0, 9e-4, float("nan")])
@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_a_kind_that_changes_nothing_is_named(kind: str, value: float) -> None:
    effect = {"soft": LEAST_EFFECT, "prefix": LEAST_EFFECT}
    _require({"torch": 0.0}, effect, "BertModel", "openvino")
    with pytest.raises(ParityError, match=f"a {kind} prompt changes the outputs by only"):
        _require({"torch": 0.0}, effect | {kind: value}, "BertModel", "openvino")


def test_the_reference_is_what_torch_gives(module: ConditionedTextEncoder, tmp_path: Path) -> None:
    write_reference(tmp_path, module, module.parity_requests(PREPROCESSING))
    with np.load(tmp_path / REFERENCE_NAME) as arrays:
        reference = {name: torch.from_numpy(arrays[name]) for name in arrays.files}
    assert {tensor.dtype for tensor in reference.values()} == {torch.float32}
    tokens = {name: reference.pop(name).long() for name in ("input_ids", "attention_mask", "token_type_ids")}
    mask = tokens.pop("attention_mask")
    empty = module.example_inputs(1, 2, virtual_tokens=0, prefix_length=0)
    prompts = {"soft_prompt": reference.pop("soft")[None], "prefix": reference.pop("prefix")[:, :, None]}
    assert reference.keys() == {"features_base", "features_soft", "features_prefix"}
    for kind, prompt in {"base": None, "soft": "soft_prompt", "prefix": "prefix"}.items():
        given = {name: (prompts if name == prompt else empty)[name] for name in prompts}
        length = given["soft_prompt"].shape[1] + given["prefix"].shape[4]
        joined_mask = torch.cat([mask.new_ones(len(mask), length), mask], 1)
        with torch.no_grad():
            features, _ = module(**tokens, **given, attention_mask=joined_mask)
        torch.testing.assert_close(features, reference[f"features_{kind}"])


def test_requests_to_compare_at_are_without_prompts_and_differ_in_size_and_length(
    module: ConditionedTextEncoder,
) -> None:
    requests = module.parity_requests(PREPROCESSING)
    for inputs in requests:
        assert inputs.keys() == {"input_ids", "attention_mask", "token_type_ids"}
        assert len({tensor.shape for tensor in inputs.values()}) == 1
    assert [tuple(inputs["input_ids"].shape) for inputs in requests] == [(1, 2), (3, 17), (2, 40)]
    assert requests[1]["attention_mask"].sum(1).tolist() == [17, 16, 15]


@pytest.mark.parametrize(("max_tokens", "max_positions", "longest"), [(10, 64, 10), (48, 20, 14), (48, None, 40)])
def test_requests_to_compare_at_fit_beside_the_longest_prompt(
    module: ConditionedTextEncoder, max_tokens: int, max_positions: int | None, longest: int
) -> None:
    preprocessing = replace(PREPROCESSING, max_tokens=max_tokens, max_positions=max_positions)
    lengths = [request["input_ids"].shape[1] for request in module.parity_requests(preprocessing)]
    assert max(lengths) == longest


def test_the_reference_of_a_soft_only_network_has_no_prefix(
    conditioned: Callable[..., ConditionedTextEncoder], tmp_path: Path
) -> None:
    module = conditioned("mpnet")
    write_reference(tmp_path, module, module.parity_requests(PREPROCESSING))
    with np.load(tmp_path / REFERENCE_NAME) as arrays:
        assert set(arrays.files) == {"input_ids", "attention_mask", "soft", "features_base", "features_soft"}
