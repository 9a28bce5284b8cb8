"""How much does a prompt cost a request to a language model?

    python benchmarks/questions/language.py

Compared with no prompt, with the same prompt recomputed in every request, and with PEFT.

The network is SmolLM2-135M-Instruct (de-quantised from 4 bits) in fp32, greedy, with 28 tokens per request. All
variants take turns in one process. Before anything is timed, the tokens generated under a prompt of 100 virtual tokens
must equal PEFT's.

- Time to the first token by prompt length: with the compiled prompt, and with its virtual tokens recomputed in every
  request. At 100 virtual tokens, ratios to no prompt are between neighbouring runs.
- Task switch: the additional work of a request that changes its task, which prepares a cache for another prompt.
- Generation of 64 tokens: tokens per second, including the first.
- Memory: resident memory per further task, compared with the bytes of its keys and values.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import click
import numpy as np
import torch
from peft import PromptTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM

from benchmarks.lib.publish import Measured, milliseconds, options, publish
from edge_prompt import read_bundle, write_prompt
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.machine import resident_bytes
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import in_turn, interleaved_us, ratios_to_neighbours
from edge_prompt_runtime.language.model import LanguageModel
from examples.language_scores import smollm2_bundle
from examples.real_language import smollm2

VIRTUAL_TOKENS, REQUEST_TOKENS, NEW_TOKENS, FURTHER_TASKS = 100, 28, 64, 16
LENGTHS = (10, 50, VIRTUAL_TOKENS, 200)
MOST_WARM_UP_ROUNDS = 10
ENGINES = ("onnxruntime", "openvino")
MEMORY = {"a_task_bytes": "a further task", "kv_bytes": "the keys and values of one"}

Variants = dict[str, Callable[[], object]]


def request(least: int = 100, below: int = 40_000) -> list[int]:
    """Return the token ids of a request, always the same."""
    tokens: list[int] = np.random.default_rng(0).integers(least, below, REQUEST_TOKENS).tolist()
    return tokens


def write_tasks(
    folder: Path, embeddings: np.ndarray[Any, Any], fingerprint: str, count: int, lengths: Sequence[int]
) -> list[Path]:
    """Write soft prompts made of token embeddings, as tuning starts from them; `long50.npy` has 50 virtual tokens.

    Returns:
        That many prompts of `VIRTUAL_TOKENS`: `task0.npy` and so on.
    """
    prompts = {f"task{index}": VIRTUAL_TOKENS for index in range(count)} | {f"long{n}": n for n in lengths}
    for seed, (name, length) in enumerate(prompts.items(), 1):
        tokens = np.random.default_rng(seed).integers(0, len(embeddings), length)
        write_prompt(folder / f"{name}.npy", embeddings[tokens], "soft", fingerprint)
    return [folder / f"task{index}.npy" for index in range(count)]


def our_variants(runtime: Runtime, tokens: list[int], lengths: Sequence[int]) -> Variants:
    """Requests for the first token, and the work of a switch, on one engine."""
    engine, switch = runtime.engine, runtime.switcher(tokens)
    names = itertools.cycle(["task0", "task1"])
    compiled = {
        f"{engine}: first token, compiled prompt of {length}": first_token(runtime, tokens, f"long{length}")
        for length in lengths
    }
    recomputed = {
        f"{engine}: first token, prompt of {length} recomputed": recomputed_token(runtime, tokens, f"long{length}")
        for length in lengths
    }
    return {
        f"{engine}: first token, no prompt": first_token(runtime, tokens, None),
        **compiled,
        **recomputed,
        f"{engine}: task switch": lambda: switch(next(names)),
    }


def first_token(runtime: Runtime, tokens: list[int], task: str | None) -> Callable[[], object]:
    """Generate the first token under a compiled prompt, or under none."""
    return lambda: runtime.generate(tokens, task, max_new_tokens=1)


def recomputed_token(runtime: Runtime, tokens: list[int], task: str) -> Callable[[], object]:
    """Generate the first token, recomputing the virtual tokens before those of the request."""
    network = runtime.network
    assert isinstance(network, LanguageModel)
    nothing = network.compiled.of(runtime.task(None)).past

    def read() -> object:
        run = network.engine.begin([nothing])
        logits = run.forward([np.array(tokens)], soft_prompt=runtime.task(task).prompts["soft_prompt"])[0]
        token = int(logits[-1].argmax())
        run.close()
        return token

    return read


def generate(runtime: Runtime, tokens: list[int], task: str | None) -> tuple[int, ...]:
    """Generate `NEW_TOKENS` tokens.

    Raises:
        SystemExit: The text ended early, which would make its time meaningless.
    """
    answers = runtime.generate([tokens], task, max_new_tokens=NEW_TOKENS, ignore_eos=True)
    assert isinstance(answers, list)
    if len(answers[0].tokens) < NEW_TOKENS:
        raise SystemExit(f"a text of {runtime.engine} ended after {len(answers[0].tokens)} of {NEW_TOKENS} tokens")
    return answers[0].tokens


def load_network() -> Any:
    """Load the network in torch, without tokens that end a text."""
    path = smollm2()
    network = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    network.generation_config.eos_token_id = None
    return network


def peft_model(network: Any, prompts: Sequence[Path]) -> Any:
    """Return PEFT with the same two prompts."""
    length = len(np.load(prompts[0], mmap_mode="r"))
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=length)
    model = get_peft_model(network, config, adapter_name="task0")
    model.add_adapter("task1", config)
    for name, path in zip(("task0", "task1"), prompts, strict=True):
        model.prompt_encoder[name].embedding.weight.data = torch.from_numpy(np.load(path))
    return model.eval()


def peft_variants(model: Any, tokens: list[int]) -> Variants:
    """The same requests in PEFT."""
    names = itertools.cycle(("task1", "task0"))
    return {
        f"PEFT: first token, prompt of {VIRTUAL_TOKENS}": lambda: peft_generate(model, tokens, 1),
        "PEFT: task switch": lambda: model.set_adapter(next(names)),
    }


@torch.no_grad()
def peft_generate(model: Any, tokens: list[int], count: int) -> list[int]:
    """Generate greedily with PEFT."""
    ids = torch.tensor([tokens])
    mask = torch.ones_like(ids)
    found: list[int] = model.generate(
        input_ids=ids, attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0
    )[0].tolist()
    return found[-count:]


@torch.no_grad()
def reference_tokens(network: Any, prompt: Path, tokens: list[int], count: int) -> list[int]:
    """Generate greedily with transformers alone, the prompt in `inputs_embeds`: the reference for PEFT and for ours."""
    embeddings = network.get_input_embeddings()(torch.tensor([tokens]))
    both = torch.cat([torch.from_numpy(np.load(prompt))[None].to(embeddings.dtype), embeddings], 1)
    mask = torch.ones(both.shape[:2], dtype=torch.long)
    found: list[int] = network.generate(
        inputs_embeds=both, attention_mask=mask, max_new_tokens=count, do_sample=False, pad_token_id=0
    )[0].tolist()
    return found[-count:]


def require_sound_peft(model: Any, tokens: list[int], wanted: list[int]) -> None:
    """Check that PEFT generates the same tokens as transformers alone under the same prompt.

    Raises:
        SystemExit: It does not, as PEFT 0.21 with transformers 5.24.
    """
    if peft_generate(model, tokens, len(wanted)) != wanted:
        installed = " with ".join(f"{name} {version(name)}" for name in ("peft", "transformers"))
        raise SystemExit(
            f"{installed} generates other tokens than transformers alone, so nothing is timed: use the lock"
        )


def require_equal(runtime: Runtime, tokens: list[int], wanted: list[int]) -> None:
    """Check that the runtime generates the tokens of transformers, with its prompt compiled and recomputed.

    Raises:
        SystemExit: It does not.
    """
    found = list(generate(runtime, tokens, "task0"))
    if found != wanted or recomputed_token(runtime, tokens, "task0")() != wanted[0]:
        raise SystemExit(
            f"{runtime.engine} and transformers generate other tokens under one prompt, so nothing is timed"
        )


def more_multiplications(network: Any, virtual_tokens: int) -> float:
    """Return the multiplications of a request under a compiled prompt, relative to those without a prompt.

    Every token of the request attends to that many more keys; nothing else is added. The first token takes longer by
    this factor if attention multiplies as fast as the layers do; in fact it is faster.
    """
    config = network.config
    a_key: int = 2 * config.num_hidden_layers * config.num_attention_heads * config.head_dim
    own: float = sum(weight.numel() for weight in network.model.layers.parameters())
    own += network.lm_head.weight.numel() / REQUEST_TOKENS  # logits are of the last token alone
    return 1 + a_key * virtual_tokens / (own + a_key * (REQUEST_TOKENS + 1) / 2)


def first_tokens(
    runtimes: Sequence[Runtime], tokens: list[int], peft: Variants, lengths: Sequence[int], rounds: int
) -> Measured:
    """Measure first tokens and switches in ms, and the ratios that goals apply to."""
    variants = dict(peft)
    for runtime in runtimes:
        variants |= our_variants(runtime, tokens, lengths)
    times = interleaved_us(variants, rounds, most_warm_up_rounds=MOST_WARM_UP_ROUNDS)
    found = Measured(
        tuple(Series(name, "ms", milliseconds(samples), **place_of(name)) for name, samples in times.items())
    )
    for runtime in runtimes:
        base, engine = f"{runtime.engine}: first token, no prompt", runtime.engine
        drawn = [name for name in variants if name.startswith(f"{engine}: first token")]
        chart = Chart(f"Time to the first token by prompt length, {engine}", tuple(drawn), x="virtual tokens")
        found = found.and_also(Measured((), charts=(chart,)))
        for said, goal, pairs_a_round in (
            (f"compiled prompt of {VIRTUAL_TOKENS}", 1.03, 10),
            (f"prompt of {VIRTUAL_TOKENS} recomputed", None, 2),
        ):
            name = f"{engine}: first token, {said}"
            pairs = [f"{one}, in pairs" for one in (name, f"{base}, paired with {said}")]
            samples = ratios_to_neighbours(
                variants[name], variants[base], pairs_a_round * rounds, most_warm_up_rounds=MOST_WARM_UP_ROUNDS
            )
            found = found.and_also(
                Measured(
                    tuple(Series(one, "ms", milliseconds(us)) for one, us in zip(pairs, samples, strict=True)),
                    (Ratio(f"{name}, over no prompt", pairs[0], pairs[1], goal=goal),),
                )
            )
    return found


def place_of(name: str) -> dict[str, Any]:
    """Return the line of a chart that a series of first tokens belongs to, and its position."""
    said = name.partition("first token, ")[2]
    numbers = [int(word) for word in said.split() if word.isdigit()]
    lines = ("no prompt", "compiled", "recomputed", "prompt")
    return {"line": next(line for line in lines if line in said), "x": float(sum(numbers))} if said else {}


def generation(runtimes: Sequence[Runtime], tokens: list[int], model: Any, rounds: int) -> Measured:
    """Measure tokens per second of texts of `NEW_TOKENS`."""
    peft = f"PEFT: generation, prompt of {VIRTUAL_TOKENS}"
    variants: Variants = {peft: lambda: peft_generate(model, tokens, NEW_TOKENS)}
    for runtime in runtimes:
        for said, task in (("no prompt", None), (f"compiled prompt of {VIRTUAL_TOKENS}", "task0")):
            variants[f"{runtime.engine}: generation, {said}"] = generated(runtime, tokens, task)

    def rate(action: Callable[[], object]) -> Callable[[], float]:
        def timed() -> float:
            start = perf_counter_ns()
            action()
            return NEW_TOKENS / (perf_counter_ns() - start) * 1e9

        return timed

    rates = in_turn({name: rate(action) for name, action in variants.items()}, rounds, warm_up_rounds=int(rounds > 1))
    return Measured(
        tuple(
            Series(name, "tokens/s", tuple(samples), name.partition(":")[0], higher_is_better=True)
            for name, samples in rates.items()
        ),
        tuple(Ratio(f"{name}, over PEFT", name, peft, goal=2.5, at_least=True) for name in rates if "compiled" in name),
        (Chart("Generation", tuple(rates)),),
    )


def generated(runtime: Runtime, tokens: list[int], task: str | None) -> Callable[[], object]:
    """Return an action that generates a text."""
    return lambda: generate(runtime, tokens, task)


def further_task_bytes(bundle: Path, engine: str, prompts: Sequence[Path], threads: int) -> dict[str, float]:
    """Measure resident memory per further task in a process of its own."""
    script = [sys.executable, __file__, "--memory-of", engine, "--bundle", str(bundle), "--threads", str(threads)]
    output = subprocess.run([*script, *map(str, prompts)], check=True, capture_output=True, text=True).stdout
    found: dict[str, float] = json.loads(output.splitlines()[-1])
    return found


def task_memory(bundle: Path, engine: str, prompts: Sequence[Path], threads: int) -> dict[str, float]:
    """Return the memory per further task in this process, and the bytes of one task's keys and values."""
    runtime = Runtime(bundle, engine, threads)
    runtime.load("first", prompts[0])
    runtime.generate(request(), "first", max_new_tokens=4)
    kv_bytes = runtime.stats().bytes_held["compiled"]
    before = resident_bytes()
    for path in prompts[1:]:
        runtime.load(path.stem, path)
    for path in prompts[1:]:
        runtime.generate(request(), path.stem, max_new_tokens=4)
    a_task = (resident_bytes() - before) / len(prompts[1:])
    return {"a_task_bytes": a_task, "kv_bytes": kv_bytes}


