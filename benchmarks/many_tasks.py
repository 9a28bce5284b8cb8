"""How does it grow with the number of tasks? From 1 to 10,000 in one folder.

    python benchmarks/many_tasks.py

MiniLM, soft prompts of 16 virtual tokens. In one run, a row a number of tasks:

- Start: until a runtime on an opened network could serve any of them.
- Warm swap: from the name of a task in memory to the graph's inputs; names at random. Median and 99th percentile.
- Cold swap: the same of a task that is not in memory: its files are read and checked. Beside `np.load` of the prompt
  alone, and beside the request that it is for.
- PEFT: `set_adapter` with as many prompt-tuning adapters on the same network.
- Memory: resident bytes for each further task, in a process of its own, beside the bytes of its prompt.

At the end, what opening another session of the network takes.
"""

from __future__ import annotations

import gc
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns

import click
import numpy as np
from peft import PromptTuningConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import AutoModel

from benchmarks.bundles import minilm_bundle
from edge_prompt import read_bundle, write_prompt
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.machine import resident_bytes
from edge_prompt_runtime.engines import ENGINES, open_engine
from edge_prompt_runtime.feeds import feeds_of
from edge_prompt_runtime.requests import open_requests
from examples.real_data import minilm

COUNTS, VIRTUAL_TOKENS, HIDDEN_SIZE, MEMORY_TASKS = (1, 10, 1_000, 10_000), 16, 384, 1_000
TOKENS = {"input_ids": np.arange(1000, 1032)[None]}
ALL_BYTES = 1 << 40

Action = Callable[[str], object]


def write_tasks(folder: Path, count: int, fingerprint: str) -> None:
    """Prompts with their cards, all the same but for their names."""
    array = np.random.default_rng(0).standard_normal((VIRTUAL_TOKENS, HIDDEN_SIZE), dtype=np.float32)
    first = folder / "task0.npy"
    write_prompt(first, array, "soft", fingerprint)
    for number in range(1, count):
        for suffix in (".npy", ".json"):
            shutil.copyfile(first.with_suffix(suffix), folder / f"task{number}{suffix}")


def times_us(action: Action, names: Sequence[str]) -> tuple[float, float]:
    """Median and 99th percentile of an action on each name."""
    gc.disable()
    try:
        samples = []
        for name in names:
            start = perf_counter_ns()
            action(name)
            samples.append((perf_counter_ns() - start) / 1000)
    finally:
        gc.enable()
    median, last = np.percentile(samples, [50, 99])
    return float(median), float(last)


def our_row(bundle: Path, folder: Path, count: int, engine: str, samples: int) -> list[str]:
    """Start, warm and cold swaps with so many tasks."""
    inputs = read_bundle(bundle).graph(engine).inputs
    tokens = open_requests(read_bundle(bundle)).take(TOKENS).of_rows([0])
    random = np.random.default_rng(0)
    asked = [f"task{number}" for number in random.integers(count, size=samples)]
    runtime = Runtime(bundle, engine, threads=2, prompts=folder, prompts_budget_bytes=ALL_BYTES)
    start_us, _ = times_us(lambda _: runtime.store.folders.find("task0"), [""])
    for name in (f"task{number}" for number in range(count)):
        runtime.task(name)

    def warm(name: str) -> object:
        return feeds_of(tokens, [runtime.task(name)], inputs, masked=True)

    cold = Runtime(bundle, engine, threads=2, prompts=folder, prompts_budget_bytes=0)
    different = [asked[0], *(name for last, name in itertools.pairwise(asked) if name != last)]
    times_us(warm, asked[:100])
    found = [
        times_us(warm, asked),
        times_us(cold.task, different[:500]),
        times_us(lambda name: np.load(folder / f"{name}.npy"), different[:500]),
        times_us(lambda name: cold.embed(TOKENS, task=name), different[:500]),
        times_us(lambda name: runtime.embed(TOKENS, task=name), different[:500]),
    ]
    return [f"{count:,}", f"{start_us:,.0f}", *(f"{median:,.1f}, {last:,.1f}" for median, last in found)]


