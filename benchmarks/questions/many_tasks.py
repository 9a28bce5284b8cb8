"""How do time and memory grow with the number of tasks, from 1 to 10,000 in one served folder?

    python benchmarks/questions/many_tasks.py

Prompts are soft prompts of 16 virtual tokens for all-MiniLM-L6-v2, each with a card. All numbers of tasks take turns,
with random names. Everything is timed right after a request on the same network, under the task of the request before:

- Start: from an opened network until a task of the folder is served, including the first read.
- Warm swap: from the name of a task in memory to its prompt inputs of the graph.
- Cold swap: the same for a task that is not in memory, whose files are read and checked. It is compared with `np.load`
  of the prompt alone, and with `np.load` and reading the card as JSON without any checks. Files are in the page cache.
- PEFT: `set_adapter` with as many prompt-tuning adapters on the same network, up to a thousand.
- Loading another network, which does not depend on the number of tasks, as a line in the chart.
- Memory: resident and peak memory of fresh processes that answered requests of one task and of a thousand tasks. The
  latter is compared with the former plus the bytes of the further prompts' arrays.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import AutoModel

from benchmarks.lib.bundles import minilm_bundle
from benchmarks.lib.publish import Measured, options, publish
from benchmarks.lib.resident_memory import ALL_BYTES, TOKENS, resident_of
from benchmarks.lib.switching import Named, after_request, samples_us
from edge_prompt import read_bundle, write_prompt
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import interleaved_us
from edge_prompt_runtime.engines.base import ENGINES, open_engine
from edge_prompt_runtime.engines.options import EngineOptions
from edge_prompt_runtime.execution.network import prompt_inputs
from edge_prompt_runtime.tasks.registry import TaskRegistry
from examples.real_data import minilm

VIRTUAL_TOKENS = 16
START, WARM, COLD = "start", "warm swap", "cold swap"
NP_LOAD, NP_LOAD_AND_CARD, PEFT = "np.load alone", "np.load and json.loads", "PEFT: set_adapter"
COLD_GOAL, MEMORY_GOAL = 1.5, 1.02


class Plan(NamedTuple):
    """The extent of a run.

    Attributes:
        counts: Numbers of tasks.
        peft_counts: Those that PEFT is measured with as well.
        memory_tasks: The number of tasks whose memory is compared with that of one task.
        rounds: Samples of every swap.
        sessions: Samples of loading another network.
        processes: Fresh processes per number of tasks.
    """

    counts: tuple[int, ...]
    peft_counts: tuple[int, ...]
    memory_tasks: int
    rounds: int
    sessions: int
    processes: int


FULL = Plan((1, 10, 100, 1_000, 10_000), (1, 10, 100, 1_000), 1_000, 150, 9, 3)
QUICK = Plan((1, 100), (1,), 100, 15, 2, 1)


def write_tasks(folder: Path, count: int, bundle: Path) -> int:
    """Write prompts with cards that differ only in their names; return the bytes of one prompt's array."""
    manifest = read_bundle(bundle).manifest
    shape = [VIRTUAL_TOKENS if axis is None else axis for axis in manifest.kinds["soft"]]
    array = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    first = folder / "task0.npy"
    write_prompt(first, array, "soft", manifest.backbone.fingerprint)
    for number in range(1, count):
        for suffix in (".npy", ".json"):
            shutil.copyfile(first.with_suffix(suffix), folder / f"task{number}{suffix}")
    return array.nbytes


def drawn(count: int) -> Iterator[str]:
    """Draw random names, never the same twice in a row if there are several."""
    random, last = np.random.default_rng(0), -1
    while True:
        number = int(random.integers(count))
        if number != last or count == 1:
            last = number
            yield f"task{number}"


