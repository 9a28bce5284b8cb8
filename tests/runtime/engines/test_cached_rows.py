"""Guarantees of the cached rows of a causal language model, on every engine."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import openvino
import pytest

from edge_prompt import read_bundle
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt_export import export_backbone
from edge_prompt_runtime.engines.base import Engine, HeldPast, Int64, Past, open_engine
from edge_prompt_runtime.engines.openvino.paged_attention import as_cache, as_float32
from edge_prompt_runtime.engines.openvino.state import StatefulRows, new_stateful
from edge_prompt_runtime.engines.options import EngineOptions
from tests.tiny.language import HEAD_DIM, KV_HEADS, LAYERS, POSITIONS, VOCAB_SIZE, write_tiny_language

LENGTHS = (0, 3, 31, 32, 33, 70)
"""Lengths of prompts: before, at and beyond the ends of blocks of 32 tokens."""


def tokens(length: int, seed: int = 0) -> Int64:
    return np.random.default_rng(seed).integers(1, VOCAB_SIZE, length)


def past_of(length: int, seed: int = 1) -> Past:
    random = np.random.default_rng(seed)
    return [random.standard_normal((1, KV_HEADS, length, HEAD_DIM), np.float32) for _ in range(2 * LAYERS)]


@pytest.fixture(scope="module", params=["onnxruntime", "openvino", "openvino as state"])
def engine(request: pytest.FixtureRequest, tiny_language_bundle: Path) -> Engine:
    name, _, form = request.param.partition(" ")
    opened = open_engine(read_bundle(tiny_language_bundle), name, EngineOptions(1))[1]
    if form:
        settings = {"INFERENCE_PRECISION_HINT": "f32", "KV_CACHE_PRECISION": "f32"}
        stateful = openvino.Core().compile_model(tiny_language_bundle / "openvino_model.xml", "CPU", settings)
        opened._compiled, opened._rows = stateful, (new_stateful, StatefulRows)  # type: ignore[attr-defined]
    return opened


@pytest.fixture(params=LENGTHS)
def held(request: pytest.FixtureRequest) -> HeldPast:
    return HeldPast(past_of(request.param))


def logits_of(engine: Engine, held: HeldPast, *parts: Int64) -> np.ndarray:
    run = engine.begin([held])
    try:
        return np.concatenate([run.forward([part], every=True)[0].copy() for part in parts])
    finally:
        run.close()


def cuts(whole: Int64) -> Iterator[list[Int64]]:
    yield [whole[:1], whole[1:]]
    yield [whole[:5], whole[5:9], whole[9:]]
    yield list(whole[:, None])


def test_chunking_of_tokens_makes_no_difference(engine: Engine, held: HeldPast) -> None:
    whole = tokens(40)
    reference = logits_of(engine, held, whole)
    assert reference.shape == (40, VOCAB_SIZE)
    for parts in cuts(whole):
        np.testing.assert_allclose(logits_of(engine, held, *parts), reference, atol=2e-5)


def test_only_the_last_is_the_last_of_every(engine: Engine, held: HeldPast) -> None:
    run = engine.begin([held])
    last = run.forward([tokens(7)])
    run.close()
    np.testing.assert_allclose(last[0], logits_of(engine, held, tokens(7))[-1:], atol=2e-5)


def test_rows_of_different_pasts_and_lengths_equal_their_rows_alone(engine: Engine) -> None:
    helds = [HeldPast(past_of(length, seed=length)) for length in LENGTHS]
    rows = [tokens(length, seed=length) for length in (9, 1, 40, 3, 2, 33)]
    more = [tokens(length, seed=99 + length) for length in (1, 4, 2, 1, 1, 3)]
    run = engine.begin(helds)
    first = run.forward(rows, every=True)
    steps = [[part.copy() for part in run.forward([tokens(1, seed=step)] * len(rows))] for step in range(3)]
    second = run.forward(more, every=True)
    run.close()
    for row, own in enumerate(helds):
        alone = logits_of(engine, own, rows[row], *(tokens(1, seed=step) for step in range(3)), more[row])
        together = np.concatenate([first[row], *(step[row] for step in steps), second[row]])
        np.testing.assert_allclose(together, alone, atol=2e-5)


@pytest.mark.parametrize("kept", [[1], [2, 0], [0, 0, 0], [1, 1, 2, 0, 0]])
def test_rows_are_dropped_and_repeated(engine: Engine, kept: list[int]) -> None:
    helds = [HeldPast(past_of(length, seed=length)) for length in (0, 5, 32)]
    begun = [tokens(length, seed=length) for length in (4, 28, 32)]
    ends = [tokens(3, seed=50 + place) for place in range(len(kept))]
    run = engine.begin(helds)
    run.forward(begun)
    run.keep(kept)
    found = run.forward(ends, every=True)
    again = run.forward(ends, every=True)
    run.close()
    for place, row in enumerate(kept):
        alone = logits_of(engine, helds[row], begun[row], ends[place], ends[place])
        np.testing.assert_allclose(np.concatenate([found[place], again[place]]), alone[len(begun[row]) :], atol=2e-5)


def test_a_written_past_is_reused_whatever_ran_in_between(engine: Engine) -> None:
    helds = [HeldPast(past_of(length, seed=length)) for length in LENGTHS]
    alone = [logits_of(engine, held, tokens(9), *tokens(40)[:, None]) for held in helds]
    order = np.random.default_rng(0).integers(len(helds), size=(40, 3))
    for first, second, third in order:
        run = engine.begin([helds[first], helds[second], helds[first]])  # the same past twice: two rows append to it
        run.forward([tokens(30, seed=1), tokens(50, seed=2), tokens(20, seed=3)])
        run.close()
        for _ in range(2):
            again = logits_of(engine, helds[third], tokens(9), *tokens(40)[:, None])
            np.testing.assert_allclose(again, alone[third], atol=2e-5)


def test_a_released_past_is_not_mistaken_for_another(engine: Engine) -> None:
    found: dict[int, np.ndarray] = {}
    for seed in [*range(8), *range(8)]:  # each usually gets the memory address of the one before
        logits = logits_of(engine, HeldPast(past_of(33, seed=seed)), tokens(4))
        np.testing.assert_allclose(logits, found.setdefault(seed, logits), atol=2e-5)
    assert all(np.abs(found[seed] - found[0]).max() > 1e-3 for seed in range(1, 8))


def test_held_arrays_do_not_change(engine: Engine) -> None:
    past = past_of(33)
    kept = [part.copy() for part in past]
    held = HeldPast(past)
    for _ in range(2):
        logits_of(engine, held, tokens(5), *tokens(4)[:, None])
    for part, before in zip(past, kept, strict=True):
        np.testing.assert_array_equal(part, before)


@pytest.mark.parametrize("length", [1, 31, 32, 40])
def test_the_cache_of_a_soft_prompt_is_where_its_requests_begin(engine: Engine, length: int) -> None:
    soft_prompt = np.random.default_rng(3).standard_normal((1, length, 32), np.float32)
    nothing = HeldPast(past_of(0))
    run = engine.begin([nothing])
    reference = run.forward([tokens(6)], every=True, soft_prompt=soft_prompt)[0]
    run.close()
    run = engine.begin([nothing])
    run.forward([tokens(0)], soft_prompt=soft_prompt)
    compiled = run.cache()
    run.close()
    assert [part.shape for part in compiled] == [(1, KV_HEADS, length, HEAD_DIM)] * (2 * LAYERS)
    assert reference.shape == (6, VOCAB_SIZE)
    np.testing.assert_allclose(logits_of(engine, HeldPast(compiled), tokens(6)), reference, atol=2e-5)


def test_a_row_that_fills_the_context_waits_for_others(tmp_path: Path) -> None:
    """With a table of positions, none follows the last one: a waiting row must not use it."""
    write_tiny_language(tmp_path / "network", "gpt2")
    bundle = export_backbone(tmp_path / "network", tmp_path / "bundle", formats=("onnx",))
    opened = open_engine(bundle, "onnxruntime", EngineOptions(1))[1]
    assert isinstance(bundle.manifest, LanguageManifest)
    (heads, head_dim), *_ = bundle.manifest.kv_cache
    random = np.random.default_rng(0)
    shape = (1, heads, POSITIONS - 3, head_dim)
    full = HeldPast([random.standard_normal(shape, np.float32) for _ in range(2 * LAYERS)])
    nothing = HeldPast([np.zeros((1, heads, 0, head_dim), np.float32)] * (2 * LAYERS))
    rows = [tokens(3), *(tokens(7, seed=seed) for seed in range(8))]
    run = opened.begin([full, *[nothing] * 8])
    found = run.forward(rows, every=True)
    run.close()
    for own, row, logits in zip([full, nothing], rows, found, strict=False):
        np.testing.assert_allclose(logits, logits_of(opened, own, row), atol=2e-5)


def test_threads_have_rows_of_their_own(engine: Engine) -> None:
    helds = [HeldPast(past_of(length, seed=length)) for length in LENGTHS]
    requests = [(held, tokens(length, seed=length)) for length, held in zip((3, 9, 1, 20, 33, 5), helds, strict=True)]
    alone = [logits_of(engine, held, row, *tokens(4)[:, None]) for held, row in requests]
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda number: logits_of(engine, *requests[number % 6], *tokens(4)[:, None]), range(48))
    for number, logits in enumerate(found):
        np.testing.assert_allclose(logits, alone[number % 6], atol=2e-5)


def test_numbers_become_the_nearest_bfloat16() -> None:
    exact = np.array([0.0, -2.0, 1.5, 3.0e38], np.float32)
    between = np.array([1 + 1 / 256, 1 + 3 / 256, 1 + 1 / 257], np.float32)  # the first two are in the middle
    dtype = np.dtype(np.uint16)
    np.testing.assert_allclose(as_float32(as_cache(exact, dtype)), exact, rtol=2**-8)
    assert as_float32(as_cache(between, dtype)).tolist() == [1.0, 1 + 4 / 256, 1.0]
    random = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    assert np.abs(as_float32(as_cache(random, dtype)) / random - 1).max() <= 2**-8
    assert as_cache(random, np.dtype(np.float32)) is random
