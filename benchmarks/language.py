"""What do prompts cost a language model on a device? Beside the same prompt in PEFT.

    python benchmarks/language.py

SmolLM2-135M-Instruct (de-quantised from 4 bits), greedy, a prompt of 100 virtual tokens, 28 tokens of request, 64
generated; both engines and torch with two threads. All variants take turns in one process; the generated tokens are
checked to be PEFT's before anything is timed.

- Time to the first token: without a prompt, under the compiled one, and with its virtual tokens read anew each time;
  the ratios are of neighbouring runs.
- A task switch: what a request that changes its task needs beyond the network, a cache made ready for another prompt.
- Generation: tokens a second, the first included.
- Memory: how much more is resident for each further task, beside the bytes of its keys and values.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import click
import numpy as np
import torch
from peft import PromptTuningConfig, get_peft_model
from rich.console import Console
from rich.table import Table
from transformers import AutoModelForCausalLM

from benchmarks.measure import Samples, interleaved, ratio
from edge_prompt import read_bundle, write_prompt
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.machine import resident_bytes
from examples.language_scores import smollm2_bundle
from examples.real_language import smollm2

VIRTUAL_TOKENS, REQUEST_TOKENS, NEW_TOKENS, FURTHER_TASKS = 100, 28, 64, 16
ENGINES = ("onnxruntime", "openvino")

Variants = dict[str, Callable[[], object]]


def request() -> list[int]:
    """Token ids of a request, the same each time."""
    tokens: list[int] = np.random.default_rng(0).integers(100, 40_000, REQUEST_TOKENS).tolist()
    return tokens


def write_tasks(folder: Path, embeddings: np.ndarray[Any, Any], fingerprint: str, count: int) -> list[Path]:
    """Soft prompts made of the embeddings of tokens, as tuning starts from."""
    paths = []
    for index in range(count):
        tokens = np.random.default_rng(index + 1).integers(100, 40_000, VIRTUAL_TOKENS)
        paths.append(folder / f"task{index}.npy")
        write_prompt(paths[-1], embeddings[tokens], "soft", fingerprint)
    return paths


def our_variants(runtime: Runtime, tokens: list[int]) -> Variants:
    """Requests, and what a switch needs, on one engine."""
    engine, language = runtime.engine, runtime._language
    assert language is not None
    tasks = itertools.cycle(("task0", "task1"))
    held = itertools.cycle([language.model.compiled.of(runtime.task(name)).held for name in ("task0", "task1")])

    def one(task: str | None) -> Callable[[], object]:
        return lambda: runtime.generate(tokens, task, max_new_tokens=1)

    return {
        f"{engine}: first token, no prompt": one(None),
        f"{engine}: first token, compiled prompt": one("task0"),
        f"{engine}: first token, another task every time": lambda: runtime.generate(
            tokens, next(tasks), max_new_tokens=1
        ),
        f"{engine}: first token, prompt read anew": lambda: read_anew(runtime, tokens),
        f"{engine}: task switch": lambda: runtime._engine.begin([next(held)]).close(),
        f"{engine}: generation, no prompt": lambda: generate(runtime, tokens, None),
        f"{engine}: generation, compiled prompt": lambda: generate(runtime, tokens, "task0"),
    }


def read_anew(runtime: Runtime, tokens: list[int]) -> None:
    """The first token with the virtual tokens read before those of the request, as without compiling."""
    assert runtime._language is not None
    run = runtime._engine.begin([runtime._language.model.compiled.of(runtime.task(None)).held])
    run.read([np.array(tokens)], soft_prompt=runtime.task("task0").prompts["soft_prompt"])[0][-1].argmax()
    run.close()


def generate(runtime: Runtime, tokens: list[int], task: str | None) -> tuple[int, ...]:
    """As many tokens as are asked for: no token ends the text."""
    answers = runtime.generate([tokens], task, max_new_tokens=NEW_TOKENS)
    assert isinstance(answers, list)
    return answers[0].tokens


def load_network() -> Any:
    """The network in torch; no token ends its texts."""
    path = smollm2()
    network = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    network.generation_config.eos_token_id = None
    return network


def peft_model(network: Any, prompts: Sequence[Path]) -> Any:
    """PEFT with the same two prompts."""
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=VIRTUAL_TOKENS)
    model = get_peft_model(network, config, adapter_name="task0")
    model.add_adapter("task1", config)
    for name, path in zip(("task0", "task1"), prompts, strict=True):
        model.prompt_encoder[name].embedding.weight.data = torch.from_numpy(np.load(path))
    return model.eval()


def peft_variants(model: Any, tokens: list[int]) -> Variants:
    """The same requests in PEFT."""
    names = itertools.cycle(("task1", "task0"))

    def switched() -> None:
        model.set_adapter(next(names))

    def first() -> None:
        peft_generate(model, tokens, 1)

    return {
        "PEFT: first token": first,
        "PEFT: task switch": switched,
        "PEFT: generation": lambda: peft_generate(model, tokens, NEW_TOKENS),
    }


@torch.no_grad()
def peft_generate(model: Any, tokens: list[int], count: int) -> list[int]:
    """Greedy text of PEFT."""
    ids = torch.tensor([tokens])
    mask = torch.ones_like(ids)
    found: list[int] = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0
    )[0].tolist()
    return found[-count:]


def further_task_bytes(bundle: Path, engine: str, prompts: Sequence[Path]) -> dict[str, float]:
    """Resident memory a further task, in a process of its own."""
    script = [sys.executable, __file__, "--memory-of", engine, "--bundle", str(bundle)]
    output = subprocess.run([*script, *map(str, prompts)], check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def print_memory(bundle: Path, engine: str, prompts: Sequence[Path]) -> None:
    """Load all prompts and print what each but the first took."""
    runtime = Runtime(bundle, engine, threads=2)
    runtime.load("first", prompts[0])
    runtime.generate(request(), "first", max_new_tokens=4)
    before = resident_bytes()
    for path in prompts[1:]:
        runtime.load(path.stem, path)
    for path in prompts[1:]:
        runtime.generate(request(), path.stem, max_new_tokens=4)
    assert runtime._language is not None
    kv_bytes = runtime._language.model.compiled.of(runtime.task("first")).size_bytes
    a_task = (resident_bytes() - before) / len(prompts[1:])
    print(json.dumps({"a_task_bytes": a_task, "kv_bytes": kv_bytes}))


def first_token_ratios(variants: Variants, rounds: int) -> dict[str, list[float]]:
    """How much longer the first token takes than without a prompt, each run beside two without, an engine each."""
    return {
        of: [
            ratio(
                variants[f"{e}: first token, {of}"], variants[f"{e}: first token, no prompt"], rounds, perf_counter_ns
            )
            for e in ENGINES
        ]
        for of in ("compiled prompt", "prompt read anew")
    }


def show(samples: dict[str, Samples], first: dict[str, list[float]], memory: dict[str, dict[str, float]]) -> None:
    """Tables of times, ratios and memory."""
    table = Table("what", "median ms", "quartiles ms", "tokens/s")
    for name, times in samples.items():
        low, high = times.spread_us
        rate = f"{NEW_TOKENS / times.median_us * 1e6:.1f}" if "generation" in name else ""
        table.add_row(name, f"{times.median_us / 1e3:,.3f}", f"{low / 1e3:,.3f} to {high / 1e3:,.3f}", rate)
    ratios = Table("ratio", "goal", *ENGINES)
    for goal, (of, found) in zip(("1.03 or less", "beside it"), first.items(), strict=True):
        ratios.add_row(f"first token: {of} / no prompt", goal, *(f"{value:.3f}" for value in found))
    peft = samples["PEFT: generation"].median_us
    speeds = [peft / samples[f"{e}: generation, compiled prompt"].median_us for e in ENGINES]
    ratios.add_row("generation: speed over PEFT's with the same prompt", "2.5 or more", *(f"{r:.2f}" for r in speeds))
    for name in ("a_task_bytes", "kv_bytes"):
        ratios.add_row(f"memory: {name}", "", *(f"{memory[e][name] / 1e6:.2f} MB" for e in ENGINES))
    for printed in (table, ratios):
        Console().print(printed)


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), help="[default: exported once into .cache]")
@click.option("--rounds", default=15, show_default=True)
@click.option("--memory-of", hidden=True, help="Only measure the memory of tasks on this engine.")
@click.argument("prompts", nargs=-1, type=click.Path(path_type=Path))
def main(bundle: Path | None, rounds: int, memory_of: str | None, prompts: tuple[Path, ...]) -> None:
    """Print the tables."""
    bundle = bundle or smollm2_bundle()
    if memory_of is not None:
        print_memory(bundle, memory_of, prompts)
        return
    torch.set_num_threads(2)
    with tempfile.TemporaryDirectory() as folder:
        network = load_network()
        embeddings = network.get_input_embeddings().weight.detach().numpy()
        fingerprint = read_bundle(bundle).manifest.backbone.fingerprint
        paths = write_tasks(Path(folder), embeddings, fingerprint, 1 + FURTHER_TASKS)
        memory = {engine: further_task_bytes(bundle, engine, paths) for engine in ENGINES}
        model, tokens = peft_model(network, paths[:2]), request()
        variants = peft_variants(model, tokens)
        for engine in ENGINES:
            runtime = Runtime(bundle, engine, threads=2)
            runtime.load_all(folder)
            assert list(generate(runtime, tokens, "task0")) == peft_generate(model, tokens, NEW_TOKENS)
            variants |= our_variants(runtime, tokens)
        show(interleaved(variants, rounds), first_token_ratios(variants, 2 * rounds), memory)


if __name__ == "__main__":
    main()
