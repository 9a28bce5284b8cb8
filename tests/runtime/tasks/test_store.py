from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event, Thread
from threading import enumerate as enumerate_threads
from time import sleep

import numpy as np
import pytest

from edge_prompt import read_bundle, write_prompt
from edge_prompt.base.errors import (
    ArrayFileError,
    CardError,
    FingerprintError,
    MissingFileError,
    UnknownTaskError,
    UnsafePathError,
)
from edge_prompt.formats.card import card_path
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.tasks.folders import PromptFolders
from tests.conftest import MakePrompt, floats

TEXT = "w1 w2 w3"
PREFIX_BYTES = 2 * 2 * 4 * 5 * 8 * 4  # size of the prefix of 5 virtual tokens that `make_prompt` creates

Replace = Callable[[str, int], None]


@pytest.fixture
def prompts(make_prompt: MakePrompt) -> Path:
    """A folder with three tasks."""
    paths = [make_prompt(name, "prefix", classes=2) for name in ("a", "b", "c")]
    return paths[0].parent


@pytest.fixture
def replace(prompts: Path, tiny_bundle: Path) -> Replace:
    """Write another prompt under a name."""

    def replaced(name: str, seed: int) -> None:
        random = np.random.default_rng(seed)
        fingerprint = read_bundle(tiny_bundle).manifest.backbone.fingerprint
        write_prompt(prompts / f"{name}.npy", floats(random, 2, 2, 4, 5, 8), "prefix", fingerprint)

    return replaced


def store_of(bundle: Path, prompts: Path, *, tasks: int = 10) -> Runtime:
    return Runtime(bundle, "onnxruntime", threads=1, prompts=prompts, prompts_budget_bytes=tasks * 3000)


def test_any_name_in_the_folder_is_served_as_if_it_were_loaded(tiny_bundle: Path, prompts: Path, engine: str) -> None:
    runtime = Runtime(tiny_bundle, engine, threads=1, prompts=str(prompts))
    loaded = Runtime(tiny_bundle, engine, threads=1)
    loaded.load_all(prompts)
    assert runtime.tasks == loaded.tasks == ("a", "b", "c")
    for name in runtime.tasks:
        assert runtime.classify(TEXT, task=name) == loaded.classify(TEXT, task=name)


def test_nothing_is_read_before_it_is_asked_for(tiny_bundle: Path, prompts: Path) -> None:
    (prompts / "a.npy").write_bytes(b"no prompt")
    runtime = store_of(tiny_bundle, prompts)
    runtime.classify(TEXT, task="b")
    assert list(runtime.store.in_memory) == ["b"]
    with pytest.raises(ArrayFileError):
        runtime.task("a")


def test_the_first_of_several_folders_has_the_name(tiny_bundle: Path, prompts: Path, tmp_path: Path) -> None:
    other = shutil.copytree(prompts, tmp_path / "other")
    (prompts / "a.npy").unlink()
    shutil.copyfile(other / "c.npy", other / "b.npy")  # which its card does not describe
    shutil.copyfile(other / "a.npy", other / "d.npy")
    runtime = Runtime(tiny_bundle, "onnxruntime", prompts=[prompts, other])
    assert runtime.tasks == ("a", "b", "c", "d")
    runtime.classify(TEXT, task=["a", "b", "c"][0])
    runtime.classify(TEXT, task="b")


@pytest.mark.parametrize("name", ["nobody", "", "../a", "a/b", ".a", "a\0", "x" * 300, "a.npy/"])
def test_a_name_that_is_not_there_is_refused(name: str, tiny_bundle: Path, prompts: Path) -> None:
    with pytest.raises(UnknownTaskError, match="a, b, c"):
        store_of(tiny_bundle, prompts).task(name)


def test_a_link_that_leads_out_is_refused(tiny_bundle: Path, prompts: Path, tmp_path: Path) -> None:
    shutil.move(prompts / "a.npy", tmp_path / "a.npy")
    (prompts / "a.npy").symlink_to(tmp_path / "a.npy")
    with pytest.raises(UnsafePathError):
        store_of(tiny_bundle, prompts).task("a")


def test_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such folder"):
        PromptFolders([tmp_path / "nowhere"])


def test_the_least_recently_used_task_is_evicted_beyond_the_budget(tiny_bundle: Path, prompts: Path) -> None:
    runtime = store_of(tiny_bundle, prompts, tasks=2)
    size_bytes = runtime.task("a").size_bytes
    assert PREFIX_BYTES < size_bytes < 3000
    runtime.task("b")
    runtime.task("a")
    runtime.task("c")
    assert list(runtime.store.in_memory) == ["a", "c"]
    assert runtime.store.bytes_in_memory == 2 * size_bytes
    assert (runtime.stats().loads, runtime.stats().evictions) == (3, 1)
    runtime.task("b")  # comes back
    assert list(runtime.store.in_memory) == ["c", "b"]


def test_pinned_tasks_are_not_evicted(tiny_bundle: Path, prompts: Path) -> None:
    runtime = store_of(tiny_bundle, prompts, tasks=1)
    runtime.pin("a")
    for name in ("b", "c", "b"):
        runtime.task(name)
    assert list(runtime.store.in_memory) == ["a", "b"]
    runtime.unpin("a")
    assert list(runtime.store.in_memory) == ["b"]
    with pytest.raises(UnknownTaskError):
        runtime.pin("nobody")


