"""The setting of a measurement: a bundle opened on its engines, with loaded prompts and a request."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_prompt.base.errors import InputError, MissingExtraError, UnknownEngineError
from edge_prompt.formats.bundle import Bundle
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt.formats.preprocessing import ImagePreprocessing, modality_of
from edge_prompt_runtime.bench.answers import Arrays
from edge_prompt_runtime.bench.inputs import request_of
from edge_prompt_runtime.bench.plan import Plan
from edge_prompt_runtime.bench.prompts import BenchPrompt, given_prompts, load, load_fitting, random_prompts
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.engines.cores import available_cores
from edge_prompt_runtime.reference import TOLERANCE, difference
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.tasks.registry import TaskName

ReportProgress = Callable[[str, int, int], None]
"""A progress callback: the name of the measurement, the number of finished rounds, and the number of all rounds."""

FEWEST_ROUNDS = 10
"""The minimum number of rounds, whatever they take, unless fewer were requested."""

NO_PROMPT = "no prompt"


@dataclass(frozen=True)
class Setting:
    """A bundle opened on its engines, with all prompts loaded.

    Attributes:
        plan: The plan of the measurement.
        runtimes: The runtimes, one per engine.
        threads: The number of threads per engine.
        arrays: The request.
        given: The given prompts.
        made: The random prompts that fit.
        left_out: The reason for each measurement that is omitted.
        tell: The progress callback.
    """

    plan: Plan
    runtimes: list[Runtime]
    threads: int
    arrays: Arrays
    given: list[BenchPrompt]
    made: list[BenchPrompt]
    left_out: dict[str, str]
    tell: ReportProgress

    @property
    def tasks(self) -> dict[str, TaskName]:
        """The tasks of requests, by their name in tables."""
        return {NO_PROMPT: None, **{prompt.name: prompt.name for prompt in (*self.given, *self.made)}}

    @property
    def language(self) -> bool:
        """Whether the network is a causal language model."""
        return isinstance(self.runtimes[0].bundle.manifest, LanguageManifest)

    def rounds(self, one_round: Callable[[], object], share: float = 1) -> int:
        """Run one round, and return how many rounds fit into a share of the time limit."""
        begun = time.monotonic()
        one_round()
        affordable = self.plan.seconds * share / max(time.monotonic() - begun, 1e-9)
        return min(self.plan.rounds, max(FEWEST_ROUNDS, int(affordable)))

    def told(self, what: str, rounds: int) -> Callable[[], None]:
        """Return a function to call after each of `rounds` rounds, which reports progress."""
        done = iter(range(1, rounds + 1))
        self.tell(what, 0, rounds)
        return lambda: self.tell(what, next(done, rounds), rounds)


def open_setting(bundle: Bundle, plan: Plan, folder: Path, tell: ReportProgress) -> Setting:
    """Open the bundle, load the prompts, and create the request.

    Raises:
        EdgePromptError: A prompt is malformed, no engine is installed, or the request does not fit.
    """
    given = given_prompts(plan)
    threads = plan.threads or len(plan.cores or available_cores())
    runtimes, left_out = _runtimes(bundle, plan, threads)
    load(runtimes, given)
    new_tokens = plan.new_tokens if isinstance(bundle.manifest, LanguageManifest) else 0
    tasks: list[TaskName] = [None, *(prompt.name for prompt in given)]
    room = min(runtimes[0].task(task).max_tokens for task in tasks) - new_tokens
    arrays = request_of(bundle, plan, room)
    needed = arrays["input_ids"].shape[1] + new_tokens if "input_ids" in arrays else 0
    made = random_prompts(bundle, plan, folder)
    fitting = load_fitting(runtimes, made, needed)
    for prompt in made:
        if prompt not in fitting:
            left_out[prompt.name] = f"does not fit next to the {needed} tokens of a request"
    return Setting(plan, runtimes, threads, arrays, given, fitting, left_out, tell)


def _runtimes(bundle: Bundle, plan: Plan, threads: int) -> tuple[list[Runtime], dict[str, str]]:
    """Open a runtime for each engine that can run the bundle, and return the errors of the others."""
    runtimes, errors = [], {}
    for engine in dict.fromkeys(plan.engines or (name for name in bundle.manifest.graphs if name in ENGINES)):
        try:
            runtimes.append(Runtime(bundle.folder, engine, threads, plan.precision, cores=plan.cores))
        except (MissingExtraError, UnknownEngineError, InputError) as error:
            errors[engine] = error
    if not runtimes:
        raise next(iter(errors.values()), None) or UnknownEngineError(
            found=f"{bundle.folder} has graphs for {', '.join(bundle.manifest.graphs)}",
            wanted=f"a graph for {' or '.join(ENGINES)}",
            remedy="export the backbone again for one of these engines",
        )
    return runtimes, {engine: str(error) for engine, error in errors.items()}


def agreement(setting: Setting) -> tuple[str, ...]:
    """Describe how far the outputs of the engines differ: times of different answers must not be compared."""
    first, *others = setting.runtimes
    if not others:
        return ()
    worst = max(
        difference(other.infer(setting.arrays, task), first.infer(setting.arrays, task))
        for other in others
        for task in setting.tasks.values()
    )
    names = " and ".join(runtime.engine for runtime in setting.runtimes)
    said = f"Before timing, the outputs of {names} differed by at most {worst:.1g} of the largest output"
    return (
        f"{said}."
        if worst <= 2 * TOLERANCE
        else f"{said}, which is more than rounding explains. Take care when comparing their times.",
    )


def settings_of(setting: Setting) -> dict[str, Any]:
    """Return the settings that must be the same for two runs to be comparable."""
    plan, manifest = setting.plan, setting.runtimes[0].bundle.manifest
    return {
        "bundle": setting.runtimes[0].bundle.folder.resolve().name,
        "fingerprint": manifest.backbone.fingerprint,
        "reads": modality_of(manifest.preprocessing),
        "weights": {runtime.engine: runtime.bundle.graph(runtime.engine).weights for runtime in setting.runtimes},
        "threads": setting.threads,
        "cores": None if plan.cores is None else list(plan.cores),
        "precision": plan.precision,
        "request": {name: list(array.shape) for name, array in setting.arrays.items()},
        "image_size": list(plan.image_size) if isinstance(manifest.preprocessing, ImagePreprocessing) else None,
        "lengths": list(plan.lengths),
        "new_tokens": plan.new_tokens if setting.language else None,
        "prompts": {prompt.name: setting.runtimes[0].task(prompt.name).sha256 for prompt in setting.given},
        "rounds": plan.rounds,
        "seconds": plan.seconds,
        "starts": plan.starts,
    }
