"""How much does switching tasks cost, compared with PEFT's `set_adapter`, LoRA pipelines and loading other networks?

    python benchmarks/questions/swap.py

On all-MiniLM-L6-v2, the prompts are two prefixes of 16 virtual tokens; PEFT uses the same two. First, all systems must
give equal embeddings under both. Then, in one process and in turn:

- Warm swap: from a task's name to its prompt inputs of the graph, the counterpart of `set_adapter`. It is timed right
  after a request, as callers experience it, and also in a tight loop, where nothing else competes for the caches.
  PEFT's `set_adapter` is timed in the same two ways, on prefixes and on LoRAs of rank 8, with `inference_mode`.
- Assembling: all graph inputs of a request, with and without a change of task. They should differ by the swap alone.
- Whole requests: under the task of the request before, and under the other task. Any hidden cost of a swap would show
  here. The same is done with two networks that are both kept loaded: switching means picking one, and the cost is
  memory, which `footprint.py` measures.
- Cold swap: from the file to a loaded task, including every check.
- Loading another network: ONNX Runtime from its graph and from one that was optimised ahead of time, OpenVINO without
  and with its cache of compiled models, torch by `from_pretrained`. Files are read beforehand.

On SmolLM2-135M-Instruct, every pipeline is a process of its own. All answer the same requests, 28 tokens in and a few
tokens out, alternately under the adapter of the request before and under the other: ours with soft prompts, PEFT with
soft prompts and with LoRAs, ONNX Runtime GenAI (`Adapters`, `set_active_adapter`) and OpenVINO GenAI (`AdapterConfig`)
with LoRAs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import onnxruntime
import openvino
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModel

from benchmarks.lib.adapter_requests import requests_of_pipelines
from benchmarks.lib.bundles import minilm_bundle
from benchmarks.lib.publish import Measured, options, publish
from benchmarks.lib.switching import NAMES, Named, after_request, pairs_us, same_and_other, samples_us, tight
from edge_prompt import read_bundle, write_prompt
from edge_prompt_export import export_adapter
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import interleaved_us
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.execution.network import prompt_inputs
from examples.real_data import minilm

VIRTUAL_TOKENS, RANK, NEAR = 16, 8, 1e-3
LOAD_WARM_UP_ROUNDS = 3
TOKENS = {"input_ids": np.arange(1000, 1032)[None]}
TITLES = {"onnxruntime": "ONNX Runtime", "openvino": "OpenVINO"}
PREPARED = {"onnxruntime": "optimised before", "openvino": "compiled before"}
SWITCH, PREFIX, LORA = "warm swap", "PEFT: set_adapter, prefixes", "PEFT: set_adapter, LoRAs"

Loads = dict[str, Callable[[], object]]


class System(NamedTuple):
    """A system that switches tasks.

    Attributes:
        request: A whole request under a task, including the switch.
        switch: The switch alone.
    """

    request: Named
    switch: Named


class Prefixes(NamedTuple):
    """The arguments of `measure` that concern prompts: bundle, network, folder of two prompts, and tokens."""

    bundle: Path
    network: Path
    folder: Path
    tokens: Mapping[str, NDArray[Any]]


def write_tasks(bundle: Path, folder: Path) -> None:
    """Write two random prefixes."""
    manifest = read_bundle(bundle).manifest
    random = np.random.default_rng(0)
    for name in NAMES:
        shape = [VIRTUAL_TOKENS if axis is None else axis for axis in manifest.kinds["prefix"]]
        array = random.standard_normal(shape, dtype=np.float32)
        write_prompt(folder / f"{name}.npy", array, "prefix", manifest.backbone.fingerprint)


def opened(on: Prefixes, engine: str, threads: int) -> Runtime:
    """Open a runtime and load both tasks."""
    runtime = Runtime(on.bundle, engine, threads)
    runtime.load_all(on.folder)
    return runtime


def ours(runtime: Runtime, tokens: Mapping[str, NDArray[Any]]) -> System:
    """Return our requests and our switch."""
    return System(
        lambda name: runtime.embed(tokens, task=name),
        lambda name: prompt_inputs([runtime.task(name)]),
    )


def our_details(runtime: Runtime, system: System, on: Prefixes) -> dict[str, Callable[[], float]]:
    """Assembling with and without a change of task, and a cold swap, each timed after a request."""
    assemble = runtime.switcher(on.tokens)

    def read(name: str) -> None:
        runtime.load("third", on.folder / f"{name}.npy")

    return {
        "assembling, other task": after_request(system.request, assemble, cycle(NAMES)),
        "assembling, same task": after_request(system.request, assemble, cycle(NAMES[:1])),
        "cold swap (file to task)": after_request(system.request, read, cycle(NAMES)),
    }


def peft_system(model: Any, tokens: Mapping[str, NDArray[Any]]) -> System:
    """PEFT's requests, which switch if the task differs from the active one, and its switch."""
    ids = torch.from_numpy(tokens["input_ids"])
    mask = torch.ones_like(ids)

    def switch(name: str) -> None:
        model.set_adapter(name, inference_mode=True)

    @torch.inference_mode()
    def request(name: str) -> NDArray[np.float32]:
        if model.active_adapter != name:
            switch(name)
        found: NDArray[np.float32] = model(input_ids=ids, attention_mask=mask).last_hidden_state.mean(1).numpy()
        return found

    return System(request, switch)