def our_actions(bundle: Path, folder: Path, count: int, engine: str, threads: int) -> dict[str, Callable[[], float]]:
    """The timed actions of our runtime with that many tasks, on one engine."""
    opened = read_bundle(bundle)
    warm = Runtime(bundle, engine, threads, prompts=folder, prompts_budget_bytes=ALL_BYTES)
    for number in range(count):
        warm.task(f"task{number}")
    found = {
        WARM: after_request(asking(warm), lambda name: prompt_inputs([warm.task(name)]), drawn(count)),
        START: after_request(
            asking(warm),
            lambda name: TaskRegistry(opened, lambda array: array, lambda *_: None, lambda _: None, [folder]).find(
                name
            ),
            drawn(count),
        ),
    }
    if count == 1:
        return found  # a single task is never evicted, so it is never read again
    cold = Runtime(bundle, engine, threads, prompts=folder, prompts_budget_bytes=0)
    return {
        **found,
        COLD: after_request(asking(cold), lambda name: prompt_inputs([cold.task(name)]), drawn(count)),
        NP_LOAD: after_request(asking(warm), lambda name: np.load(folder / f"{name}.npy"), drawn(count)),
        NP_LOAD_AND_CARD: after_request(
            asking(warm),
            lambda name: (np.load(folder / f"{name}.npy"), json.loads((folder / f"{name}.json").read_bytes())),
            drawn(count),
        ),
    }


def asking(runtime: Runtime) -> Named:
    """Return a request under a task."""
    return lambda name: runtime.embed({"input_ids": TOKENS}, task=name)


def peft_action(network: Path, count: int) -> Callable[[], float]:
    """PEFT's switch between that many adapters, timed after a request."""
    config = PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=VIRTUAL_TOKENS)
    model: Any = get_peft_model(AutoModel.from_pretrained(network), config, adapter_name="task0")
    for number in range(1, count):
        model.add_adapter(f"task{number}", config)
    model.eval()
    ids = torch.from_numpy(TOKENS)

    @torch.inference_mode()
    def request(_: str) -> object:
        return model(input_ids=ids, attention_mask=torch.ones_like(ids))

    return after_request(request, lambda name: model.set_adapter(name, inference_mode=True), drawn(count))


def named(line: str, count: int) -> str:
    """Return the name of a series."""
    return f"{line}, {count:,} tasks"


def switch_series(bundle: Path, network: Path, folder: Path, plan: Plan, threads: int) -> list[Series]:
    """Time everything for every number of tasks: one engine after the other, numbers of tasks in turn."""
    for count in plan.counts:
        write_tasks(folder / str(count), count, bundle)
    peft = {named(PEFT, count): peft_action(network, count) for count in plan.peft_counts}
    series = []
    for engine in ENGINES:
        timed = {
            (f"{engine}: {what}", count): action
            for count in plan.counts
            for what, action in our_actions(bundle, folder / str(count), count, engine, threads).items()
        }
        by_name = {named(*key): action for key, action in timed.items()}
        found = samples_us(by_name | peft, plan.rounds)
        series += [Series(named(*key), "µs", found[named(*key)], line=key[0], x=key[1]) for key in timed]
        peft_samples = {name: found[name] for name in peft}
        peft = {}  # measured with the first engine only
        series += [
            Series(name, "µs", samples, line=PEFT, x=count)
            for (name, samples), count in zip(peft_samples.items(), plan.peft_counts, strict=False)
        ]
    return series


def session_series(bundle: Path, plan: Plan, threads: int) -> list[Series]:
    """Time loading the network once more."""
    opened, settings = read_bundle(bundle), EngineOptions(threads)
    actions: dict[str, Callable[[], object]] = {
        f"{engine}: load another network": lambda engine=engine: open_engine(opened, engine, settings)  # type: ignore[misc]
        for engine in ENGINES
    }
    return [
        Series(name, "µs", samples)
        for name, samples in interleaved_us(actions, plan.sessions, most_warm_up_rounds=2).items()
    ]


