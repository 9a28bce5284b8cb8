from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from benchmarks.questions import language
from benchmarks.questions.language import (
    ENGINES,
    REQUEST_TOKENS,
    main,
    measure,
    more_multiplications,
    request,
    require_equal,
    write_tasks,
)
from edge_prompt import read_bundle
from edge_prompt_runtime import Runtime
from tests.known_faults import PEFT_GENERATES_WRONG_TOKENS


@pytest.fixture
def bundle(tiny_language_bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny bundle, and prompts and texts that fit it."""
    monkeypatch.setattr(language, "VIRTUAL_TOKENS", 6)
    monkeypatch.setattr(language, "NEW_TOKENS", 5)
    return tiny_language_bundle


@pytest.fixture
def network(tiny_language: Path) -> Any:
    network = AutoModelForCausalLM.from_pretrained(tiny_language)
    network.generation_config.eos_token_id = None
    return network


@PEFT_GENERATES_WRONG_TOKENS
@pytest.mark.filterwarnings("ignore:Position ids are not supported")
def test_both_engines_are_compared_with_peft(bundle: Path, network: Any) -> None:
    tokens = request(5, network.config.vocab_size)
    assert len(tokens) == REQUEST_TOKENS
    found = measure(bundle, network, tokens, 2, 1, (3, 6), ENGINES, 1, memory=False)
    compiled = {one.x: one.name for one in found.series if one.line == "compiled"}
    assert set(compiled) == {3, 6}
    assert {one.x for one in found.series if one.line == "no prompt"} == {0}
    assert {one.unit for one in found.series} == {"ms", "tokens/s"}
    assert [ratio.goal for ratio in found.ratios] == [1.03, None] * 2 + [2.5] * 2


def test_a_prompt_costs_attention_to_its_tokens() -> None:
    layer = {"hidden_size": 576, "intermediate_size": 1536, "num_attention_heads": 9, "num_key_value_heads": 3}
    with torch.device("meta"):  # SmolLM2-135M: 106 million weights in its layers, 28 in its output
        network = LlamaForCausalLM(LlamaConfig(num_hidden_layers=30, vocab_size=49_152, head_dim=64, **layer))
    assert more_multiplications(network, 0) == 1
    assert more_multiplications(network, 100) == pytest.approx(1 + 3.456e6 / (106.2e6 + 1.01e6 + 0.5e6), abs=1e-4)


def test_differing_tokens_are_not_timed(bundle: Path, network: Any, engine: str, tmp_path: Path) -> None:
    runtime = Runtime(bundle, engine, threads=1)
    embeddings = network.get_input_embeddings().weight.detach().numpy()
    write_tasks(tmp_path, embeddings, read_bundle(bundle).manifest.backbone.fingerprint, 1, (3,))
    runtime.load_all(tmp_path)
    with pytest.raises(SystemExit, match="nothing is timed"):
        require_equal(runtime, request(5, network.config.vocab_size), [-1] * 5)


def test_the_memory_of_a_task_is_measured_in_its_own_process(
    bundle: Path, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(language, "request", lambda: [5, 6, 7])
    manifest = read_bundle(bundle).manifest
    width = manifest.kinds["soft"][1]
    assert width is not None
    embeddings = np.random.default_rng(0).standard_normal((50, width), dtype=np.float32)
    paths = write_tasks(tmp_path, embeddings, manifest.backbone.fingerprint, 3, ())
    said = CliRunner().invoke(main, ["--bundle", str(bundle), "--memory-of", engine, *map(str, paths)])
    assert json.loads(said.output)["kv_bytes"] > 0
