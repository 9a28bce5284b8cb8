"""What does quantisation bring a language model, and what does it cost?

    python benchmarks/questions/weights.py  # the formats that `edge-prompt export` offers
    python benchmarks/questions/weights.py --all  # and other settings of the engines' own tools
    python benchmarks/questions/weights.py --all --engine onnxruntime --only "int4"

SmolLM2-135M-Instruct (de-quantised from 4 bits) generates 64 tokens for 28 without a prompt. All variants of an engine
take turns in one process and are compared with fp32 in the same round. Losses are measured on 5 texts of 256 tokens
from tales, news, dialogues, posts and books: perplexity, the divergence (KL) of the next token's distribution from that
in fp32, in nats, and how often the most likely token is the same. They are also measured on a real task: how many of 94
held-out texts are still classified correctly under the prompt `examples/prompts/language/topics.npy`, which was tuned
in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter_ns

import click
import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from benchmarks.lib.publish import Measured, options, publish
from benchmarks.lib.stored_weights import EXACT, WAYS, bundle_with, kept, texts
from benchmarks.questions.language import NEW_TOKENS, generate, request
from edge_prompt.formats.bundle import TOKENIZER_NAME, read_bundle
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import in_turn
from examples.language_scores import PROMPTS, right_share
from examples.real_language import LanguageTask, language_task

PIECES = ("grimm-tales", "reuters-r52-test", "friends-transcripts", "20newsgroups-test", "book-excerpts")
PIECE_TOKENS = 256
TASK, QUICK_ROWS = "topics", 10


def pieces(bundle: Path) -> list[NDArray[np.int64]]:
    """Return the token ids of the texts to measure losses on."""
    tokenizer = Tokenizer.from_file(str(bundle / TOKENIZER_NAME))
    random = np.random.default_rng(0)
    found = []
    for text in texts(PIECES):
        ids = np.array(tokenizer.encode(text).ids)
        start = random.integers(0, len(ids) - PIECE_TOKENS)
        found.append(ids[start : start + PIECE_TOKENS])
    return found


def log_probabilities(runtime: Runtime, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the log-probabilities of every next token, `[tokens, vocab_size]`."""
    logits = runtime.infer({"input_ids": ids[None], "attention_mask": np.ones_like(ids)[None]})["logits"][0]
    shifted = logits - logits.max(-1, keepdims=True)
    found: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def losses(runtime: Runtime, exact: Runtime, rows: list[NDArray[np.int64]]) -> tuple[float, float, float]:
    """Return perplexity, divergence from `exact`, and the share of positions with the same most likely token."""
    found = []
    for ids in rows:
        ours, theirs = (log_probabilities(each, ids) for each in (runtime, exact))
        surprise = -ours[np.arange(len(ids) - 1), ids[1:]].mean()
        divergence = (np.exp(theirs) * (theirs - ours)).sum(-1).mean()
        found.append((surprise, divergence, (ours.argmax(-1) == theirs.argmax(-1)).mean()))
    surprise, divergence, same = np.mean(found, 0).tolist()
    return float(np.exp(surprise)), divergence, same


def size_bytes(bundle: Path, engine: str) -> int:
    """Return the size of the files that the engine opens."""
    return sum((bundle / name).stat().st_size for name in read_bundle(bundle).graph(engine).sha256)


def timed_ms(action: Callable[[], object]) -> Callable[[], float]:
    """Return an action that gives the duration of `action` in milliseconds."""

    def taken() -> float:
        start = perf_counter_ns()
        action()
        return (perf_counter_ns() - start) / 1e6

    return taken


def speeds(runtimes: Mapping[str, Runtime], tokens: list[int], rounds: int) -> tuple[dict[str, list[float]], ...]:
    """Measure milliseconds of a text, and of its first token alone, by variant and round."""
    first = {name: partial(each.generate, tokens, max_new_tokens=1) for name, each in runtimes.items()}
    text = {name: partial(generate, each, tokens, None) for name, each in runtimes.items()}
    actions = {f"text {name}": timed_ms(action) for name, action in text.items()}
    found = in_turn(actions | {f"first {name}": timed_ms(one) for name, one in first.items()}, rounds, warm_up_rounds=1)
    return tuple({name: found[f"{what} {name}"] for name in runtimes} for what in ("text", "first"))


def scores(
    runtimes: Mapping[str, Runtime], rows: list[NDArray[np.int64]], prompt: Path, task: LanguageTask
) -> dict[str, dict[str, float]]:
    """Measure the losses of each variant, by name of the series."""
    found = {}
    for name, runtime in runtimes.items():
        perplexity, divergence, same = losses(runtime, runtimes[EXACT], rows)
        found[name] = {"perplexity": perplexity, DIVERGENCE: divergence, SAME: 100 * same}
        runtime.load(prompt.stem, prompt)
        found[name][RIGHT] = 100 * right_share(runtime, prompt.stem, task)
    return found


TEXT, FIRST, BYTES = "generation", "first token", "files"
DIVERGENCE, SAME, RIGHT = "divergence from fp32", "same token as fp32", "topics accuracy"
UNITS = {"perplexity": "perplexity", DIVERGENCE: "nats", SAME: "%", RIGHT: "%"}
HIGHER_IS_BETTER = {SAME, RIGHT}


