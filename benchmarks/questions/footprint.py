"""What do N tasks need on disk and in memory? Beside N fine-tuned networks and N LoRA adapters.

    python benchmarks/questions/footprint.py

Tasks of all-MiniLM-L6-v2, 1 to 1,000, in MB:

- Ours: soft prompts of 16 virtual tokens and prefixes of 64, the defaults of `edge-prompt tune` for texts; in float16,
  with a linear head for 8 classes and a card. On disk: the files of a bundle for one engine, and those of all tasks. In
  memory: what is resident in a fresh process once it answered a request of every task, all prompts kept, and the most
  that ever was; for prefixes besides with the default budget, beyond which prompts are let go and read again.
- Fine-tuned networks, an opened one a task on the same engines. Each has files of its own, for pages of one file would
  be shared. They are measured up to 4 and drawn on by the slope, under a name that says so.
- LoRA adapters of rank 8 in PEFT, where it places them by default, as it saves them; all loaded in a fresh process.
  Loading many takes PEFT long, so they are measured up to 100 and drawn on in the same way.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

from benchmarks.lib.bundles import minilm_bundle
from benchmarks.lib.publish import Measured, options, publish
from benchmarks.lib.resident import ALL_BYTES, Resident, resident_of
from edge_prompt import Head, read_bundle, write_prompt
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.runtime import PROMPTS_BUDGET_BYTES
from examples.real_data import minilm

PROMPTS = {"soft": 16, "prefix": 64}
"""Virtual tokens of each kind."""

CLASSES, RANK = 8, 8
SUFFIXES = (".npy", ".json", ".head.npz")
DISK, MEMORY, PEAK, DRAWN_ON = "disk", "memory", "peak memory", "extrapolated"
TITLES = {
    DISK: "On disk",
    MEMORY: "Resident memory of a fresh process, once all are loaded",
    PEAK: "Peak resident memory of a fresh process",
}
NETWORKS, LORAS = "fine-tuned networks", "LoRAs in PEFT"

Points = dict[tuple[str, str, int], list[float]]
"""MB by line, by `DISK`, `MEMORY` (resident at the end) or `PEAK`, and by the number of tasks."""


class Plan(NamedTuple):
    """What is measured.

    Attributes:
        counts: Numbers of tasks.
        networks: Numbers of networks that are opened.
        loras: Numbers of adapters that PEFT loads.
        engines: On which engines.
        repeats: Fresh processes for each.
        prompts: Virtual tokens of each kind.
    """

    counts: tuple[int, ...]
    networks: tuple[int, ...]
    loras: tuple[int, ...]
    engines: tuple[str, ...] = tuple(ENGINES)
    repeats: int = 1
    prompts: Mapping[str, int] = PROMPTS


FULL = Plan((1, 10, 100, 1_000), (1, 2, 4), (1, 10, 100))
QUICK = Plan((1, 10), (1, 2), (1, 2), ("onnxruntime",))


def write_tasks(folder: Path, bundle: Path, kind: str, length: int, count: int) -> None:
    """Prompts with cards and heads, all the same but for their names."""
    manifest = read_bundle(bundle).manifest
    random = np.random.default_rng(0)
    shape = [length if axis is None else axis for axis in manifest.kinds[kind]]
    width = manifest.backbone.feature_size
    first = folder / "task0.npy"
    write_prompt(
        first,
        random.standard_normal(shape, dtype=np.float32).astype(np.float16),
        kind,
        manifest.backbone.fingerprint,
        head=Head(random.standard_normal((CLASSES, width), dtype=np.float32), np.zeros(CLASSES, np.float32)),
        labels=tuple(f"class {number}" for number in range(CLASSES)),
    )
    for number in range(1, count):
        for suffix in SUFFIXES:
            shutil.copyfile(folder / f"task0{suffix}", folder / f"task{number}{suffix}")


def megabytes(files: Sequence[Path]) -> float:
    """What files hold, in MB."""
    return sum(file.stat().st_size for file in files) / 1e6


def bundle_files(bundle: Path, engine: str) -> list[Path]:
    """The files of a bundle without those of other engines' graphs."""
    graphs = read_bundle(bundle).manifest.graphs
    others = {name for other, graph in graphs.items() if other != engine for name in graph.sha256}
    needed = set(graphs[engine].sha256)
    return [file for file in bundle.iterdir() if file.name not in others - needed]


def add_ours(found: Points, bundle: Path, scratch: Path, plan: Plan, threads: int) -> None:
    """Bundles with prompts."""
    for kind, length in plan.prompts.items():
        folder = scratch / kind
        write_tasks(folder, bundle, kind, length, max(plan.counts))
        for engine in plan.engines:
            line = f"edge-prompt on {engine}, {kind} of {length}"
            common = ("--bundle", bundle, "--folder", folder, "--engine", engine, "--threads", threads)
            for count in plan.counts:
                own = [folder / f"task{number}{suffix}" for number in range(count) for suffix in SUFFIXES]
                add(found, (line, DISK, count), megabytes([*bundle_files(bundle, engine), *own]))
                for budget, name in budgets(kind, line).items():
                    for _ in range(plan.repeats):
                        resident = resident_of("prompts", *common, "--count", count, "--budget", budget)
                        add_memory(found, name, count, resident)


