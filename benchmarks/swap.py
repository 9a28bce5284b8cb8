"""What does switching a task cost? Beside PEFT's `set_adapter` and beside loading another network.

    python benchmarks/swap.py

A warm swap is everything that another task costs a request besides running the network: from the task's name to the
graph's inputs. As a check on that definition, requests that stay on one task and requests that change it every time are
timed whole, too. A cold swap is from the file to a loaded task, every check included. All variants take turns in one
process. Network: all-MiniLM-L6-v2; prompts: two prefixes of 16 virtual tokens; PEFT: two prefix-tuning adapters of the
same length on the same network.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
import torch
from peft import PrefixTuningConfig, get_peft_model
from transformers import AutoModel

from benchmarks.publish import Measured, options, publish
from edge_prompt import Head, write_prompt
from edge_prompt_export import export_backbone
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import interleaved_us
from edge_prompt_runtime.engines import open_engine
from edge_prompt_runtime.feeds import feeds_of
from edge_prompt_runtime.requests import open_requests
from examples.real_data import minilm

VIRTUAL_TOKENS = 16
TOKENS = {"input_ids": np.arange(1000, 1032)[None]}
Variants = dict[str, Callable[[], object]]


def our_variants(runtime: Runtime, folder: Path) -> Variants:
    """Our swaps on one engine."""
    names = runtime.bundle.graph(runtime.engine).inputs
    tokens = open_requests(runtime.bundle).take(TOKENS).of_rows([0])
    tasks = itertools.cycle(("a", "b"))
    engine = runtime.engine
    return {
        f"{engine}: name to task": lambda: runtime.task(next(tasks)),
        f"{engine}: warm swap": lambda: feeds_of(tokens, [runtime.task(next(tasks))], names, masked=True),
        f"{engine}: no swap": lambda: feeds_of(tokens, [runtime.task("a")], names, masked=True),
        f"{engine}: cold swap (file to task)": lambda: runtime.load("c", folder / f"{next(tasks)}.npy"),
        f"{engine}: request, same task": lambda: runtime.classify(TOKENS, task="a"),
        f"{engine}: request, other task every time": lambda: runtime.classify(TOKENS, task=next(tasks)),
    }


def peft_variants() -> Variants:
    """PEFT with two prefixes on the same network."""
    config = PrefixTuningConfig(task_type="FEATURE_EXTRACTION", num_virtual_tokens=VIRTUAL_TOKENS)
    model = get_peft_model(AutoModel.from_pretrained(minilm()), config, adapter_name="a")
    model.add_adapter("b", config)
    model.eval()
    adapters = itertools.cycle(("a", "b"))
    return {"PEFT: set_adapter": lambda: model.set_adapter(next(adapters))}


def load_variants(runtimes: list[Runtime]) -> Variants:
    """Loading another network, on each engine."""
    return {
        f"{runtime.engine}: load another network": lambda runtime=runtime: open_engine(  # type: ignore[misc]
            runtime.bundle, runtime.engine
        )
        for runtime in runtimes
    }


def write_tasks(folder: Path, fingerprint: str) -> None:
    """Two prompts with heads."""
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        array = random.standard_normal((6, 2, 12, VIRTUAL_TOKENS, 32), dtype=np.float32)
        head = Head(random.standard_normal((2, 384), dtype=np.float32), np.zeros(2, np.float32))
        write_prompt(folder / f"{name}.npy", array, "prefix", fingerprint, head=head, labels=("no", "yes"))


def measure(rounds: int, loads: int, threads: int) -> Measured:
    """All of it."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        bundle = export_backbone(minilm(), folder / "bundle")
        write_tasks(folder, bundle.manifest.backbone.fingerprint)
        runtimes = [Runtime(folder / "bundle", engine, threads) for engine in bundle.manifest.graphs]
        variants: Variants = {}
        for runtime in runtimes:
            runtime.load("a", folder / "a.npy")
            runtime.load("b", folder / "b.npy")
            variants |= our_variants(runtime, folder)
        samples = interleaved_us(variants | peft_variants(), rounds)
        samples |= interleaved_us(load_variants(runtimes), loads)
    warm = [f"{runtime.engine}: warm swap" for runtime in runtimes]
    return Measured(
        series=tuple(Series(name, "µs", found, line=name.partition(":")[0]) for name, found in samples.items()),
        ratios=tuple(
            ratio
            for name in warm
            for ratio in (
                Ratio(f"PEFT over {name}", "PEFT: set_adapter", name, goal=20, at_least=True),
                Ratio(
                    f"another session over {name}",
                    f"{name.partition(':')[0]}: load another network",
                    name,
                    paired=False,
                    goal=10_000,
                    at_least=True,
                ),
            )
        ),
        charts=(
            Chart(
                "What a switch takes",
                (*warm, "PEFT: set_adapter", *(f"{runtime.engine}: load another network" for runtime in runtimes)),
                log=True,
            ),
        ),
        notes=("Network: all-MiniLM-L6-v2 with its own weights.",),
    )


@click.command()
@options
def main(*, quick: bool, threads: int, output: Path) -> None:
    """Measure and publish."""
    rounds, loads = (30, 3) if quick else (500, 9)
    settings = {"rounds": rounds, "loads": loads, "threads": threads}
    publish(__file__, __doc__, output, settings, lambda: measure(rounds, loads, threads))


if __name__ == "__main__":
    main()
