"""How light is the device side? Beside its engine alone, PEFT, and optimum on both engines.

    python benchmarks/peers/prepare.py         # once: the environments
    python benchmarks/questions/device_install.py

Every library is in an environment of its own, of pinned requirements; ours as the wheel of this checkout. An import is
what a user writes, in a process of its own; libraries take turns. Ours is imported with its engine, and without, as
`from edge_prompt_runtime import Runtime` does, which leaves the engine and what opens bundles until one is opened: that
is in the first answer, and not hidden there. A first answer is all from the import on: opening
all-MiniLM-L6-v2, and one text's vector; the engine alone is given token ids instead of a text, and has no prompts,
checks or tokenizer. All vectors must be the same.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from benchmarks.lib.bundles import minilm_bundle
from benchmarks.lib.publish import Measured, options, publish
from benchmarks.peers.environments import RecipeError, install, interpreter_of, surroundings
from benchmarks.peers.models import RECIPES, make
from benchmarks.peers.places import MINILM, MODELS, ROOT
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import in_turn
from examples.real_data import minilm

WORKER = Path(__file__).resolve().parents[1] / "peers" / "workers" / "first_answer.py"
NEAR = 1e-3
GOAL = 1.2
ENGINES = {
    "onnxruntime": ("flatbuffers", "numpy", "onnxruntime", "packaging", "protobuf"),
    "openvino": ("numpy", "openvino", "openvino-telemetry", "packaging"),
}
"""The engines, and the distributions that are installed with one alone."""


class Library(NamedTuple):
    """Something that can answer.

    Attributes:
        peer: Whose environment it is in; None is this one.
        worker: What the worker calls it.
        folder: The network as it opens it: of `MODELS`, or `bundle`, or `network`; empty if it is only imported.
        only: The distributions that it consists of; empty is all of the environment.
        besides: Distributions of the environment that it does not need.
        ours: Whether the wheel of this project belongs to it.
    """

    peer: str | None
    worker: str
    folder: str = "bundle"
    only: tuple[str, ...] = ()
    besides: tuple[str, ...] = ()
    ours: bool = False


LIBRARIES: dict[str, Library] = {
    "onnxruntime alone": Library("edge_prompt_onnxruntime", "onnxruntime", only=ENGINES["onnxruntime"]),
    "edge-prompt, no engine yet": Library("edge_prompt_onnxruntime", "edge_prompt", "", ours=True),
    "edge-prompt on onnxruntime": Library("edge_prompt_onnxruntime", "edge_prompt_onnxruntime", ours=True),
    "optimum-onnx": Library("optimum_onnx", "optimum_onnx", "minilm-optimum-onnx", besides=("accelerate", "psutil")),
    "openvino alone": Library("edge_prompt_openvino", "openvino", only=ENGINES["openvino"]),
    "edge-prompt on openvino": Library("edge_prompt_openvino", "edge_prompt_openvino", ours=True),
    "optimum-intel": Library("openvino_genai", "optimum_intel", "minilm-optimum-openvino", besides=("openvino-genai",)),
    "PEFT": Library("peft", "peft", "network"),
}

NOT_QUICK = ("PEFT", "optimum-onnx", "optimum-intel")
"""Libraries that a quick run does not wait for."""

_SIZES = """
import importlib.metadata, json
sizes = {}
for each in importlib.metadata.distributions():
    files = [file for file in each.files or () if "__pycache__" not in file.parts and file.locate().is_file()]
    sizes[each.metadata["Name"].lower().replace("_", "-")] = sum(file.locate().stat().st_size for file in files)
print(json.dumps(sizes))
"""


def distributions(python: Path) -> dict[str, int]:
    """The distributions of an environment and the bytes of their files, without compiled caches."""
    said = subprocess.run([python, "-I", "-c", _SIZES], check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(said.stdout)
    return found


def size_bytes(library: Library, wheel: Path) -> int:
    """The bytes that are installed for a library, without pip."""
    there = distributions(interpreter_of(library.peer))
    left = {"pip", "setuptools", *library.besides}
    wanted = [name for name in there if (name in library.only if library.only else name not in left)]
    return sum(there[name] for name in wanted) + (folder_bytes(wheel) if library.ours else 0)


def folder_bytes(folder: Path) -> int:
    """The bytes of all files below a folder, without compiled caches."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in files)


def install_ours(folder: Path) -> Path:
    """Build the wheel of this checkout and unpack it as pip does; gives the folder to import from."""
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "--wheel-dir", str(folder / "wheel"), str(ROOT)], check=True)
    wheel = next((folder / "wheel").glob("*.whl"))
    subprocess.run([*pip, "install", "--no-deps", "--target", str(folder / "ours"), str(wheel)], check=True)
    return folder / "ours"


def ask(library: Library, wheel: Path, threads: int, folder: Path | None = None) -> dict[str, Any]:
    """Run the worker once: only the import, or an answer from the network in `folder`.

    Raises:
        RecipeError: It failed.
    """
    variables = surroundings(library.peer) | {"OMP_NUM_THREADS": str(threads)}
    variables["PYTHONPATH"] = str(wheel) if library.ours else ""
    command: list[str | Path] = [
        interpreter_of(library.peer),
        "-P",
        WORKER,
        library.worker,
        *((folder,) if folder else ()),
    ]
    ended = subprocess.run(command, capture_output=True, text=True, env=variables, cwd=os.sep, check=False)
    if ended.returncode:
        raise RecipeError((ended.stderr.strip().splitlines() or ["(no output)"])[-1][-300:])
    said: dict[str, Any] = json.loads(ended.stdout.splitlines()[-1])
    return said