def budgets(kind: str, line: str) -> dict[int, str]:
    """How much memory prompts may take, and what the line is called then."""
    short = {PROMPTS_BUDGET_BYTES: f"{line}, within the default budget"} if kind == "prefix" else {}
    return {ALL_BYTES: line, **short}


def add_networks(found: Points, bundle: Path, scratch: Path, plan: Plan, threads: int) -> None:
    """A network a task."""
    copies = [shutil.copytree(bundle, scratch / f"network{number}") for number in range(max(plan.networks))]
    for engine in plan.engines:
        line = f"{NETWORKS} on {engine}"
        for count in plan.networks:
            add(found, (line, DISK, count), megabytes(bundle_files(bundle, engine)) * count)
            for _ in range(plan.repeats):
                resident = resident_of("networks", *copies[:count], "--engine", engine, "--threads", threads)
                add_memory(found, line, count, resident)
    for copy in copies:
        shutil.rmtree(copy)


def add_loras(found: Points, network: Path, scratch: Path, plan: Plan, threads: int) -> None:
    """PEFT with LoRAs, which it has beside the network's own files."""
    adapter = scratch / "lora"
    config = LoraConfig(task_type="FEATURE_EXTRACTION", r=RANK)
    model: Any = get_peft_model(AutoModel.from_pretrained(network), config)
    model.save_pretrained(adapter)
    files = [path for path in network.iterdir() if path.is_file()]
    for count in plan.loras:
        own = megabytes([path for path in adapter.rglob("*") if path.is_file()])
        add(found, (LORAS, DISK, count), megabytes(files) + count * own)
        for _ in range(plan.repeats):
            common = ("--network", network, "--adapter", adapter, "--threads", threads)
            add_memory(found, LORAS, count, resident_of("adapters", *common, "--count", count))


def add(found: Points, key: tuple[str, str, int], value: float) -> None:
    """One more sample."""
    found.setdefault(key, []).append(value)


def add_memory(found: Points, line: str, count: int, resident: Resident) -> None:
    """What a process had at the end, and at most: opening a network may take more than it keeps, which hides growth."""
    add(found, (line, MEMORY, count), resident.now / 1e6)
    add(found, (line, PEAK, count), resident.peak / 1e6)


def drawn_on(found: Mapping[tuple[str, str, int], list[float]], counts: Sequence[int]) -> Points:
    """Points of lines that end early, at the numbers of tasks beyond, by the slope of their last two."""
    more: Points = {}
    for line, what in dict.fromkeys((line, what) for line, what, _ in found):
        own = sorted(count for other, sort, count in found if (other, sort) == (line, what))
        if own[-1] >= max(counts):
            continue
        before, last = own[-2:]
        low, high = (float(np.median(found[line, what, count])) for count in (before, last))
        slope = (high - low) / (last - before)
        for count in counts:
            if count > last:
                more[f"{line} ({DRAWN_ON})", what, count] = [high + slope * (count - last)]
    return more


def ratios(points: Points, most: int) -> Iterator[Ratio]:
    """What others need for the most tasks, over ours."""
    ours = [line for line, what, count in points if line.startswith("edge-prompt") and (what, count) == (MEMORY, most)]
    for line in ours:
        engine = line.partition(" on ")[2].partition(",")[0]
        for other in (f"{NETWORKS} on {engine}", LORAS):
            shown = other if (other, MEMORY, most) in points else f"{other} ({DRAWN_ON})"
            for what in TITLES:
                if (line, what, most) in points and (shown, what, most) in points:
                    top, bottom = named(shown, what, most), named(line, what, most)
                    yield Ratio(f"{top}, over {line}", top, bottom, paired=False, at_least=True)


def named(line: str, what: str, count: int) -> str:
    """The name of a series."""
    return f"{line}: {what}, {count:,}"


def measure(bundle: Path, network: Path, plan: Plan, threads: int) -> Measured:
    """All of it."""
    points: Points = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        add_ours(points, bundle, scratch, plan, threads)
        add_networks(points, bundle, scratch, plan, threads)
        add_loras(points, network, scratch, plan, threads)
    points |= drawn_on(points, plan.counts)
    series = tuple(Series(named(*key), "MB", tuple(samples), line=key[0], x=key[2]) for key, samples in points.items())
    return Measured(
        series,
        tuple(ratios(points, max(plan.counts))),
        tuple(
            Chart(title, tuple(named(*key) for key in points if key[1] == what), "tasks", log=True)
            for what, title in TITLES.items()
        ),
        left_out={
            **{engine: "not asked with --quick" for engine in ENGINES if engine not in plan.engines},
            "adapters in ONNX Runtime GenAI and OpenVINO GenAI": "they serve no text encoders such as this one",
        },
        notes=(
            "all-MiniLM-L6-v2 has its own weights; prompts, heads and LoRAs are random.",
            f"Lines named as {DRAWN_ON} go on by the slope of the last two that were measured.",
            "Disk is what files hold: of networks and LoRAs, the bytes of one times their number.",
        ),
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
