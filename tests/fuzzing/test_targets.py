"""Hostile files by the hundred, and those that once failed: every reader refuses them with an error of ours.

`EDGE_PROMPT_FUZZ_EXAMPLES=100000 python -m pytest tests/fuzzing` tries more; `make fuzz` is guided by coverage.
"""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_prompt.base.errors import EdgePromptError
from tests.fuzzing import seeds
from tests.fuzzing.mutations import unpack
from tests.fuzzing.targets import TARGETS, Target

EXAMPLES = int(os.environ.get("EDGE_PROMPT_FUZZ_EXAMPLES", "200"))
FOUND = sorted(path for path in (Path(__file__).parent / "corpus").rglob("*") if path.is_file())

CONSTANT_BYTES = 1 << 19
"""What reading takes whatever the file: messages, buffers of streams, what zipfile keeps."""

NOT_COUNTED = {"torch", "image", "template"}
"""Of these, memory is bounded by other rules, or taken where it cannot be counted."""


def read(target: Target, content: bytes, folder: Path) -> None:
    try:
        target.read(content, folder)
    except EdgePromptError as error:
        assert "; expected " in str(error)  # noqa: PT017 - it may be read without one, too


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_valid(name: str, tmp_path: Path) -> None:
    for content in TARGETS[name].seeds():
        TARGETS[name].read(content, tmp_path)  # raises nothing


@pytest.mark.parametrize("name", TARGETS)
def test_hostile_files_raise_only_our_errors(name: str, tmp_path: Path) -> None:
    target, begin = TARGETS[name], TARGETS[name].seeds()

    @settings(
        max_examples=EXAMPLES,
        derandomize=EXAMPLES <= 200,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(seed=st.integers(0, 2**64 - 1), times=st.integers(1, 4))
    @example(seed=0, times=0)
    def attack(seed: int, times: int) -> None:
        random = Random(seed)
        content = random.choice(begin)
        for _ in range(times):
            content = target.mutate(content, random)
        read(target, content, tmp_path)

    attack()


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_inputs_that_once_failed_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(EdgePromptError):
        TARGETS[path.parent.name].read(path.read_bytes(), tmp_path)


@pytest.mark.parametrize("name", sorted(TARGETS.keys() - NOT_COUNTED))
def test_reading_takes_no_more_than_twice_the_file(name: str, tmp_path: Path) -> None:
    target, begin, random = TARGETS[name], TARGETS[name].seeds(), Random(name)
    for content in begin:
        read(target, content, tmp_path)  # so that late imports are not counted
    for _ in range(max(60, EXAMPLES // 10)):
        content = target.mutate(random.choice(begin), random)
        assert peak_bytes(target, content, tmp_path) <= 2 * len(content) + CONSTANT_BYTES


LARGE: dict[str, Callable[[], bytes]] = {
    "npy": lambda: seeds.npy(1000, 2000),
    "npy in float64": lambda: seeds.npy(1000, 1000, dtype="<f8"),
    "head": lambda: seeds.npz(weight=(2, 500_000), bias=(2,)),
    "safetensors": lambda: seeds.safetensors({"x": (1000, 1000)}),
    "onnx of empty nodes": lambda: b"\x3a\x80\x80\x20" + b"\x0a\x00" * (1 << 18),
    "openvino of many layers": lambda: large_net(b'<layer id="1" name="x" type="Add" version="opset1"/>', 40_000),
    "openvino of layers of a kind": lambda: large_net(b"<layer version='opset1'/>", 80_000),
    "openvino of tags": lambda: large_net(b"<a/>", 500_000),
    "openvino of text": lambda: large_net(b"<a b='>'/>", 200_000),
}


def large_net(element: bytes, count: int) -> bytes:
    return b"<net>" + element * count + b"</net>"


@pytest.mark.parametrize("name", LARGE)
def test_a_large_file_takes_at_most_twice_its_size(name: str, tmp_path: Path) -> None:
    target, content = TARGETS[name.partition(" ")[0]], LARGE[name]()
    read(target, target.seeds()[0], tmp_path)
    assert peak_bytes(target, content, tmp_path) <= 2 * len(content) + CONSTANT_BYTES


def peak_bytes(target: Target, content: bytes, folder: Path) -> int:
    """Return the peak memory of reading, without the bytes that the test itself holds."""
    tracemalloc.start()
    try:
        read(target, content, folder)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", TARGETS)
def test_mutations_are_reproducible(name: str) -> None:
    content = TARGETS[name].seeds()[0]
    assert TARGETS[name].mutate(content, Random(7)) == TARGETS[name].mutate(content, Random(7))


def test_any_input_unpacks_into_files() -> None:
    assert unpack(b"\xff\xff\xff\xff1", 3) == [b"1", b"", b""]
