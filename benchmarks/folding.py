"""What does a prompt cost a vision transformer, by kind and length? And what do prompt inputs cost where none is given?

    python benchmarks/folding.py                       # ViT-B/16 (random weights) and DINOv2-small (real weights)
    python benchmarks/folding.py --model vit-b16 --engine openvino --rounds 30
    python benchmarks/folding.py --threads 1 --clock cpu       # where others use the machine, too

Graphs of one network take turns in one process: `plain` is exported without prompt inputs; `none` is ours at
length 0; `folded` is a VPT-deep prompt folded to a prefix; `shallow` is a soft prompt; `naive` is VPT-deep as
published, the prompt joined to the sequence anew in every layer. Medians, and ratios to `plain`; below the table, what
the goals are about, each run compared with its neighbours.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import onnx_ir
import openvino
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from transformers import AutoModel, PreTrainedModel
from transformers.models.vit import ViTConfig, ViTModel

from benchmarks.measure import CLOCKS, interleaved, ratio
from edge_prompt_export.families.vision import ConditionedVision
from edge_prompt_export.onnx_graph import ONNX_FILE, onnx_model
from edge_prompt_export.openvino_graph import OPENVINO_FILE, openvino_model
from edge_prompt_runtime.engines import ENGINES, Engine, open_file
from edge_prompt_runtime.engines.settings import EngineSettings
from examples.real_images import dinov2

LENGTHS = (0, 10, 50, 100, 200)
GOALS = (("none 0", "plain 0"), ("folded 50", "none 0"))
TASK = "image-feature-extraction"


class Plain(nn.Module):
    """The network with no prompt inputs at all, and its authors' attention."""

    def __init__(self, vision: ConditionedVision) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, pixel_values: Tensor) -> Tensor:
        """The feature."""
        return self.vision.untouched({"pixel_values": pixel_values})["features"]


class Naive(nn.Module):
    """VPT-deep as published."""

    def __init__(self, vision: ConditionedVision) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, pixel_values: Tensor, deep_prompt: Tensor) -> Tensor:
        """The feature."""
        return self.vision.naive_deep(pixel_values, deep_prompt)[0]


class Ours(nn.Module):
    """Our graph, the feature alone."""

    def __init__(self, vision: ConditionedVision) -> None:
        super().__init__()
        self.vision = vision

    def forward(self, pixel_values: Tensor, soft_prompt: Tensor, prefix: Tensor, pixel_prompt: Tensor) -> Tensor:
        """The feature."""
        features: Tensor = self.vision(pixel_values, soft_prompt, prefix, pixel_prompt)[0]
        return features


class Model(NamedTuple):
    """A network to measure, and where its weights come from."""

    load: Callable[[], PreTrainedModel]
    image_size: tuple[int, int]


def _vit_b16() -> PreTrainedModel:
    torch.manual_seed(0)
    return ViTModel(ViTConfig(), add_pooling_layer=False)


MODELS = {
    "vit-b16": Model(_vit_b16, (224, 224)),
    "dinov2-small": Model(lambda: AutoModel.from_pretrained(dinov2()), (224, 224)),
}

Axes = Mapping[str, Mapping[int, str]]


def write_onnx(module: nn.Module, inputs: Mapping[str, Tensor], axes: Axes, folder: Path) -> Path:
    """The module as an ONNX file."""
    onnx_ir.save(onnx_model(module, inputs, axes, ("features",)), folder / ONNX_FILE)
    return folder / ONNX_FILE


def write_openvino(module: nn.Module, inputs: Mapping[str, Tensor], axes: Axes, folder: Path) -> Path:
    """The module as an OpenVINO IR."""
    openvino.save_model(
        openvino_model(module, inputs, axes, ("features",), {}), folder / OPENVINO_FILE, compress_to_fp16=False
    )
    return folder / OPENVINO_FILE


WRITERS = {"onnxruntime": write_onnx, "openvino": write_openvino}


