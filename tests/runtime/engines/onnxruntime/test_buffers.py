"""Buffers that rows release are reused, within limits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from edge_prompt_runtime.engines.base import HeldPast
from edge_prompt_runtime.engines.onnxruntime.buffers import LEAST_ROOM, MOST_SPARE_BYTES, Buffer, Buffers
from tests.tiny.language import HEAD_DIM, KV_HEADS, LAYERS


@pytest.fixture(scope="module")
def session(tiny_language_bundle: Path) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        tiny_language_bundle / "model_onnxruntime.onnx", providers=["CPUExecutionProvider"]
    )


@pytest.fixture
def buffers(session: onnxruntime.InferenceSession) -> Buffers:
    return Buffers(session)


def past_of(length: int) -> HeldPast:
    random = np.random.default_rng(length)
    return HeldPast(random.standard_normal((1, KV_HEADS, length, HEAD_DIM), np.float32) for _ in range(2 * LAYERS))


def begun(buffers: Buffers, *pasts: HeldPast) -> Buffer:
    lengths = [past[0].shape[2] for past in pasts]
    buffer = buffers.take(pasts, max(lengths))
    for row, (past, length) in enumerate(zip(pasts, lengths, strict=True)):
        buffer.write(row, past, past, 0, length)
    return buffer


def test_the_free_buffer_with_the_past_is_preferred(buffers: Buffers) -> None:
    pasts = [past_of(length) for length in (20, 21, 22)]
    there = [begun(buffers, past) for past in pasts]
    for buffer in there:
        buffers.give(buffer)
    for past, buffer in zip(pasts, there, strict=True):
        found = begun(buffers, past)
        assert found is buffer
        buffers.give(found)


def test_a_larger_free_buffer_is_preferred(buffers: Buffers) -> None:
    past = past_of(20)
    for room in (30, 90, 60):
        buffers.give(buffers.take([past], 20 + room, 0))
    assert buffers.take([past], 20).capacity == 20 + 90


def test_a_past_already_in_place_is_not_rewritten(buffers: Buffers) -> None:
    past, other = past_of(20), past_of(25)
    buffer = begun(buffers, past)
    buffer.arrays[0][:] = 1
    buffer.write(0, past, past, 0, 20)
    assert (buffer.arrays[0] == 1).all()
    buffer.write(0, other, other, 0, 25)
    np.testing.assert_array_equal(buffer.arrays[0][0, :, :25], other[0][0])
    buffer.write(0, past, past, 0, 20)
    np.testing.assert_array_equal(buffer.arrays[0][0, :, :20], past[0][0])


def test_moving_a_row_keeps_its_new_tokens(buffers: Buffers) -> None:
    past = past_of(20)
    buffers.give(begun(buffers, past))
    source = [np.full((3, KV_HEADS, 40, HEAD_DIM), 2, np.float32)] * (2 * LAYERS)
    buffer = buffers.take([past], 30)
    buffer.write(0, past, source, 1, 30)
    np.testing.assert_array_equal(buffer.arrays[0][0, :, :20], past[0][0])
    assert (buffer.arrays[0][0, :, 20:30] == 2).all()


def test_buffers_of_another_batch_or_far_too_large_are_not_used(buffers: Buffers) -> None:
    past = past_of(20)
    left = [buffers.take([past, past], 20), buffers.take([past], 2 * (20 + LEAST_ROOM) + 1, 0)]
    for buffer in left:
        buffers.give(buffer)
    assert buffers.take([past], 20) not in left


def test_free_buffers_are_limited_and_the_oldest_is_released_first(buffers: Buffers) -> None:
    past = past_of(0)
    a_token = 2 * LAYERS * KV_HEADS * HEAD_DIM * 4
    tokens = MOST_SPARE_BYTES // a_token // 2
    given = [buffers.take([past], tokens, 0) for _ in range(3)]
    for buffer in given:
        buffers.give(buffer)
    assert list(buffers._spare) == given[1:]
    buffers.give(buffers.take([past], 3 * tokens, 0))
    assert not buffers._spare