def memory_series(memory: Mapping[str, Mapping[str, float]]) -> Measured:
    """The memory of a task, per engine."""
    a_task, keys_and_values = MEMORY.values()
    return Measured(
        tuple(
            Series(f"{engine}: {MEMORY[name]}", "bytes", (float(value),))
            for engine, found in memory.items()
            for name, value in found.items()
        ),
        tuple(
            Ratio(f"{engine}: {a_task} over {keys_and_values}", f"{engine}: {a_task}", f"{engine}: {keys_and_values}")
            for engine in memory
        ),
    )


def measure(
    bundle: Path,
    network: Any,
    tokens: list[int],
    rounds: int,
    texts: int,
    lengths: Sequence[int],
    engines: Sequence[str],
    threads: int,
    *,
    memory: bool,
) -> Measured:
    """Measure everything with requests of `tokens`."""
    torch.set_num_threads(threads)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        embeddings = network.get_input_embeddings().weight.detach().numpy()
        fingerprint = read_bundle(bundle).manifest.backbone.fingerprint
        paths = write_tasks(folder, embeddings, fingerprint, (1 + FURTHER_TASKS) if memory else 2, lengths)
        took = {engine: further_task_bytes(bundle, engine, paths, threads) for engine in engines} if memory else {}
        multiplications = more_multiplications(network, VIRTUAL_TOKENS)
        wanted = reference_tokens(network, paths[0], tokens, NEW_TOKENS)
        model = peft_model(network, paths[:2])
        require_sound_peft(model, tokens, wanted)
        runtimes = [Runtime(bundle, engine, threads) for engine in engines]
        for runtime in runtimes:
            for path in [*paths[:2], *folder.glob("long*.npy")]:
                runtime.load(path.stem, path)
            require_equal(runtime, tokens, wanted)
        found = first_tokens(runtimes, tokens, peft_variants(model, tokens), lengths, rounds)
        found = found.and_also(generation(runtimes, tokens, model, texts)).and_also(memory_series(took))
    notes = (
        "Network: SmolLM2-135M-Instruct de-quantised from 4 bits, in fp32.",
        f"{REQUEST_TOKENS} tokens per request; prompts are token embeddings, as tuning starts from them.",
        (
            f"Every variant, including PEFT, generated the same {NEW_TOKENS} tokens as transformers under the prompt "
            f"of {VIRTUAL_TOKENS}."
        ),
        (
            f"A request under {VIRTUAL_TOKENS} virtual tokens needs {multiplications:.3f} times the multiplications of "
            "one without a prompt."
        ),
    )
    return found.and_also(Measured((), notes=notes))