def prepared(libraries: Mapping[str, Library], left_out: dict[str, str]) -> dict[str, Path | None]:
    """The libraries that are there, each with the folder of its network; what cannot be made is put into `left_out`."""
    found: dict[str, Path | None] = {}
    for name, library in libraries.items():
        try:
            if library.peer is not None:
                install(library.peer)
            if library.folder in RECIPES:
                make(MODELS / library.folder, RECIPES[library.folder])
        except RecipeError as error:
            left_out[name] = str(error)
            continue
        found[name] = folder_of(library.folder)
    return found


def folder_of(name: str) -> Path | None:
    """Where a network lies, by what `Library.folder` calls it; None if it needs none."""
    if not name:
        return None
    return {"bundle": minilm_bundle(), "network": MINILM}.get(name, MODELS / name)


def require_same(vectors: Mapping[str, Sequence[float]]) -> float:
    """How far vectors of length 1 are apart at most.

    Raises:
        SystemExit: Too far.
    """
    units = {name: np.array(one) / np.linalg.norm(one) for name, one in vectors.items()}
    first = next(iter(units.values()))
    worst = max(float(np.abs(one - first).max()) for one in units.values())
    if worst > NEAR:
        raise SystemExit(f"the vectors of {', '.join(units)} differ by {worst:.1e}: nothing is published")
    return worst


def measure(rounds: int, answers: int, threads: int, without: Sequence[str] = ()) -> Measured:
    """All of it, but for what is not asked for."""
    minilm()
    left_out = dict.fromkeys(without, "not asked with --quick")
    libraries = {name: library for name, library in LIBRARIES.items() if name not in without}
    folders = prepared(libraries, left_out)
    with tempfile.TemporaryDirectory() as scratch:
        wheel = install_ours(Path(scratch))
        for name in list(folders):
            try:
                ask(libraries[name], wheel, threads, folders[name])  # also reads its files and compiles its caches
            except RecipeError as error:
                left_out[name] = str(error)
                del folders[name]
        sizes = {name: size_bytes(libraries[name], wheel) for name in folders}
        imports = in_turn(
            {name: lambda name=name: ask(libraries[name], wheel, threads) for name in folders},  # type: ignore[misc]
            rounds,
            warm_up_rounds=0,  # each was run above
        )
        answered = in_turn(
            {
                name: lambda name=name, folder=folder: ask(libraries[name], wheel, threads, folder)  # type: ignore[misc]
                for name, folder in folders.items()
                if folder is not None
            },
            answers,
            warm_up_rounds=0,
        )
    worst = require_same({name: found[0]["vector"] for name, found in answered.items()})
    return measured(imports, answered, sizes, left_out, worst)


def measured(
    imports: Mapping[str, Sequence[Mapping[str, Any]]],
    answered: Mapping[str, Sequence[Mapping[str, Any]]],
    sizes: Mapping[str, int],
    left_out: dict[str, str],
    worst: float,
) -> Measured:
    """What was found as series, ratios and charts."""
    series = []
    for name, found in imports.items():
        line = "edge-prompt" if name.startswith("edge-prompt") else name
        series.append(Series(f"{name}: import", "ms", tuple(one["import_ms"] for one in found), line))
        if name in answered:
            series += [
                Series(f"{name}: first answer", "ms", tuple(one["answer_ms"] for one in answered[name]), line),
                Series(f"{name}: peak memory", "bytes", tuple(one["peak_bytes"] for one in answered[name]), line),
                Series(f"{name}: installed", "bytes", (float(sizes[name]),), line),
            ]
    known = {one.name for one in series}
    ratios = [
        Ratio(f"{what}, edge-prompt over {engine} alone", f"edge-prompt on {engine}: {what}", bottom, goal=goal)
        for what, goal in (("import", GOAL), ("first answer", None), ("peak memory", None), ("installed", None))
        for engine in ENGINES
        if {f"edge-prompt on {engine}: {what}", bottom := f"{engine} alone: {what}"} <= known
    ]
    titles = {
        "import": "How long an import takes",
        "installed": "What is installed",
        "peak memory": "The most in memory, after one answer",
        "first answer": "From the import to the first answer",
    }
    charts = [
        Chart(title, names)
        for what, title in titles.items()
        if (names := tuple(one.name for one in series if one.name.endswith(f": {what}")))
    ]
    notes = [
        "Network: all-MiniLM-L6-v2 with its own weights.",
        f"The vectors of all, made of length 1, differ by {worst:.1e} at most.",
        "Modules loaded by the import: "
        + ", ".join(f"{name} {found[0]['modules']:,}" for name, found in imports.items()),
    ]
    return Measured(tuple(series), tuple(ratios), tuple(charts), left_out, tuple(notes))


@click.command()
@click.option("--rounds", type=int, help="Imports of each that are timed.  [default: 9]")
@click.option("--answers", type=int, help="Processes of each that answer.  [default: 3]")
@options
def main(*, quick: bool, threads: int, output: Path, rounds: int | None, answers: int | None) -> None:
    """Measure and publish."""
    rounds, answers = rounds or (1 if quick else 9), answers or (1 if quick else 3)
    settings = {"rounds": rounds, "answers": answers, "threads": threads}
    without = NOT_QUICK if quick else ()
    publish(__file__, __doc__, output, settings, lambda: measure(rounds, answers, threads, without))


if __name__ == "__main__":
    main()