def graphs_of(vision: ConditionedVision, engine: str, folder: Path, threads: int | None) -> dict[str, Engine]:
    """Our graph, the naive one and the plain one, opened."""
    inputs, axes = vision.trace_inputs(), vision.dynamic_axes()
    image, deep = {"pixel_values": inputs["pixel_values"]}, vision.example_prompt("deep", 5, 0)
    graphs = {
        "ours": (Ours(vision), inputs, axes),
        "naive": (
            Naive(vision),
            {**image, "deep_prompt": deep},
            {"pixel_values": {0: "batch"}, "deep_prompt": {1: "num_virtual_tokens"}},
        ),
        "plain": (Plain(vision), image, {"pixel_values": {0: "batch"}}),
    }
    opened = {}
    for name, (module, given, dynamic) in graphs.items():
        (folder / name).mkdir()
        opened[name] = open_file(
            engine, WRITERS[engine](module, given, dynamic, folder / name), None, EngineSettings(threads)
        )
    return opened


def variants_of(
    vision: ConditionedVision, graphs: Mapping[str, Engine]
) -> tuple[dict[str, Callable[[], object]], float]:
    """What takes turns, by variant and length; and the largest difference of folded from naive."""
    request = {"pixel_values": vision.trace_inputs()["pixel_values"][:1]}
    empty = {n: t.numpy() for n, t in vision.under(request, {}).items()}
    image = {"pixel_values": empty["pixel_values"]}
    variants: dict[str, Callable[[], object]] = {
        "plain 0": lambda: graphs["plain"].run(image, ("features",)),
        "none 0": lambda: graphs["ours"].run(empty, ("features",)),
    }
    worst = 0.0
    for length in LENGTHS[1:]:
        deep = 0.3 * vision.example_prompt("deep", length, seed=length)
        folded = empty | {"prefix": vision.fold(deep).detach().numpy()}
        shallow = empty | {"soft_prompt": deep[:1].numpy()}
        naive = {**image, "deep_prompt": deep.numpy()}
        runs = {"naive": ("naive", naive), "folded": ("ours", folded), "shallow": ("ours", shallow)}
        for name, (graph, feeds) in runs.items():
            variants[f"{name} {length}"] = partial(graphs[graph].run, feeds, ("features",))
        found, wanted = (graphs[g].run(f, ("features",))["features"] for g, f in (runs["folded"], runs["naive"]))
        worst = max(worst, float(np.abs(found - wanted).max()) / max(1.0, float(np.abs(wanted).max())))
    return variants, worst


@click.command()
@click.option("--model", "models", type=click.Choice(list(MODELS)), multiple=True, default=list(MODELS))
@click.option("--engine", "engines", type=click.Choice(list(ENGINES)), multiple=True, default=list(ENGINES))
@click.option("--rounds", default=20, show_default=True)
@click.option("--threads", type=int, help="[default: the engine's choice]")
@click.option("--clock", type=click.Choice(list(CLOCKS)), default="wall", show_default=True)
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the results, a line each.")
def main(
    *,
    models: tuple[str, ...],
    engines: tuple[str, ...],
    rounds: int,
    threads: int | None,
    clock: str,
    json_file: Path | None,
) -> None:
    """Print a table for each network and engine."""
    for name in models:
        network = MODELS[name].load().eval().requires_grad_(requires_grad=False)
        vision = ConditionedVision(network, TASK, None, MODELS[name].image_size)
        for engine in engines:
            with tempfile.TemporaryDirectory() as folder:
                graphs = graphs_of(vision, engine, Path(folder), threads)
                variants, difference = variants_of(vision, graphs)
                samples = interleaved(variants, rounds, CLOCKS[clock])
                goals = {
                    f"{one} of {other}": ratio(variants[one], variants[other], rounds, CLOCKS[clock])
                    for one, other in GOALS
                }
            plain = samples["plain 0"].median_us
            table = Table("virtual tokens", "naive", "folded", "shallow", "none", "plain", title=f"{name}, {engine}")
            for length in LENGTHS:
                cells = []
                for variant in ("naive", "folded", "shallow", "none", "plain"):
                    key = f"{variant} {length}"
                    times = samples.get(key)
                    cells.append(
                        "" if times is None else f"{times.median_us / 1e3:.1f} ms, {times.median_us / plain:.3f}"
                    )
                table.add_row(str(length), *cells)
            Console().print(table, f"folded differs from naive by {difference:.1e} at most, relative to the output")
            Console().print(", ".join(f"{pair}: {found:.3f}" for pair, found in goals.items()))
            if json_file is not None:
                line = {"model": name, "engine": engine, "difference": difference}
                line |= goals | {key: round(times.median_us) for key, times in samples.items()}
                with json_file.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
