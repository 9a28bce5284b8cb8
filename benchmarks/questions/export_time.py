"""How long does an export take and how much memory does it need, compared with optimum's exporters?

    python benchmarks/peers/prepare.py         # once: the exporters' environments, and SmolLM2 as a folder
    python benchmarks/questions/export_time.py

Each export is a process from a command line to files, as a user starts it, including interpreter and imports.
Exporters take turns. Every exported network is opened and must give the same outputs as the others. Exporters do
different extra work: ours runs each graph on its engine, compares it with torch and computes the digest of every file;
optimum-onnx also compares its graph with torch; optimum-intel also writes the tokenizer as a graph.
"""

from __future__ import annotations

import json
import random
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import onnxruntime
import openvino as ov
from numpy.typing import NDArray

from benchmarks.lib.publish import Measured, options, publish
from benchmarks.peers.environments import RecipeError, install, interpreter_of, surroundings
from benchmarks.peers.models import RECIPES, make
from benchmarks.peers.places import LOGS, NETWORK
from benchmarks.peers.process_monitor import Watched, watch
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from examples.real_data import minilm
from examples.real_images import dinov2

Array = NDArray[Any]
NEAR = 1e-3
"""Largest allowed difference of outputs, relative to the largest number."""

TASKS = {"minilm": "feature-extraction", "smollm2": "text-generation-with-past", "dinov2": "feature-extraction"}
"""Networks, and the optimum task each is exported for."""

ORDINARY_ROUNDS = {"minilm": 2, "smollm2": 1, "dinov2": 1}


class Exporter(NamedTuple):
    """A program that exports.

    Attributes:
        peer: The peer whose environment it runs in; None is this one.
        program: The arguments of the interpreter, with the placeholders `{model}`, `{task}` and `{target}`.
        engines: The engines that can run its output.
    """

    peer: str | None
    program: tuple[str, ...]
    engines: tuple[str, ...]


_OURS = ("-m", "edge_prompt", "export", "{model}", "{target}")
_OPTIMUM = ("-m", "optimum.commands.optimum_cli", "export")
_TO = ("--model", "{model}", "--task", "{task}", "{target}")

EXPORTERS = {
    "ours, ONNX": Exporter(None, (*_OURS, "--format", "onnx"), ("onnxruntime",)),
    "optimum-onnx": Exporter("optimum_onnx", (*_OPTIMUM, "onnx", *_TO), ("onnxruntime",)),
    "ours, OpenVINO": Exporter(None, (*_OURS, "--format", "openvino"), ("openvino",)),
    "optimum-intel": Exporter(
        "openvino_genai", (*_OPTIMUM, "openvino", "--weight-format", "fp32", *_TO), ("openvino",)
    ),
    "ours, both": Exporter(None, _OURS, ("onnxruntime", "openvino")),
}
SAME = (("ours, ONNX", "optimum-onnx"), ("ours, OpenVINO", "optimum-intel"))
"""Pairs of exporters that write the same format."""


def network_folder(name: str) -> Path:
    """Return the folder of a network.

    Raises:
        RecipeError: It cannot be made.
    """
    if name == "smollm2":
        make(NETWORK, RECIPES[NETWORK.name])
        return NETWORK
    return {"minilm": minilm, "dinov2": dinov2}[name]()


def older_view(model: Path, folder: Path) -> Path:
    """Return the same network for transformers before 5, which reads the base of rotary positions from another field.

    Otherwise optimum-onnx exports SmolLM2 with a wrong base, which gives other logits.
    """
    folder.mkdir()
    for path in model.iterdir():
        if path.is_file() and path.name != "config.json":
            (folder / path.name).symlink_to(path.resolve())
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    rotary = config.get("rope_parameters") or {}
    config |= {"rope_theta": rotary["rope_theta"]} if "rope_theta" in rotary else {}
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return folder


def export(exporter: Exporter, name: str, network: str, model: Path, target: Path, threads: int) -> Watched:
    """Export once.

    Raises:
        RecipeError: The exporter failed.
    """
    places = {"model": str(model), "task": TASKS[network], "target": str(target)}
    program = [str(interpreter_of(exporter.peer)), *(part.format(**places) for part in exporter.program)]
    log = LOGS / f"export-{network}-{''.join(c if c.isalnum() else '-' for c in name)}.log"
    return watch(program, surroundings(exporter.peer) | {"OMP_NUM_THREADS": str(threads)}, log)