def peft_prefixes(on: Prefixes) -> Any:
    """Return PEFT with the same prefixes as our tasks."""
    first, second = (
        export_adapter(on.folder / f"{name}.npy", bundle=on.bundle, output=on.folder / f"{name}-peft") for name in NAMES
    )
    model: Any = PeftModel.from_pretrained(AutoModel.from_pretrained(on.network), first, adapter_name=NAMES[0])
    model.load_adapter(second, NAMES[1])
    return model.eval()


def peft_loras(network: Path) -> Any:
    """Return PEFT with two LoRAs on the layers that it chooses by default."""
    config = LoraConfig(task_type="FEATURE_EXTRACTION", r=RANK)
    model: Any = get_peft_model(AutoModel.from_pretrained(network), config, adapter_name=NAMES[0])
    model.add_adapter(NAMES[1], config)
    return model.eval()


def require_equal(systems: Mapping[str, System]) -> None:
    """Stop before timing if the L2-normalised answers of two systems differ under either task."""
    first, *others = systems
    for name in NAMES:
        wanted = scaled(systems[first].request(name))
        for other in others:
            apart = float(np.abs(scaled(systems[other].request(name)) - wanted).max())
            if apart > NEAR:
                raise SystemExit(f"under {name}, {other} is {apart:.2g} apart from {first}")


def scaled(embedding: object) -> NDArray[np.float32]:
    """Return the embedding, L2-normalised."""
    array = np.asarray(embedding, np.float32)
    return array / np.linalg.norm(array)


def onnxruntime_settings(threads: int) -> onnxruntime.SessionOptions:
    """Return the settings of a plain ONNX Runtime session."""
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = threads
    return settings


def networks_kept(on: Prefixes, engines: Sequence[str], threads: int) -> dict[str, Named]:
    """Requests to two networks that are both kept loaded, per engine."""

    def request(runtimes: Mapping[str, Runtime]) -> Named:
        return lambda name: runtimes[name].embed(on.tokens)

    return {
        f"{TITLES[engine]}, one loaded network per task": request(
            {name: Runtime(on.bundle, engine, threads) for name in NAMES}
        )
        for engine in engines
    }


def load_variants(on: Prefixes, threads: int, scratch: Path) -> Loads:
    """The fastest ways of each engine to load another network."""
    bundle = read_bundle(on.bundle)
    graphs = {engine: str(bundle.folder / bundle.graph(engine).file) for engine in bundle.manifest.graphs}
    optimised = str(scratch / "optimised.onnx")
    settings = onnxruntime_settings(threads)
    settings.optimized_model_filepath = optimised
    settings.log_severity_level = 3  # it warns that the file is for this processor only, which is intended
    onnxruntime.InferenceSession(graphs["onnxruntime"], settings)
    plain, ahead = onnxruntime_settings(threads), onnxruntime_settings(threads)
    ahead.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    core = openvino.Core()
    properties = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    cached = {**properties, "CACHE_DIR": str(scratch / "compiled")}
    return {
        "ONNX Runtime: load another network": lambda: onnxruntime.InferenceSession(graphs["onnxruntime"], plain),
        "ONNX Runtime: load another network, optimised before": lambda: onnxruntime.InferenceSession(optimised, ahead),
        "OpenVINO: load another network": lambda: core.compile_model(graphs["openvino"], "CPU", properties),
        "OpenVINO: load another network, compiled before": lambda: core.compile_model(
            graphs["openvino"], "CPU", cached
        ),
        "torch: load another network": lambda: AutoModel.from_pretrained(on.network, dtype=torch.float32).eval(),
    }


