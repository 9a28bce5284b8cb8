"""How light is the device side, compared with its engine alone, PEFT, and optimum on both engines?

    python benchmarks/peers/prepare.py         # once: the environments
    python benchmarks/questions/device_install.py

Every library has an environment of its own with pinned requirements; ours is the wheel of this checkout. Libraries take
turns, and each import is the line that a user writes, in a process of its own. Ours is imported with its engine, and
also alone: `from edge_prompt_runtime import Runtime` does not load the engine and the modules that open bundles. They
are loaded when a bundle is opened, so the first answer includes them. A first answer covers everything from the import
on: opening all-MiniLM-L6-v2 and computing the vector of one text. The engine alone gets token ids instead of a text,
and has no prompts, checks or tokenizer. All vectors must be equal.
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
"""The engines, and the distributions that each installs by itself."""


class Library(NamedTuple):
    """A library that can answer.

    Attributes:
        peer: The peer whose environment it is in; None is this one.
        worker: Its name in the worker.
        folder: The network that it opens: a folder of `MODELS`, `bundle` or `network`; empty if it is only imported.
        only: The distributions that it consists of; empty means the whole environment.
        unneeded: Distributions of the environment that it does not need.
        ours: Whether the wheel of this project belongs to it.
    """

    peer: str | None
    worker: str
    folder: str = "bundle"
    only: tuple[str, ...] = ()
    unneeded: tuple[str, ...] = ()
    ours: bool = False


LIBRARIES: dict[str, Library] = {
    "onnxruntime alone": Library("edge_prompt_onnxruntime", "onnxruntime", only=ENGINES["onnxruntime"]),
    "edge-prompt, no engine yet": Library("edge_prompt_onnxruntime", "edge_prompt", "", ours=True),
    "edge-prompt on onnxruntime": Library("edge_prompt_onnxruntime", "edge_prompt_onnxruntime", ours=True),
    "optimum-onnx": Library("optimum_onnx", "optimum_onnx", "minilm-optimum-onnx", unneeded=("accelerate", "psutil")),
    "openvino alone": Library("edge_prompt_openvino", "openvino", only=ENGINES["openvino"]),
    "edge-prompt on openvino": Library("edge_prompt_openvino", "edge_prompt_openvino", ours=True),
    "optimum-intel": Library(
        "openvino_genai", "optimum_intel", "minilm-optimum-openvino", unneeded=("openvino-genai",)
    ),
    "PEFT": Library("peft", "peft", "network"),
}

NOT_QUICK = ("PEFT", "optimum-onnx", "optimum-intel")
"""Libraries that a quick run leaves out."""

_SIZES = """
import importlib.metadata, json
sizes = {}
for each in importlib.metadata.distributions():
    files = [file for file in each.files or () if "__pycache__" not in file.parts and file.locate().is_file()]
    sizes[each.metadata["Name"].lower().replace("_", "-")] = sum(file.locate().stat().st_size for file in files)
print(json.dumps(sizes))
"""


def distributions(python: Path) -> dict[str, int]:
    """Return the distributions of an environment and the bytes of their files, without compiled caches."""
    said = subprocess.run([python, "-I", "-c", _SIZES], check=True, capture_output=True, text=True)
    found: dict[str, int] = json.loads(said.stdout)
    return found


def size_bytes(library: Library, wheel: Path) -> int:
    """Return the bytes that are installed for a library, without pip."""
    there = distributions(interpreter_of(library.peer))
    left = {"pip", "setuptools", *library.unneeded}
    wanted = [name for name in there if (name in library.only if library.only else name not in left)]
    return sum(there[name] for name in wanted) + (folder_bytes(wheel) if library.ours else 0)


def folder_bytes(folder: Path) -> int:
    """Return the bytes of all files in a folder, without compiled caches."""
    files = (path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in files)


def install_ours(folder: Path) -> Path:
    """Build the wheel of this checkout and unpack it as pip does; return the folder to import from."""
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
    """Return the available libraries, each with the folder of its network; failures go to `left_out`."""
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
    """Return the folder of a network by its name in `Library.folder`; None if it needs none."""
    if not name:
        return None
    return {"bundle": minilm_bundle(), "network": MINILM}.get(name, MODELS / name)


def require_same(vectors: Mapping[str, Sequence[float]]) -> float:
    """Return the largest difference between the L2-normalised vectors.

    Raises:
        SystemExit: It is too large.
    """
    units = {name: np.array(one) / np.linalg.norm(one) for name, one in vectors.items()}
    first = next(iter(units.values()))
    worst = max(float(np.abs(one - first).max()) for one in units.values())
    if worst > NEAR:
        raise SystemExit(f"the vectors of {', '.join(units)} differ by {worst:.1e}; nothing is published")
    return worst


def measure(rounds: int, answers: int, threads: int, without: Sequence[str] = ()) -> Measured:
    """Measure everything except the libraries in `without`."""
    minilm()
    left_out = dict.fromkeys(without, "not measured with --quick")
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
    """Return the measurements as series, ratios and charts."""
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
        "import": "Import time",
        "installed": "Installed size",
        "peak memory": "Peak memory after one answer",
        "first answer": "Time from import to first answer",
    }
    charts = [
        Chart(title, names)
        for what, title in titles.items()
        if (names := tuple(one.name for one in series if one.name.endswith(f": {what}")))
    ]
    notes = [
        "Network: all-MiniLM-L6-v2 with its own weights.",
        f"The L2-normalised vectors differ by at most {worst:.1e}.",
        "Modules loaded by the import: "
        + ", ".join(f"{name} {found[0]['modules']:,}" for name, found in imports.items()),
    ]
    return Measured(tuple(series), tuple(ratios), tuple(charts), left_out, tuple(notes))


@click.command()
@click.option("--rounds", type=int, help="Timed imports per library.  [default: 9]")
@click.option("--answers", type=int, help="Answering processes per library.  [default: 3]")
@options
def main(*, quick: bool, threads: int, output: Path, rounds: int | None, answers: int | None) -> None:
    """Measure and publish."""
    rounds, answers = rounds or (1 if quick else 9), answers or (1 if quick else 3)
    settings = {"rounds": rounds, "answers": answers, "threads": threads}
    without = NOT_QUICK if quick else ()
    publish(__file__, __doc__, output, settings, lambda: measure(rounds, answers, threads, without))


if __name__ == "__main__":
    main()
