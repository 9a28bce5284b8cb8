"""Requests to language models with and without a change of adapter, in each pipeline; for `swap.py`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.lib.publish import Measured
from benchmarks.peers.process import Worker, WorkerError
from benchmarks.peers.variants import VARIANTS, Variant, arguments_of, missing
from benchmarks.peers.workers.switching import NAMES
from edge_prompt_runtime.bench.results import Chart, Ratio, Series

REQUEST_TOKENS, NEW_TOKENS, WARM_UP_REQUESTS = 28, 8, 4
VOCABULARY = 40_000
"""Token ids below which requests are drawn."""

SAME, OTHER = "request, same adapter", "request, other adapter"


def switching_variants() -> list[Variant]:
    """Return the fp32 pipelines with an adapter or a prompt."""
    return [variant for variant in VARIANTS if variant.adapter and variant.weights == "fp32"]


def requests_of_pipelines(rounds: int) -> Measured:
    """Measure every available pipeline, one process after the other; comparisons are within one process."""
    series: list[Series] = []
    left_out: dict[str, str] = {}
    for variant in switching_variants():
        try:
            reason = missing(variant)
            if reason is not None:
                left_out[variant.name] = reason
                continue
            arguments = arguments_of(variant)
            with Worker(f"switch {variant.name}", f"switch_{variant.module}", variant.peer, arguments) as worker:
                series += series_of(f"{variant.pipeline}, {variant.adapter}s", ask(worker, rounds))
        except WorkerError as error:
            left_out[variant.name] = str(error)
    whole = [one.line for one in series if one.name.endswith(SAME)]
    notes = [
        "SmolLM2-135M-Instruct is de-quantised from 4 bits; its prompts and LoRAs are random.",
        f"Its requests read {REQUEST_TOKENS} tokens and generate {NEW_TOKENS}.",
        "OpenVINO GenAI has no call that switches: the adapter is part of a request's settings.",
    ]
    return Measured(
        tuple(series),
        tuple(
            Ratio(f"{name}: other adapter over same adapter", f"{name}: {OTHER}", f"{name}: {SAME}") for name in whole
        ),
        (
            Chart(
                "Time of whole requests to a language model, same adapter and other adapter",
                tuple(f"{name}: {what}" for name in whole for what in (SAME, OTHER)),
            ),
        )
        if whole
        else (),
        left_out,
        tuple(notes),
    )


def ask(worker: Worker, rounds: int, most_tokens: int = VOCABULARY) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return pairs of answers: under the adapter of the request before, and under the other.

    Every round has a new request, of ids below `most_tokens`. Before that, the two adapters must give different tokens,
    and each must repeat its own.

    Raises:
        WorkerError: They do not.
    """
    random = np.random.default_rng(0)
    tokens = random.integers(most_tokens // 100, most_tokens, REQUEST_TOKENS).tolist()
    said = [answer(worker, name, tokens)["tokens"] for name in (*NAMES, *NAMES, NAMES[1], NAMES[0])]
    if said != [said[0], said[1], said[0], said[1], said[1], said[0]] or said[0] == said[1]:
        message = f"{worker.name}: its adapters give {said} in turn instead of two texts"
        raise WorkerError(message)
    for turn in range(WARM_UP_REQUESTS):
        answer(worker, NAMES[turn % 2], tokens)
    current, pairs = 1, []
    for _ in range(rounds):
        tokens = random.integers(most_tokens // 100, most_tokens, REQUEST_TOKENS).tolist()
        same = answer(worker, NAMES[current], tokens)
        current = 1 - current
        pairs.append((same, answer(worker, NAMES[current], tokens)))
    return pairs


def answer(worker: Worker, adapter: str, tokens: Sequence[int]) -> dict[str, Any]:
    """Return the answer to one request."""
    return worker.ask({"adapter": adapter, "tokens": list(tokens), "new_tokens": NEW_TOKENS})


def series_of(name: str, pairs: Sequence[tuple[dict[str, Any], dict[str, Any]]]) -> list[Series]:
    """Return the series of both kinds of requests, of their difference, and of the switching call, if any."""
    same, other = (tuple(pair[place]["all_ms"] for pair in pairs) for place in (0, 1))
    series = [
        Series(f"{name}: {SAME}", "ms", same, line=name),
        Series(f"{name}: {OTHER}", "ms", other, line=name),
        Series(
            f"{name}: difference", "ms", tuple(top - bottom for top, bottom in zip(other, same, strict=True)), line=name
        ),
    ]
    calls = tuple(pair[1]["switch_us"] for pair in pairs if pair[1]["switch_us"] is not None)
    return [*series, Series(f"{name}: the call that switches", "µs", calls, line=name)] if calls else series