def size_bytes(folder: Path) -> int:
    """Return the total size of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def request_of(network: str) -> dict[str, Array]:
    """Return a request for the network."""
    if network == "dinov2":
        return {"pixel_values": np.random.default_rng(0).standard_normal((1, 3, 56, 56), np.float32)}
    ids = np.arange(10, 22)[None]
    return {"input_ids": ids, "attention_mask": np.ones_like(ids)}


def answer_of(folder: Path, engine: str, request: Mapping[str, Array]) -> Array:
    """Return the output of an exported network without a prompt: hidden states, or the logits of every token."""
    if (folder / "edge_prompt.json").exists():
        return our_answer(Runtime(folder, engine), request)
    return PLAIN[engine](folder, request)


def our_answer(runtime: Runtime, request: Mapping[str, Array]) -> Array:
    """Return the output of a bundle."""
    return next(found for name, found in runtime.infer(request).items() if name in {"logits", "last_hidden_state"})


def onnx_answer(folder: Path, request: Mapping[str, Array]) -> Array:
    """Return the output of a folder with `model.onnx`."""
    session = onnxruntime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    feeds = {
        one.name: given(one.name, [size if isinstance(size, int) else None for size in one.shape], request)
        for one in session.get_inputs()
    }
    found: Array = session.run([session.get_outputs()[0].name], feeds)[0]
    return found


def openvino_answer(folder: Path, request: Mapping[str, Array]) -> Array:
    """Return the output of a folder with `openvino_model.xml`."""
    model = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    feeds = {}
    for one in model.inputs:
        shape = [size.get_length() if size.is_static else None for size in one.partial_shape]
        feeds[one.any_name] = given(one.any_name, shape, request)
    found: Array = model(feeds)[model.outputs[0]]
    return found


PLAIN: dict[str, Callable[[Path, Mapping[str, Array]], Array]] = {
    "onnxruntime": onnx_answer,
    "openvino": openvino_answer,
}


def given(name: str, shape: Sequence[int | None], request: Mapping[str, Array]) -> Array:
    """Return an input: from the request, derived from it, or an empty past."""
    if name in request:
        return request[name]
    if name == "position_ids":
        return np.arange(request["input_ids"].shape[1])[None]
    if name == "token_type_ids":
        return np.zeros_like(request["input_ids"])
    if name == "beam_idx":
        return np.zeros(1, np.int32)
    return np.zeros([size or (0 if place else 1) for place, size in enumerate(shape)], np.float32)


def apart(answer: Array, reference: Array) -> float:
    """Return the largest difference between two answers, relative to the largest number."""
    return float(np.abs(answer - reference).max() / max(1.0, float(np.abs(reference).max())))


def kept_alike(
    found: dict[str, Any], answers: Mapping[tuple[str, str], Array], network: str, left_out: dict[str, str]
) -> float:
    """Leave out exports whose outputs differ from ours; return how far the remaining ones are from ours.

    Raises:
        SystemExit: Our own exports differ from one another.
    """
    ours = [key for key in answers if exporter_is_ours(key[0])]
    worst = 0.0
    for (name, engine), answer in answers.items():
        away = apart(answer, answers[ours[0]]) if ours else 0.0
        if away <= NEAR:
            worst = max(worst, away)
        elif exporter_is_ours(name):
            raise SystemExit(
                f"{network}: {name} on {engine} differs from {ours[0]} by {away:.1e}; nothing is published"
            )
        else:
            found.pop(name)
            left_out[f"{network}: {name}"] = f"its outputs on {engine} differ from ours by {away:.1e}"
    return worst


def exporter_is_ours(name: str) -> bool:
    """Whether an exporter is this project's."""
    return name.startswith("ours")


def measure(asked: Mapping[str, Any]) -> Measured:
    """Measure everything; `asked` is recorded as the `settings` of the results."""
    exporters = {name: EXPORTERS[name] for name in asked["exporters"]}
    left_out: dict[str, str] = {}
    there = {}
    for name, exporter in exporters.items():
        try:
            if exporter.peer is not None:
                install(exporter.peer)
        except RecipeError as error:
            left_out[name] = str(error)
        else:
            there[name] = exporter
    found: dict[str, dict[str, list[tuple[Watched, int]]]] = {}
    notes = [
        "Networks: all-MiniLM-L6-v2, SmolLM2-135M-Instruct (de-quantised from 4 bits), DINOv2-small: real weights."
    ]
    for network in asked["networks"]:
        try:
            folder = network_folder(network)
        except RecipeError as error:
            left_out[network] = str(error)
            continue
        rounds = asked["rounds"] or ORDINARY_ROUNDS[network]
        found[network], worst = export_all(there, network, folder, rounds, asked["threads"], left_out)
        notes.append(
            f"{network}: outputs of the exported networks differ by at most {worst:.1e} of the largest number."
        )
    return measured(found, left_out, notes)


