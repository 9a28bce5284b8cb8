"""The memory of a fresh process: each command loads something, sends requests, and prints resident and peak memory.

    python -m benchmarks.lib.resident_memory prompts --bundle … --folder … --engine onnxruntime --count 1000

Only what the command needs is imported, since imports would be counted.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from edge_prompt_runtime.bench.machine import peak_resident_bytes, resident_bytes

WARM_UP_REQUESTS, ALL_BYTES = 20, 1 << 40
TOKENS = np.arange(32)[None] % 90 + 10
"""Token ids that also exist in small vocabularies."""


class Resident(NamedTuple):
    """Memory in bytes: resident at the end, and the peak."""

    now: int
    peak: int


def resident_of(command: str, *arguments: object) -> Resident:
    """Return the memory of a fresh process that runs a command of this module.

    Raises:
        SystemExit: The command failed; the message contains its output.
    """
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.lib.resident_memory", command, *map(str, arguments)]
    ended = subprocess.run(program, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{command} failed: {ended.stderr[-2000:]}")
    return Resident(**json.loads(ended.stdout.splitlines()[-1]))


@click.group()
def main() -> None:
    """Load something and print the resident memory."""


@main.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--engine", required=True)
@click.option("--threads", type=int, default=2)
@click.option("--count", type=int, required=True)
@click.option("--budget", type=int, default=ALL_BYTES)
def prompts(bundle: Path, folder: Path, engine: str, threads: int, count: int, budget: int) -> None:
    """Load tasks `task0`, `task1`, … of a folder and send one request to each."""
    from edge_prompt_runtime import Runtime

    runtime = Runtime(bundle, engine, threads, prompts=folder, prompts_budget_bytes=budget)
    for number in [*[0] * WARM_UP_REQUESTS, *range(1, count)]:
        runtime.embed({"input_ids": TOKENS}, task=f"task{number}")
    say(runtime)


@main.command()
@click.argument("bundles", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option("--engine", required=True)
@click.option("--threads", type=int, default=2)
def networks(bundles: tuple[Path, ...], engine: str, threads: int) -> None:
    """Load one network per bundle, keep all, and send each as many requests as a single one gets."""
    from edge_prompt_runtime import Runtime

    runtimes = [Runtime(bundle, engine, threads) for bundle in bundles]
    for runtime in runtimes:
        for _ in range(WARM_UP_REQUESTS):
            runtime.embed({"input_ids": TOKENS})
    say(runtimes)


@main.command()
@click.option("--network", type=click.Path(path_type=Path), required=True)
@click.option("--adapter", type=click.Path(path_type=Path), required=True)
@click.option("--threads", type=int, default=2)
@click.option("--count", type=int, required=True)
def adapters(network: Path, adapter: Path, threads: int, count: int) -> None:
    """Load the same adapter into PEFT under that many names."""
    import torch
    from peft import PeftModel
    from transformers import AutoModel

    torch.set_num_threads(threads)
    model: Any = PeftModel.from_pretrained(AutoModel.from_pretrained(network), adapter, adapter_name="task0")
    for number in range(1, count):
        model.load_adapter(adapter, f"task{number}")
    model.eval()
    ids = torch.from_numpy(TOKENS)
    with torch.inference_mode():
        for _ in range(WARM_UP_REQUESTS):
            model(input_ids=ids, attention_mask=torch.ones_like(ids))
    say(model)


def say(kept: object) -> None:
    """Print the resident memory while `kept` is alive."""
    assert kept is not None
    print(json.dumps({"now": resident_bytes(), "peak": peak_resident_bytes()}))


if __name__ == "__main__":
    main()
