"""The models of each peer, made from the same weights by that peer's own tools."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import NamedTuple

from benchmarks.peers.environments import RecipeError, logged, made_of
from benchmarks.peers.places import LORA, MINILM, NETWORK, PROMPT, ROOT
from edge_prompt.storage.files import folder_written_atomically, sha256_of

STAMP = "made_by.json"
"""The stamp within a folder: the command that made it and the environment it ran in."""

QUICK_PREFILL = "prune_lm_head=true"
"""The output layer computes only the last token of the request, as in the other pipelines."""


SOURCES = {"network": NETWORK, "lora": LORA}
"""Folders that others are made from, by their placeholder."""


class Recipe(NamedTuple):
    """A folder and the program that fills it.

    Attributes:
        peer: The peer whose environment the program runs in; None is this one.
        program: The arguments of the interpreter; `{target}` stands for the folder, and `{network}`, `{lora}` and
            `{minilm}` for other folders.
    """

    peer: str | None
    program: tuple[str, ...]


def _optimum(*options: str) -> Recipe:
    export = ("-m", "optimum.commands.optimum_cli", "export", "openvino", "--model", "{network}")
    return Recipe("openvino_genai", (*export, "--task", "text-generation-with-past", *options, "{target}"))


def _encoder(peer: str, *exporter: str) -> Recipe:
    export = ("-m", "optimum.commands.optimum_cli", "export", *exporter, "--model", "{minilm}")
    return Recipe(peer, (*export, "--task", "feature-extraction", "{target}"))


def _builder(precision: str, *options: str) -> Recipe:
    build = ("-m", "onnxruntime_genai.models.builder", "-i", "{network}", "-o", "{target}", "-p", precision)
    return Recipe("onnxruntime_genai", (*build, "-e", "cpu", "-c", "{target}/.builder", "--extra_options", *options))


def _ours(name: str, *arguments: str, peer: str | None = None) -> Recipe:
    return Recipe(peer, ("-m", f"benchmarks.peers.recipes.{name}", *arguments, "{target}"))


RECIPES: dict[str, Recipe] = {
    NETWORK.name: _ours("make_network"),
    PROMPT.parent.name: _ours("make_prompt", "{network}"),
    LORA.name: _ours("make_lora", "{network}", peer="peft"),
    "openvino-fp32": _optimum("--weight-format", "fp32"),
    "openvino-int8": _optimum("--weight-format", "int8"),
    # the default group of 128 does not divide this network's width of 576
    "openvino-int4": _optimum("--weight-format", "int4", "--group-size", "64"),
    "onnxruntime-fp32": _builder("fp32", QUICK_PREFILL),
    "onnxruntime-int8": _builder("int8", QUICK_PREFILL),
    "onnxruntime-int4": _builder("int4", QUICK_PREFILL),
    "onnxruntime-fp32-lora": _ours(
        "lora_for_onnxruntime", "{network}", "{lora}", QUICK_PREFILL, peer="onnxruntime_genai"
    ),
    "minilm-optimum-onnx": _encoder("optimum_onnx", "onnx"),
    "minilm-optimum-openvino": _encoder("openvino_genai", "openvino", "--weight-format", "fp32"),
}
"""Recipes by name of the folder, in order of execution."""


def stamp_of(recipe: Recipe) -> str:
    """Return the stamp of a folder made by the recipe: everything that determines its content."""
    sources = [RECIPES[source.name] for name, source in SOURCES.items() if f"{{{name}}}" in recipe.program]
    value = {
        "program": recipe.program,
        "code": [sha256_of(ROOT / file) for file in _files_of(recipe)],
        "environment": None if recipe.peer is None else made_of(recipe.peer).splitlines(),
        "sources": [json.loads(stamp_of(source)) for source in sources],
    }
    return json.dumps(value, indent=1)


def _files_of(recipe: Recipe) -> list[str]:
    """Return the files of this project that the program consists of."""
    modules = [part for part in recipe.program if part.startswith("benchmarks.")]
    return [module.replace(".", "/") + ".py" for module in modules]


def is_made(folder: Path, recipe: Recipe) -> bool:
    """Whether the folder is complete and made by the current recipe."""
    stamp = folder / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == stamp_of(recipe)


def make(folder: Path, recipe: Recipe) -> None:
    """Create the folder again unless it is complete. It appears only when everything in it is written.

    Raises:
        RecipeError: The recipe's program failed, or its source is missing.
    """
    if is_made(folder, recipe):
        return
    for name, source in SOURCES.items():
        if f"{{{name}}}" in recipe.program and not source.is_dir():
            message = f"{folder.name} is made from {source.name}, which is missing"
            raise RecipeError(message)
    shutil.rmtree(folder, ignore_errors=True)
    with folder_written_atomically(folder) as target:
        places = {name: str(source) for name, source in SOURCES.items()}
        places |= {"minilm": str(MINILM), "target": str(target)}
        logged(f"make-{folder.name}", recipe.peer, [part.format(**places) for part in recipe.program])
        shutil.rmtree(target / ".builder", ignore_errors=True)
        (target / STAMP).write_text(stamp_of(recipe), encoding="utf-8")