def peft_row(count: int, samples: int) -> list[str]:
    """PEFT's switch with so many adapters."""
    config = PromptTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=VIRTUAL_TOKENS)
    model = get_peft_model(AutoModel.from_pretrained(minilm()), config, adapter_name="task0")
    for number in range(1, count):
        model.add_adapter(f"task{number}", config)
    numbers = np.random.default_rng(0).integers(count, size=samples)
    median, last = times_us(model.set_adapter, [f"task{number}" for number in numbers])
    return [f"{count:,}", f"{median:,.1f}, {last:,.1f}"]


def print_memory(bundle: Path, folder: Path, engine: str) -> None:
    """Read a thousand tasks and print what was resident after the first and the last, answers included."""
    runtime = Runtime(bundle, engine, threads=2, prompts=folder, prompts_budget_bytes=ALL_BYTES)
    for _ in range(20):
        runtime.embed(TOKENS, task="task0")
    before = resident_bytes()
    for number in range(1, MEMORY_TASKS):
        runtime.embed(TOKENS, task=f"task{number}")
    print(json.dumps({"first": before, "last": resident_bytes()}))


def memory_row(bundle: Path, folder: Path, engine: str) -> list[str]:
    """Resident memory after the first and the thousandth task, and its slope beside the prompt's own bytes."""
    script = [sys.executable, __file__, "--memory-of", engine, "--bundle", str(bundle), "--folder", str(folder)]
    output = subprocess.run(script, check=True, capture_output=True, text=True).stdout
    found = json.loads(output.splitlines()[-1])
    slope = (found["last"] - found["first"]) / (MEMORY_TASKS - 1)
    own = VIRTUAL_TOKENS * HIDDEN_SIZE * 4
    return [
        engine,
        f"{found['first'] / 1e6:,.1f}",
        f"{found['last'] / 1e6:,.1f}",
        f"{slope:,.0f}",
        f"{own:,}",
        f"{found['last'] / (found['first'] + own * (MEMORY_TASKS - 1)):.3f}",
    ]


@click.command()
@click.option("--samples", default=5_000, show_default=True, help="Warm swaps a row.")
@click.option("--peft-up-to", default=1_000, show_default=True, help="PEFT takes long to add an adapter to many.")
@click.option("--bundle", type=click.Path(path_type=Path), help="[default: MiniLM, exported once into .cache]")
@click.option("--memory-of", hidden=True, help="Only measure memory on this engine.")
@click.option("--folder", type=click.Path(path_type=Path), hidden=True)
def main(samples: int, peft_up_to: int, bundle: Path | None, memory_of: str | None, folder: Path | None) -> None:
    """Print the tables."""
    bundle = bundle or minilm_bundle()
    if memory_of is not None and folder is not None:
        print_memory(bundle, folder, memory_of)
        return
    ours = {
        engine: Table(
            f"{engine}: tasks",
            *("start", "warm swap", "cold swap", "np.load", "cold request", "warm request"),
            caption="µs: median, 99th percentile",
        )
        for engine in ENGINES
    }
    memory = Table("memory", "first, MB", "thousandth, MB", "bytes a task", "its prompt", "last over first and prompts")
    with tempfile.TemporaryDirectory() as name:
        for count in COUNTS:
            tasks = Path(name) / str(count)
            write_tasks(tasks, count, read_bundle(bundle).manifest.backbone.fingerprint)
            for engine, table in ours.items():
                table.add_row(*our_row(bundle, tasks, count, engine, samples))
        for engine in ENGINES:
            memory.add_row(*memory_row(bundle, Path(name) / str(COUNTS[-1]), engine))
    peft = Table("PEFT: adapters", "set_adapter", caption="µs: median, 99th percentile")
    for count in COUNTS:
        if count <= peft_up_to:
            peft.add_row(*peft_row(count, 200))
    opened = read_bundle(bundle)
    sessions = Table("another session", "ms", caption="median, 99th percentile")
    for engine in ENGINES:
        median, last = times_us(lambda each: open_engine(opened, each), [engine] * 5)
        sessions.add_row(engine, f"{median / 1e3:,.0f}, {last / 1e3:,.0f}")
    for table in (*ours.values(), memory, peft, sessions):
        Console(width=140).print(table)


if __name__ == "__main__":
    main()