def switch_series(on: Prefixes, rounds: int, threads: int) -> tuple[Series, ...]:
    """Measure everything on one network except loading others."""
    runtimes = {f"edge-prompt on {TITLES[engine]}": opened(on, engine, threads) for engine in ENGINES}
    our = {name: ours(runtime, on.tokens) for name, runtime in runtimes.items()}
    prefixes = peft_system(peft_prefixes(on), on.tokens)
    require_equal({**our, "PEFT": prefixes})
    loras = peft_system(peft_loras(on.network), on.tokens)
    switches = {**{f"{name}: {SWITCH}": system for name, system in our.items()}, PREFIX: prefixes, LORA: loras}
    timed = {name: after_request(*system, cycle(NAMES)) for name, system in switches.items()}
    for name, runtime in runtimes.items():
        timed |= {f"{name}: {what}": action for what, action in our_details(runtime, our[name], on).items()}
    found = samples_us(timed, rounds)
    loops = {f"{name}, tight loop": tight(system.switch) for name, system in switches.items()}
    found |= samples_us(loops, max(5, rounds // 10))
    whole = {name: system.request for name, system in our.items()}
    whole |= {"PEFT, prefixes": prefixes.request, "PEFT, LoRAs": loras.request}
    whole |= networks_kept(on, list(ENGINES), threads)
    pairs = pairs_us({name: same_and_other(request) for name, request in whole.items()}, rounds)
    series = [Series(name, "µs", samples, line=line_of(name)) for name, samples in found.items()]
    for name, (same, other) in pairs.items():
        series.append(Series(f"{name}: request, same task", "µs", same, line=name))
        series.append(Series(f"{name}: request, other task", "µs", other, line=name))
    return tuple(series)


def line_of(name: str) -> str:
    """Return the system that a series belongs to."""
    return name.partition(":")[0]


def measure(on: Prefixes, rounds: int, loads: int, threads: int) -> Measured:
    """Measure switches, whole requests and loads on one network."""
    torch.set_num_threads(threads)
    write_tasks(on.bundle, on.folder)
    series = switch_series(on, rounds, threads)
    with tempfile.TemporaryDirectory() as scratch:
        found = interleaved_us(
            load_variants(on, threads, Path(scratch)), loads, most_warm_up_rounds=LOAD_WARM_UP_ROUNDS
        )
    series += tuple(Series(name, "µs", samples, line=line_of(name)) for name, samples in found.items())
    switches = {engine: f"edge-prompt on {title}: {SWITCH}" for engine, title in TITLES.items()}
    whole = [name.removesuffix(": request, same task") for one in series if (name := one.name).endswith(", same task")]
    return Measured(
        series,
        ratios=(
            *(
                ratio
                for engine, name in switches.items()
                for ratio in (
                    Ratio(f"PEFT over {name}", PREFIX, name, goal=20, at_least=True),
                    Ratio(
                        f"load another network over {name}",
                        f"{TITLES[engine]}: load another network",
                        name,
                        paired=False,
                        goal=10_000,
                        at_least=True,
                    ),
                    Ratio(
                        f"load another network, {PREPARED[engine]}, over {name}",
                        f"{TITLES[engine]}: load another network, {PREPARED[engine]}",
                        name,
                        paired=False,
                        at_least=True,
                    ),
                )
            ),
            *(
                Ratio(
                    f"{name}: other task over same task", f"{name}: request, other task", f"{name}: request, same task"
                )
                for name in whole
                if "assembling" not in name
            ),
            *(
                Ratio(
                    f"{line_of(name)}: assembling, other task over same task",
                    f"{line_of(name)}: assembling, other task",
                    f"{line_of(name)}: assembling, same task",
                )
                for name in switches.values()
            ),
        ),
        charts=(
            Chart("Time of a task swap after a request", (*switches.values(), PREFIX, LORA, *found), log=True),
            Chart(
                "Time of whole requests, same task and other task",
                tuple(one.name for one in series if ": request, " in one.name),
            ),
        ),
        notes=(
            "Network: all-MiniLM-L6-v2 with its own weights; prompts and LoRAs are random.",
            "Goals apply to the swap alone, right after a request. Every system is faster in a tight loop.",
        ),
    )


@click.command()
@options
@click.option("--pipelines/--no-pipelines", default=True, help="Measure SmolLM2 as well; never with --quick.")
def main(*, quick: bool, threads: int, output: Path, pipelines: bool) -> None:
    """Measure and publish."""
    rounds, loads, asked = (15, 2, 0) if quick else (200, 11, 16)
    asked *= pipelines
    settings = {"rounds": rounds, "loads": loads, "pipeline_rounds": asked, "threads": threads}

    def both() -> Measured:
        with tempfile.TemporaryDirectory() as folder:
            first = measure(Prefixes(minilm_bundle(), minilm(), Path(folder), TOKENS), rounds, loads, threads)
        if not asked:
            return first._replace(
                left_out={"pipelines of language models": "not measured with --quick or --no-pipelines"}
            )
        return first.and_also(requests_of_pipelines(asked))

    publish(__file__, __doc__, output, settings, both)


if __name__ == "__main__":
    main()