def memory_series(bundle: Path, folder: Path, own_bytes: int, plan: Plan, threads: int) -> list[Series]:
    """Measure fresh processes with one task and with many, in turn, and compute the expected memory of the latter."""
    found: dict[str, list[float]] = {}
    for engine in ENGINES:
        for _ in range(plan.processes):
            for count in (1, plan.memory_tasks):
                common = ("--bundle", bundle, "--folder", folder, "--engine", engine, "--threads", threads)
                for what, size in resident_of("prompts", *common, "--count", count)._asdict().items():
                    found.setdefault(memory_name(engine, what, count), []).append(size / 1e6)
    for engine in ENGINES:
        for what in MEMORY:
            expected = [one + (plan.memory_tasks - 1) * own_bytes / 1e6 for one in found[memory_name(engine, what, 1)]]
            found[f"{memory_name(engine, what, 1)} plus the bytes of the further prompts"] = expected
    return [Series(name, "MB", tuple(samples), line=name.partition(":")[0]) for name, samples in found.items()]


MEMORY = {"now": "resident memory", "peak": "peak resident memory"}
"""Labels for the fields of `Resident`."""


def memory_name(engine: str, what: str, count: int) -> str:
    """Return the name of a memory series."""
    return f"{engine}: {MEMORY[what]}, {count:,} task{'s' if count > 1 else ''}"


def ratios(series: Sequence[Series], plan: Plan) -> Iterator[Ratio]:
    """The key ratios."""
    names = {one.name for one in series}
    for engine in ENGINES:
        for count in plan.counts:
            cold = named(f"{engine}: {COLD}", count)
            if cold in names:
                load = named(f"{engine}: {NP_LOAD}", count)
                yield Ratio(f"{cold}, over np.load", cold, load, goal=COLD_GOAL)
        first, last = (named(f"{engine}: {WARM}", count) for count in (plan.counts[0], plan.counts[-1]))
        yield Ratio(f"{last}, over that of {plan.counts[0]}", last, first)
        for count in plan.peft_counts:
            warm = named(f"{engine}: {WARM}", count)
            yield Ratio(f"PEFT's set_adapter over {warm}", named(PEFT, count), warm, paired=False, at_least=True)
    for what in MEMORY:
        for engine in ENGINES:
            many, one = (memory_name(engine, what, count) for count in (plan.memory_tasks, 1))
            expected = f"{one} plus the bytes of the further prompts"
            yield Ratio(f"{many}, over one plus the bytes of the further prompts", many, expected, goal=MEMORY_GOAL)


def charts(series: Sequence[Series]) -> Iterator[Chart]:
    """Draw lines over the number of tasks, and memory as bars."""
    found = {one.name: one for one in series}
    for engine in ENGINES:
        shown = tuple(one.name for one in series if one.x and one.line.startswith((f"{engine}:", "PEFT:")))
        limit = found[f"{engine}: load another network"].median.value
        title = f"Time of a swap by number of tasks, {engine}"
        yield Chart(title, shown, "tasks", log=True, limits={"load another network": limit})
    yield Chart("Memory of a fresh process", tuple(one.name for one in series if one.unit == "MB"))


def measure(bundle: Path, network: Path, plan: Plan, threads: int) -> Measured:
    """Measure everything."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        series = switch_series(bundle, network, folder, plan, threads)
        series += session_series(bundle, plan, threads)
        own_bytes = write_tasks(folder / "memory", plan.memory_tasks, bundle)
        series += memory_series(bundle, folder / "memory", own_bytes, plan, threads)
    return Measured(
        tuple(series),
        tuple(ratios(series, plan)),
        tuple(charts(series)),
        left_out={
            named(PEFT, count): "PEFT takes too long to add that many adapters"
            for count in plan.counts
            if count not in plan.peft_counts
        },
        notes=("all-MiniLM-L6-v2 has its own weights; prompts are random and differ only in their names.",),
    )


@click.command()
@options
def main(*, quick: bool, threads: int, output: Path) -> None:
    """Measure and publish."""
    plan = QUICK if quick else FULL
    settings = {**plan._asdict(), "threads": threads}
    publish(__file__, __doc__, output, settings, lambda: measure(minilm_bundle(), minilm(), plan, threads))


if __name__ == "__main__":
    main()