def measure_on(
    engine: str,
    bundles: Mapping[str, Path],
    tokens: list[int],
    rows: list[NDArray[np.int64]],
    prompt: Path,
    task: LanguageTask,
    rounds: int,
    threads: int,
) -> Measured:
    """Measure one engine on bundles by the name of their variant, including `EXACT`.

    Speeds are measured past the end of a text, so that all texts have the same length.
    """
    runtimes = {name: Runtime(bundle, engine, threads) for name, bundle in bundles.items()}
    texts, first = speeds(runtimes, tokens, rounds)
    lost = scores(runtimes, rows, prompt, task)
    series = []
    for name in runtimes:
        where = f"{engine}, {name}"
        rates = tuple(NEW_TOKENS / taken * 1e3 for taken in texts[name])
        series += [
            Series(f"{where}: {TEXT}", "tokens/s", rates, engine, higher_is_better=True),
            Series(f"{where}: {FIRST}", "ms", tuple(first[name]), engine),
            Series(f"{where}: {BYTES}", "bytes", (float(size_bytes(bundles[name], engine)),), engine),
            *(
                Series(f"{where}: {what}", UNITS[what], (value,), engine, higher_is_better=what in HIGHER_IS_BETTER)
                for what, value in lost[name].items()
            ),
        ]
    ratios = [
        Ratio(f"{engine}, {name}: {what}, over {EXACT}", f"{engine}, {name}: {what}", f"{engine}, {EXACT}: {what}")
        for name in runtimes
        if name != EXACT
        for what in (TEXT, FIRST, BYTES)
    ]
    return Measured(tuple(series), tuple(ratios))


def charts_of(series: Sequence[Series]) -> tuple[Chart, ...]:
    """Draw bars of all variants, one colour per engine: speed, size, losses and accuracy."""
    drawn = {
        "Generation": TEXT,
        "Files": BYTES,
        "Divergence from fp32": DIVERGENCE,
        "Accuracy on topics, under a prompt tuned in fp32": RIGHT,
    }
    return tuple(
        Chart(title, tuple(one.name for one in series if one.name.endswith(f": {what}")))
        for title, what in drawn.items()
    )


def chosen_bundles(engine: str, only: str, left_out: dict[str, str], *, every: bool, make: bool) -> dict[str, Path]:
    """Return the bundles of the requested variants; missing ones are made if `make` is set."""
    found = {}
    for name, way in WAYS[engine].items():
        if name != EXACT and (only not in name or not (every or way.is_shipped)):
            continue
        if make or name == EXACT or kept(engine, name).exists():
            found[name] = bundle_with(engine, name)
        else:
            left_out[f"{engine}, {name}"] = "its bundle is missing; a run without --quick makes it"
    return found


def measure(engines: Sequence[str], only: str, rounds: int, threads: int, *, every: bool, quick: bool) -> Measured:
    """Measure everything."""
    found, task, left_out = Measured(()), language_task(TASK), dict[str, str]()
    if quick:
        task = task._replace(held=task.held[:: len(task.held) // QUICK_ROWS])
    for engine in engines:
        bundles = chosen_bundles(engine, only, left_out, every=every, make=not quick)
        rows = pieces(bundles[EXACT])[: 1 if quick else None]
        prompt = PROMPTS / f"{TASK}.npy"
        found = found.and_also(measure_on(engine, bundles, request(), rows, prompt, task, rounds, threads))
    a_row = 100 / len(task.held)
    notes = (
        "Network: SmolLM2-135M-Instruct de-quantised from 4 bits; its authors' own weights may lose more in 4 bits.",
        f"Losses are measured on {len(rows)} texts of {PIECE_TOKENS} tokens.",
        f"Topics are measured on {len(task.held)} held-out texts; one text is {a_row:.1f} points.",
        "Calibrated: rounded on texts (`--calibrate`), by NNCF for OpenVINO and by GPTQ for ONNX Runtime.",
    )
    return found.and_also(Measured((), (), charts_of(found.series), left_out, notes))


@click.command()
@click.option(
    "--engine", "engines", multiple=True, type=click.Choice(list(WAYS)), help="Engine; repeatable.  [default: all]"
)
@click.option("--rounds", type=click.IntRange(1), help="Rounds.  [default: 4]")
@click.option("--all", "every", is_flag=True, help="Also measure other settings of the engines' own tools.")
@click.option("--only", default="", help="Only variants whose name contains this, and fp32.")
@options
def main(
    *, engines: tuple[str, ...], rounds: int | None, every: bool, only: str, quick: bool, threads: int, output: Path
) -> None:
    """Measure and publish."""
    engines = engines or (("onnxruntime",) if quick else tuple(WAYS))
    rounds = rounds or (1 if quick else 4)
    only = only or ("int8" if quick else "")
    settings = {"engines": engines, "rounds": rounds, "all": every, "only": only, "threads": threads}
    publish(
        __file__,
        __doc__,
        output,
        settings,
        lambda: measure(engines, only, rounds, threads, every=every, quick=quick),
    )


if __name__ == "__main__":
    main()
