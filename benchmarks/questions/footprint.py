"""How much disk space and memory do N tasks need, compared with N fine-tuned networks and N LoRA adapters?

    python benchmarks/questions/footprint.py

1 to 1,000 tasks of all-MiniLM-L6-v2, in MB:

- Ours: soft prompts of 16 virtual tokens and prefixes of 64 (the defaults of `edge-prompt tune` for texts) in float16,
  each with a card and a linear head for 8 classes. Disk: the files of a bundle for one engine and of all tasks. Memory:
  resident and peak memory of a fresh process that answered one request per task and kept all prompts; for prefixes also
  with the default memory budget, where prompts beyond it are evicted and read again.
- Fine-tuned networks: one loaded network per task on the same engines, each from files of its own, because pages of one
  file would be shared. Up to 4 are measured; more are extrapolated linearly and marked as such.
- LoRA adapters of rank 8 in PEFT, on the layers that it chooses by default and in its own files, all loaded in a fresh
  process. Loading many takes PEFT long, so up to 100 are measured and more are extrapolated in the same way.
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
from benchmarks.lib.resident_memory import ALL_BYTES, Resident, resident_of
from edge_prompt import Head, read_bundle, write_prompt
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.runtime import PROMPTS_BUDGET_BYTES
from examples.real_data import minilm

PROMPTS = {"soft": 16, "prefix": 64}
"""Virtual tokens of each kind."""

CLASSES, RANK = 8, 8
SUFFIXES = (".npy", ".json", ".head.npz")
DISK, MEMORY, PEAK, EXTRAPOLATED = "disk", "memory", "peak memory", "extrapolated"
TITLES = {
    DISK: "On disk",
    MEMORY: "Resident memory of a fresh process with all tasks loaded",
    PEAK: "Peak resident memory of a fresh process",
}
NETWORKS, LORAS = "fine-tuned networks", "LoRAs in PEFT"

Points = dict[tuple[str, str, int], list[float]]
"""MB by line, by `DISK`, `MEMORY` (resident at the end) or `PEAK`, and by the number of tasks."""


class Plan(NamedTuple):
    """The extent of a run.

    Attributes:
        counts: Numbers of tasks.
        networks: Numbers of networks that are opened.
        loras: Numbers of adapters that PEFT loads.
        engines: The engines.
        repeats: Fresh processes per measurement.
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
    """Write prompts with cards and heads that differ only in their names."""
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
    """Return the total size of files, in MB."""
    return sum(file.stat().st_size for file in files) / 1e6


def bundle_files(bundle: Path, engine: str) -> list[Path]:
    """Return the files of a bundle without the graphs of other engines."""
    graphs = read_bundle(bundle).manifest.graphs
    others = {name for other, graph in graphs.items() if other != engine for name in graph.sha256}
    needed = set(graphs[engine].sha256)
    return [file for file in bundle.iterdir() if file.name not in others - needed]


def add_ours(found: Points, bundle: Path, scratch: Path, plan: Plan, threads: int) -> None:
    """Add bundles with prompts."""
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
    """Yield the memory budgets of prompts, with the name of the line under each."""
    short = {PROMPTS_BUDGET_BYTES: f"{line}, default memory budget"} if kind == "prefix" else {}
    return {ALL_BYTES: line, **short}


def add_networks(found: Points, bundle: Path, scratch: Path, plan: Plan, threads: int) -> None:
    """Add one network per task."""
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
    """Add PEFT with LoRAs, which need the network's own files as well."""
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
    """Add one sample."""
    found.setdefault(key, []).append(value)


def add_memory(found: Points, line: str, count: int, resident: Resident) -> None:
    """Add resident and peak memory of a process.

    Opening a network may take more than it keeps, which hides growth in the peak.
    """
    add(found, (line, MEMORY, count), resident.now / 1e6)
    add(found, (line, PEAK, count), resident.peak / 1e6)


def extrapolated(found: Mapping[tuple[str, str, int], list[float]], counts: Sequence[int]) -> Points:
    """Extrapolate lines that end early to all numbers of tasks, along the slope of their last two points."""
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
                more[f"{line} ({EXTRAPOLATED})", what, count] = [high + slope * (count - last)]
    return more


def ratios(points: Points, most: int) -> Iterator[Ratio]:
    """Ratios of the others' needs to ours, for the largest number of tasks."""
    ours = [line for line, what, count in points if line.startswith("edge-prompt") and (what, count) == (MEMORY, most)]
    for line in ours:
        engine = line.partition(" on ")[2].partition(",")[0]
        for other in (f"{NETWORKS} on {engine}", LORAS):
            shown = other if (other, MEMORY, most) in points else f"{other} ({EXTRAPOLATED})"
            for what in TITLES:
                if (line, what, most) in points and (shown, what, most) in points:
                    top, bottom = named(shown, what, most), named(line, what, most)
                    yield Ratio(f"{top}, over {line}", top, bottom, paired=False, at_least=True)


def named(line: str, what: str, count: int) -> str:
    """Return the name of a series."""
    return f"{line}: {what}, {count:,}"


def measure(bundle: Path, network: Path, plan: Plan, threads: int) -> Measured:
    """Measure everything."""
    points: Points = {}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        add_ours(points, bundle, scratch, plan, threads)
        add_networks(points, bundle, scratch, plan, threads)
        add_loras(points, network, scratch, plan, threads)
    points |= extrapolated(points, plan.counts)
    series = tuple(Series(named(*key), "MB", tuple(samples), line=key[0], x=key[2]) for key, samples in points.items())
    return Measured(
        series,
        tuple(ratios(points, max(plan.counts))),
        tuple(
            Chart(title, tuple(named(*key) for key in points if key[1] == what), "tasks", log=True)
            for what, title in TITLES.items()
        ),
        left_out={
            **{engine: "not measured with --quick" for engine in ENGINES if engine not in plan.engines},
            "adapters in ONNX Runtime GenAI and OpenVINO GenAI": "they do not serve text encoders such as this one",
        },
        notes=(
            "all-MiniLM-L6-v2 has its own weights; prompts, heads and LoRAs are random.",
            f"Lines marked {EXTRAPOLATED!r} continue along the slope of the last two measured points.",
            "Disk is the size of files; for networks and LoRAs, the bytes of one times their number.",
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
