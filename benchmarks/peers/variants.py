"""The compared pipelines, one line per variant."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from benchmarks.lib.stored_weights import EXACT, kept, shipped
from benchmarks.peers.environments import is_installed
from benchmarks.peers.models import RECIPES, is_made
from benchmarks.peers.places import LORA, MODELS, NETWORK, PROMPT
from edge_prompt import EdgePromptError, read_bundle
from examples.language_scores import SMOLLM2_BUNDLE

PREPARE = "python benchmarks/peers/prepare.py"


class Variant(NamedTuple):
    """A pipeline on weights of some precision.

    Attributes:
        pipeline: Name of the pipeline, with its form.
        weights: `fp32`, `int8` or `int4`.
        adapter: ``, `prompt` or `LoRA`: the active adapter.
        module: The worker's program.
        peer: The peer whose environment it runs in; None is this project's.
        model: The bundle or folder it loads.
        graph: What determines the weights that a token reads: a file of the folder, or the engine of the bundle.
        arguments: Further arguments of the program.
    """

    pipeline: str
    weights: str
    adapter: str
    module: str
    peer: str | None
    model: Path
    graph: str
    arguments: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name in tables."""
        return " ".join(filter(None, (self.pipeline, self.weights, self.adapter and f"with {self.adapter}")))


GRAPHS = {"onnxruntime": "model.onnx", "openvino": "openvino_model.xml"}
"""File names of graphs that the peers' exporters write."""

TITLES = {"onnxruntime": "edge-prompt on ONNX Runtime", "openvino": "edge-prompt on OpenVINO"}


def _ours(engine: str, weights: str, prompt: Path | None = None) -> Variant:
    bundle = SMOLLM2_BUNDLE if weights == EXACT else kept(engine, shipped(engine, weights))
    return Variant(
        TITLES[engine],
        weights,
        "" if prompt is None else "prompt",
        "edge_prompt",
        None,
        bundle,
        engine,
        ("--engine", engine, *(() if prompt is None else ("--prompt", str(prompt)))),
    )


def _openvino(attention: str, weights: str, *, lora: bool = False) -> Variant:
    precise = ("--full-precision",) if weights == "fp32" else ()
    return Variant(
        f"OpenVINO GenAI ({attention})",
        weights,
        "LoRA" if lora else "",
        "openvino_genai",
        "openvino_genai",
        MODELS / f"openvino-{weights}",
        GRAPHS["openvino"],
        ("--attention", attention, *precise, *(("--lora", str(LORA)) if lora else ())),
    )


def _onnxruntime(weights: str, *, lora: bool = False) -> Variant:
    place = MODELS / f"onnxruntime-{weights}{'-lora' if lora else ''}"
    return Variant(
        "ONNX Runtime GenAI",
        weights,
        "LoRA" if lora else "",
        "onnxruntime_genai",
        "onnxruntime_genai",
        place,
        GRAPHS["onnxruntime"],
        ("--adapter", str(place / "lora.onnx_adapter")) if lora else (),
    )


def _peft(adapter: str, *arguments: str) -> Variant:
    return Variant("PEFT", "fp32", adapter, "peft", "peft", NETWORK, "model.safetensors", arguments)


VARIANTS: tuple[Variant, ...] = (
    _ours("onnxruntime", "fp32"),
    _ours("onnxruntime", "fp32", PROMPT),
    _ours("openvino", "fp32"),
    _ours("openvino", "fp32", PROMPT),
    _openvino("SDPA", "fp32"),
    _openvino("PA", "fp32"),
    _onnxruntime("fp32"),
    _peft("prompt", "--prompt", str(PROMPT)),
    _ours("onnxruntime", "int8"),
    _ours("onnxruntime", "int8", PROMPT),
    _ours("openvino", "int8"),
    _ours("openvino", "int8", PROMPT),
    _openvino("SDPA", "int8"),
    _openvino("PA", "int8"),
    _onnxruntime("int8"),
    _ours("onnxruntime", "int4"),
    _ours("onnxruntime", "int4", PROMPT),
    _ours("openvino", "int4"),
    _ours("openvino", "int4", PROMPT),
    _openvino("SDPA", "int4"),
    _openvino("PA", "int4"),
    _onnxruntime("int4"),
    _peft("LoRA", "--lora", str(LORA)),
    _openvino("SDPA", "fp32", lora=True),
    _openvino("PA", "fp32", lora=True),
    _onnxruntime("fp32", lora=True),
)


def missing(variant: Variant) -> str | None:
    """Return what the variant lacks and how to make it; None if nothing."""
    if variant.peer is None:
        try:
            read_bundle(variant.model).graph(variant.graph)
        except EdgePromptError as error:
            return str(error)
        return None if is_made(PROMPT.parent, RECIPES[PROMPT.parent.name]) else f"no prompt: {PREPARE}"
    if not is_installed(variant.peer):
        return f"no environment {variant.peer}: {PREPARE}"
    needed = [variant.model.name, PROMPT.parent.name, *([LORA.name] if variant.adapter == "LoRA" else [])]
    absent = [name for name in needed if not is_made(MODELS / name, RECIPES[name])]
    return f"no model {absent[0]}: {PREPARE}" if absent else None


def graph_of(variant: Variant) -> Path:
    """Return the file that determines the weights that a token reads."""
    if variant.peer is None:
        return variant.model / read_bundle(variant.model).graph(variant.graph).file
    return variant.model / variant.graph


def arguments_of(variant: Variant) -> tuple[str, ...]:
    """Return the arguments of the variant's program."""
    return ("--model", str(variant.model), *variant.arguments)
