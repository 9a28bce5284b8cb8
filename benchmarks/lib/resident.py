"""What a fresh process has in memory: each command loads something, asks it, and prints what is and was resident.

    python -m benchmarks.lib.resident prompts --bundle … --folder … --engine onnxruntime --count 1000

Nothing is imported but what the command needs, for that would be counted.
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
"""Ids that small vocabularies have, too."""


class Resident(NamedTuple):
    """In bytes: at the end, and the most that ever was."""

    now: int
    peak: int


def resident_of(command: str, *arguments: object) -> Resident:
    """What a fresh process has that runs a command of this module.

    Raises:
        SystemExit: It failed; says how.
    """
    program = [sys.executable, "-W", "ignore", "-m", "benchmarks.lib.resident", command, *map(str, arguments)]
    ended = subprocess.run(program, check=False, capture_output=True, text=True)
    if ended.returncode:
        raise SystemExit(f"{command} failed: {ended.stderr[-2000:]}")
    return Resident(**json.loads(ended.stdout.splitlines()[-1]))


@click.group()
def main() -> None:
    """Load something and print what is resident."""


@main.command()
@click.option("--bundle", type=click.Path(path_type=Path), required=True)
@click.option("--folder", type=click.Path(path_type=Path), required=True)
@click.option("--engine", required=True)
@click.option("--threads", type=int, default=2)
@click.option("--count", type=int, required=True)
@click.option("--budget", type=int, default=ALL_BYTES)
def prompts(bundle: Path, folder: Path, engine: str, threads: int, count: int, budget: int) -> None:
    """Tasks `task0`, `task1`, … of a folder, each asked once; those of one length of tokens."""
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
    """A network a bundle, all kept, each asked as often as a single one is."""
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
    """PEFT with the same adapter under as many names."""
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
    """Print what is resident while `kept` is."""
    assert kept is not None
    print(json.dumps({"now": resident_bytes(), "peak": peak_resident_bytes()}))


if __name__ == "__main__":
    main()