def export_all(
    exporters: Mapping[str, Exporter],
    network: str,
    model: Path,
    rounds: int,
    threads: int,
    left_out: dict[str, str],
) -> tuple[dict[str, list[tuple[Watched, int]]], float]:
    """Export with all exporters in turn, after reading the model once; failures go to `left_out`.

    Returns:
        Time, memory and written bytes of each export, and the largest difference between the exported networks.
    """
    for path in model.iterdir():
        if path.is_file():
            path.read_bytes()  # otherwise the first exporter would read the disk for the others
    order, shuffler = list(exporters), random.Random(0)
    found: dict[str, list[tuple[Watched, int]]] = {}
    answers: dict[tuple[str, str], Array] = {}
    request = request_of(network)
    for number in range(rounds):
        shuffler.shuffle(order)
        for name in [one for one in order if f"{network}: {one}" not in left_out]:
            with tempfile.TemporaryDirectory() as scratch:
                target = Path(scratch) / "exported"
                older = exporters[name].peer == "optimum_onnx"
                source = older_view(model, Path(scratch) / "model") if older else model
                try:
                    took = export(exporters[name], name, network, source, target, threads)
                except RecipeError as error:
                    left_out[f"{network}: {name}"] = str(error)
                    continue
                found.setdefault(name, []).append((took, size_bytes(target)))
                print(f"{network}, {name}: {took.seconds:.1f} s, {took.peak_bytes / 1e6:,.0f} MB", flush=True)
                if number == 0:
                    answers |= {
                        (name, engine): answer_of(target, engine, request) for engine in exporters[name].engines
                    }
                shutil.rmtree(target)
    return found, kept_alike(found, answers, network, left_out)


def measured(
    found: Mapping[str, Mapping[str, Sequence[tuple[Watched, int]]]], left_out: dict[str, str], notes: Sequence[str]
) -> Measured:
    """Return the measurements as series, ratios and charts."""
    series, ratios, charts = [], [], []
    for network, by_exporter in found.items():
        names = {name: f"{network}: {name}" for name in EXPORTERS if name in by_exporter}
        for name, title in names.items():
            took, written = zip(*by_exporter[name], strict=True)
            line = "ours" if name.startswith("ours") else name
            series += [
                Series(title, "s", tuple(one.seconds for one in took), line),
                Series(f"{title}, peak memory", "bytes", tuple(float(one.peak_bytes) for one in took), line),
                Series(f"{title}, written", "bytes", (float(written[-1]),), line),
            ]
        for ours, theirs in SAME:
            if ours in names and theirs in names:
                ratios += [
                    Ratio(f"{network}: seconds, {ours} over {theirs}", names[ours], names[theirs]),
                    Ratio(
                        f"{network}: peak memory, {ours} over {theirs}",
                        f"{names[ours]}, peak memory",
                        f"{names[theirs]}, peak memory",
                    ),
                ]
        if names:
            charts += [
                Chart(f"Export time of {network}", tuple(names.values())),
                Chart(
                    f"Peak memory while exporting {network}",
                    tuple(f"{title}, peak memory" for title in names.values()),
                ),
            ]
    if not series:
        raise SystemExit("nothing could be exported: " + "; ".join(left_out.values()))
    return Measured(tuple(series), tuple(ratios), tuple(charts), left_out, tuple(notes))


@click.command()
@click.option(
    "--network",
    "networks",
    type=click.Choice(list(TASKS)),
    multiple=True,
    help="Network to export; repeatable.  [default: minilm, smollm2]",
)
@click.option("--rounds", type=int, help="Exports per exporter.  [default: 2 of minilm, 1 of others]")
@options
def main(*, quick: bool, threads: int, output: Path, networks: tuple[str, ...], rounds: int | None) -> None:
    """Measure and publish."""
    settings = {
        "networks": networks or (("minilm",) if quick else ("minilm", "smollm2")),
        "exporters": SAME[0] if quick else tuple(EXPORTERS),
        "rounds": rounds or (1 if quick else None),
        "threads": threads,
    }
    publish(__file__, __doc__, output, settings, lambda: measure(settings))


if __name__ == "__main__":
    main()