@click.command()
@click.option("--bundle", type=click.Path(path_type=Path), help="[default: exported once into .cache]")
@click.option("--rounds", type=click.IntRange(2), help="Rounds of first tokens.  [default: 11]")
@click.option("--texts", type=click.IntRange(1), help="Rounds of generation.  [default: 5]")
@click.option("--memory-of", hidden=True, help="Only measure the memory of tasks on this engine.")
@click.argument("prompts", nargs=-1, type=click.Path(path_type=Path))
@options
def main(
    *,
    bundle: Path | None,
    rounds: int | None,
    texts: int | None,
    memory_of: str | None,
    prompts: tuple[Path, ...],
    quick: bool,
    threads: int,
    output: Path,
) -> None:
    """Measure and publish."""
    bundle = bundle or smollm2_bundle()
    if memory_of is not None:
        click.echo(json.dumps(task_memory(bundle, memory_of, prompts, threads)))
        return
    rounds, texts, lengths = (
        rounds or (2 if quick else 11),
        texts or (1 if quick else 5),
        LENGTHS[2:3] if quick else LENGTHS,
    )
    engines = ENGINES[:1] if quick else ENGINES
    settings = {"rounds": rounds, "texts": texts, "lengths": lengths, "engines": engines, "threads": threads}
    publish(
        __file__,
        __doc__,
        output,
        settings,
        lambda: measure(bundle, load_network(), request(), rounds, texts, lengths, engines, threads, memory=not quick),
    )


if __name__ == "__main__":
    main()