def test_a_task_larger_than_the_budget_is_served(tiny_bundle: Path, prompts: Path) -> None:
    runtime = Runtime(tiny_bundle, "onnxruntime", prompts=prompts, prompts_budget_bytes=0)
    first = runtime.classify(TEXT, task="a")
    runtime.task("b")
    assert list(runtime.store.in_memory) == ["b"]
    assert runtime.classify(TEXT, task="a") == first


def test_a_refresh_takes_up_what_was_replaced_and_drops_what_is_gone(
    tiny_bundle: Path, prompts: Path, replace: Replace
) -> None:
    runtime = store_of(tiny_bundle, prompts)
    old = {name: runtime.task(name) for name in runtime.tasks}
    replace("a", 1)
    for path in prompts.glob("b.*"):
        path.unlink()
    assert runtime.task("a") is old["a"]  # until a refresh
    found = runtime.refresh()
    assert (found.replaced, found.dropped, found.refused) == (("a",), ("b",), {})
    assert runtime.task("a") is not old["a"]
    assert runtime.task("c") is old["c"]
    with pytest.raises(UnknownTaskError):
        runtime.task("b")
    replace("d", 2)  # a new one needs no refresh
    assert runtime.task("d").kind == "prefix"
    assert runtime.refresh().replaced == ()


def test_a_bad_replacement_is_refused_and_the_old_one_serves_on(
    tiny_bundle: Path, prompts: Path, replace: Replace
) -> None:
    runtime = store_of(tiny_bundle, prompts)
    before = runtime.embed(TEXT, task="a")
    good = (prompts / "a.npy").read_bytes()
    (prompts / "a.npy").write_bytes(good[:-1])
    for _ in range(2):
        assert list(runtime.refresh().refused) == ["a"]
        np.testing.assert_array_equal(runtime.embed(TEXT, task="a"), before)
    replace("a", 1)
    assert runtime.refresh().replaced == ("a",)
    assert np.abs(runtime.embed(TEXT, task="a") - before).max() > 0


def test_a_prompt_of_other_weights_is_refused_when_asked_for(tiny_bundle: Path, prompts: Path) -> None:
    write_prompt(prompts / "e.npy", np.ones((2, 2, 4, 5, 8), np.float32), "prefix", "0" * 64)
    runtime = store_of(tiny_bundle, prompts)
    with pytest.raises(FingerprintError):
        runtime.classify(TEXT, task="e")
    assert runtime.stats().refusals == 1


def test_concurrent_requests_read_a_prompt_once(tiny_bundle: Path, prompts: Path) -> None:
    runtime = store_of(tiny_bundle, prompts)
    barrier = Barrier(8)

    def ask(number: int) -> object:
        barrier.wait()
        return runtime.task("abc"[number % 3])

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(ask, range(8)))
    assert runtime.stats().loads == 3
    assert len({id(task) for task in found}) == 3


def test_every_answer_is_of_one_prompt_or_its_successor_while_a_writer_replaces_it(
    tiny_bundle: Path, prompts: Path, replace: Replace
) -> None:
    runtime = store_of(tiny_bundle, prompts, tasks=1)  # so that tasks are evicted and read again all the time
    known = {}
    for seed in range(3):
        replace("a", seed)
        known[seed] = Runtime(tiny_bundle, "onnxruntime", threads=1, prompts=prompts).embed(TEXT, task="a")
    fixed = {name: runtime.embed(TEXT, task=name) for name in ("b", "c")}
    done = Event()

    def write() -> None:
        for turn in range(60):
            replace("a", turn % 3)
            runtime.refresh()
        done.set()

    writer = Thread(target=write)
    writer.start()
    answered = 0
    while not done.is_set() or answered < 50:
        try:
            found = runtime.embed(TEXT, task="a")
        except CardError:  # between the file and its card, for a task that is not in memory
            continue
        assert any(np.array_equal(found, each) for each in known.values())
        for name, wanted in fixed.items():
            np.testing.assert_array_equal(runtime.embed(TEXT, task=name), wanted)
        answered += 1
    writer.join()
    runtime.refresh()
    np.testing.assert_array_equal(runtime.embed(TEXT, task="a"), known[2])


def test_without_folders_there_is_nothing_to_refresh(tiny_bundle: Path, make_prompt: MakePrompt) -> None:
    runtime = Runtime(tiny_bundle, "onnxruntime")
    path = make_prompt("a", "prefix")
    runtime.load("a", path)
    card_path(path).unlink()
    assert runtime.refresh().dropped == ()
    assert runtime.tasks == ("a",)


def test_a_watcher_refreshes_when_a_file_changes(tiny_bundle: Path, prompts: Path, replace: Replace) -> None:
    runtime = store_of(tiny_bundle, prompts)
    old = runtime.task("a")
    with runtime.watch():
        for seed in range(1, 600):  # until the change is noticed: a watcher takes a moment to start
            replace("a", seed)
            sleep(0.1)
            if runtime.task("a") is not old:
                break
    assert runtime.task("a") is not old
    assert "edge-prompt watcher" not in {thread.name for thread in enumerate_threads()}
