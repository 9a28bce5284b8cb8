"""Measuring a bundle on this machine, for `edge-prompt bench`."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, TypeVar

import numpy as np

from edge_prompt.base.errors import EdgePromptError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt_runtime.bench.answers import Generated, answer_to, generation_of
from edge_prompt_runtime.bench.inputs import item_of
from edge_prompt_runtime.bench.machine import machine, versions
from edge_prompt_runtime.bench.plan import Plan
from edge_prompt_runtime.bench.results import Chart, Ratio, Results, Series
from edge_prompt_runtime.bench.setting import NO_PROMPT, ReportProgress, Setting, agreement, open_setting, settings_of
from edge_prompt_runtime.bench.startup import ProcessEndedError, Start, start
from edge_prompt_runtime.bench.swaps import cold_swap, numpy_load, warm_swap
from edge_prompt_runtime.bench.timing import (
    in_turn,
    interleaved_us,
    warm_up,
    warm_up_rounds_for,
    without_garbage_collection,
)
from edge_prompt_runtime.inputs.requests import open_requests
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.tasks.registry import TaskName

Found = TypeVar("Found")


class Part(NamedTuple):
    """The results of one part of the measurement; see `Results`."""

    series: tuple[Series, ...] = ()
    ratios: tuple[Ratio, ...] = ()
    charts: tuple[Chart, ...] = ()


def measure(plan: Plan, tell: ReportProgress) -> Results:
    """Measure a bundle.

    Raises:
        EdgePromptError: The bundle or a prompt is malformed, no engine is installed, or the request does not fit.
    """
    begun, clock, where = datetime.now(UTC).isoformat(timespec="seconds"), time.monotonic(), machine()
    bundle = read_bundle(plan.bundle)
    with TemporaryDirectory(prefix="edge-prompt-bench-") as name:
        setting = open_setting(bundle, plan, Path(name), tell)
        agreed = agreement(setting)
        parts = [part(setting) for part in (_reading, _requests, _swaps)]
        parts.append(_starts(setting, Path(name)))
    return Results(
        name="bench",
        question=f"How fast is {bundle.folder.resolve().name} on this machine?",
        begun=begun,
        seconds=round(time.monotonic() - clock, 1),
        machine=where,
        versions=versions(),
        settings=settings_of(setting),
        series=tuple(series for part in parts for series in part.series),
        ratios=tuple(ratio for part in parts for ratio in part.ratios),
        charts=tuple(chart for part in parts for chart in part.charts),
        left_out=setting.left_out,
        notes=(*agreed, "The request is random, and so are the prompts that are named by kind and length."),
    )


def _reading(setting: Setting) -> Part:
    """Measure the preprocessing of a request into arrays."""
    bundle = setting.runtimes[0].bundle
    item = item_of(bundle, setting.plan)
    if item is None:
        return Part()
    what, one = item
    requests, base = open_requests(bundle), setting.runtimes[0].task(None)
    name = f"reading {what}"

    def read() -> object:
        return requests.read([one] * setting.plan.batch, base)

    try:
        rounds = setting.rounds(read, 0.1)
    except EdgePromptError as error:
        setting.left_out[name] = str(error)
        return Part()
    samples = interleaved_us({name: read}, rounds)[name]
    return Part((Series(name, "µs", samples, line="before any engine"),))


def _requests(setting: Setting) -> Part:
    """Measure the latency of requests with each prompt; all engines and prompts take turns."""
    return _generating(setting) if setting.language else _answering(setting)


def _answering(setting: Setting) -> Part:
    variants = {
        _name(runtime, "request", what): answer_to(runtime, setting.arrays, task)
        for runtime in setting.runtimes
        for what, task in setting.tasks.items()
    }
    timed = {name: _timed_ms(answer) for name, answer in variants.items()}
    return _latencies(setting, "request", _in_turn(setting, "requests", timed, lambda found: found))


def _generating(setting: Setting) -> Part:
    """Measure first tokens with every prompt, and whole texts without a prompt and with the given prompts.

    If no prompts are given, whole texts are measured with the longest random prompt instead.
    """
    whole = {NO_PROMPT, *(prompt.name for prompt in setting.given or setting.made[-1:])}
    variants: dict[str, Callable[[], Generated]] = {}
    for runtime in setting.runtimes:
        for what, task in setting.tasks.items():
            name = _name(runtime, "first token", what)
            if what in whole and setting.plan.new_tokens > 1:
                variants[name] = generation_of(runtime, setting.arrays, task, setting.plan.new_tokens)
            else:
                variants[name] = _first_alone(answer_to(runtime, setting.arrays, task))
    found = _in_turn(setting, "requests", variants, lambda generated: generated.first_ms)
    part = _latencies(
        setting, "first token", {name: [one.first_ms for one in samples] for name, samples in found.items()}
    )
    rates = tuple(
        Series(
            name.replace("first token", "generation"),
            "tokens/s",
            tuple(one.tokens_per_s for one in samples),
            line=name.partition(":")[0],
            higher_is_better=True,
        )
        for name, samples in found.items()
        if samples[0].tokens_per_s
    )
    return part._replace(series=(*part.series, *rates))


def _latencies(setting: Setting, what: str, found: Mapping[str, Sequence[float]]) -> Part:
    """Return the series of requests, the cost of a virtual token, and the ratio of each prompt to no prompt."""
    series, ratios, charts = [], [], []
    lengths = {prompt.name: prompt for prompt in setting.made}
    for runtime in setting.runtimes:
        base = _name(runtime, what, NO_PROMPT)
        for name, task in setting.tasks.items():
            prompt = lengths.get(name)
            full = _name(runtime, what, name)
            x = float(prompt.length) if prompt and prompt.length else None
            series.append(Series(full, "ms", tuple(found[full]), line=runtime.engine, x=x))
            if task is not None and (prompt is None or prompt.length in (0, max(setting.plan.lengths))):
                ratios.append(Ratio(f"{runtime.engine}: {name}, over no prompt", full, base))
        series += _slopes(setting, runtime, what, found)
    charts.append(Chart(f"A {what} under each prompt", tuple(one.name for one in series if one.unit == "ms")))
    return Part(tuple(series), tuple(ratios), tuple(charts))


def _slopes(setting: Setting, runtime: Runtime, what: str, found: Mapping[str, Sequence[float]]) -> list[Series]:
    """Return the cost of a virtual token by kind: the slope of latency over length, from 0, in each round."""
    slopes = []
    for kind in dict.fromkeys(prompt.kind for prompt in setting.made if prompt.length):
        prompts = [prompt for prompt in setting.made if prompt.kind == kind]
        lengths = np.array([0, *(prompt.length for prompt in prompts)], np.float64)
        rows = [found[_name(runtime, what, name)] for name in (NO_PROMPT, *(prompt.name for prompt in prompts))]
        centred = lengths - lengths.mean()
        samples = 1e3 * (centred @ np.array(rows)) / (centred @ centred)
        name = _name(runtime, "each virtual token", str(kind))
        slopes.append(Series(name, "µs", tuple(map(float, samples)), line=runtime.engine))
    return slopes


def _swaps(setting: Setting) -> Part:
    """Measure warm and cold swaps of the given prompts, or else of the longest random prompt of each kind."""
    shown = setting.given or list({prompt.kind: prompt for prompt in setting.made}.values())
    if not shown:
        return Part()
    names: list[TaskName] = [None, *(prompt.name for prompt in shown)]
    warm = {f"{runtime.engine}: warm swap": warm_swap(runtime, setting.arrays, names) for runtime in setting.runtimes}
    cold = {
        _name(runtime, "cold swap", prompt.name): cold_swap(runtime, prompt)
        for prompt in shown
        for runtime in setting.runtimes
    } | {f"numpy: np.load of {prompt.name}": numpy_load(prompt) for prompt in shown}
    found: dict[str, tuple[float, ...]] = {}
    for what, variants in (("warm swaps", warm), ("cold swaps", cold)):
        rounds = setting.rounds(lambda variants=variants: [action() for action in variants.values()], 0.2)  # type: ignore[misc]
        setting.tell(what, 0, rounds)
        found |= interleaved_us(variants, rounds)
        setting.tell(what, rounds, rounds)
    ratios = tuple(
        Ratio(
            f"{runtime.engine}: cold swap of {prompt.name}, over np.load",
            _name(runtime, "cold swap", prompt.name),
            f"numpy: np.load of {prompt.name}",
        )
        for runtime in setting.runtimes
        for prompt in shown
    )
    return Part(tuple(Series(n, "µs", samples, line=n.partition(":")[0]) for n, samples in found.items()), ratios)


def _starts(setting: Setting, folder: Path) -> Part:
    """Measure loading in fresh processes; the engines take turns."""
    plan, request = setting.plan, folder / "request.npz"
    if not plan.starts:
        return Part()
    np.savez(request, allow_pickle=False, **dict(setting.arrays))

    def started(engine: str) -> Start:
        return start(plan.bundle, engine, request, setting.threads, plan.cores, plan.precision)

    variants = {runtime.engine: lambda engine=runtime.engine: started(engine) for runtime in setting.runtimes}
    try:
        found = in_turn(variants, plan.starts, 1, setting.told("fresh processes", plan.starts))
    except ProcessEndedError as error:
        setting.left_out["load and memory"] = str(error)
        return Part()
    series = []
    for engine, starts in found.items():
        for what, (unit, samples) in {
            "load, fresh process": ("ms", [one.load_ms for one in starts]),
            "first answer, fresh process": ("ms", [one.first_ms for one in starts]),
            "resident after it": ("MB", [one.resident_mb for one in starts]),
            "peak until then": ("MB", [one.peak_mb for one in starts]),
        }.items():
            if all(samples):
                series.append(Series(f"{engine}: {what}", unit, tuple(samples), line=engine))
            else:
                setting.left_out[f"{engine}: {what}"] = "this system does not report it"
    return Part(tuple(series))


def _in_turn(
    setting: Setting, what: str, variants: Mapping[str, Callable[[], Found]], milliseconds: Callable[[Found], float]
) -> dict[str, list[Found]]:
    """Warm up, determine how many rounds there is time for, and run them."""
    setting.tell("warming up", 0, 1)

    def one_round() -> object:
        return [run() for run in variants.values()]

    affordable = setting.rounds(one_round, 0.25)
    with without_garbage_collection():
        each = {name: lambda run=run: milliseconds(run()) for name, run in variants.items()}
        warm_up(each, warm_up_rounds_for(affordable))
    rounds = setting.rounds(one_round)
    return in_turn(variants, rounds, 0, setting.told(what, rounds))


def _timed_ms(action: Callable[[], object]) -> Callable[[], float]:
    def elapsed_ms() -> float:
        begun = time.perf_counter_ns()
        action()
        return (time.perf_counter_ns() - begun) / 1e6

    return elapsed_ms


def _first_alone(action: Callable[[], object]) -> Callable[[], Generated]:
    timed = _timed_ms(action)
    return lambda: Generated(timed(), 0.0)


def _name(runtime: Runtime, what: str, task: str) -> str:
    return f"{runtime.engine}: {what}, {task}"
