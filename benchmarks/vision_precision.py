"""What do bf16 and int8 gain and cost an image backbone? Speed, bytes, and accuracy on the real tasks.

    python benchmarks/vision_precision.py                     # DINOv2-small at 56 and 224 pixels, both engines
    python benchmarks/vision_precision.py --size 224 --engine openvino --rounds 50

The network is exported once a size and quantised with prompts in place. Latency is of batch 1 without a prompt, the
precisions of an engine taking turns in one process. Accuracy is at 56 pixels, of the tuned prompts in
`examples/prompts/vision/` and of a linear head on the frozen features, which was fitted to those in fp32, on the test
split; it is not measured at other sizes, where images of digits hold no more.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.measure import Samples, interleaved
from edge_prompt import Bundle
from edge_prompt_export import export_backbone, quantize_bundle
from edge_prompt_export.tuning.probe import fit_head
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.engines import ENGINES
from examples.real_images import IMAGE_SIZE, IMAGE_TASKS, digits, dinov2, examples_of
from examples.tune_image_prompts import PROMPTS

BATCH_SIZE = 50
CALIBRATION_IMAGES = 200
CALIBRATION_IMAGES_FOR_LATENCY = 24
HEAD_IMAGES = 1000
LINEAR = "digits, linear head"


class Variant(NamedTuple):
    """What is compared: whether of the int8 bundle, and what is computed in."""

    int8: bool
    precision: str


VARIANTS = {
    "onnxruntime": {"fp32": Variant(int8=False, precision="f32"), "int8": Variant(int8=True, precision="f32")},
    "openvino": {
        "fp32": Variant(int8=False, precision="f32"),
        "bf16": Variant(int8=False, precision="bf16"),
        "int8": Variant(int8=True, precision="f32"),
        "int8, rest bf16": Variant(int8=True, precision="bf16"),
    },
}


class Bundles(NamedTuple):
    """The bundle that was exported, and what it was quantised to."""

    exported: Bundle
    quantised: Bundle

    def of(self, variant: Variant) -> Bundle:
        """The one that the variant runs."""
        return self.quantised if variant.int8 else self.exported


def bundles_at(size: int, folder: Path) -> Bundles:
    """Export DINOv2-small for images of `size` x `size`, and quantise it."""
    backbone = shutil.copytree(dinov2(), folder / "backbone")
    settings = backbone / "preprocessor_config.json"
    value = json.loads(settings.read_text(encoding="utf-8")) | {"size": {"height": size, "width": size}}
    settings.write_text(json.dumps(value), encoding="utf-8")
    exported = export_backbone(backbone, folder / "fp32")
    train = [digit.image for digit in digits()[0]]
    count = CALIBRATION_IMAGES if size == IMAGE_SIZE else CALIBRATION_IMAGES_FOR_LATENCY
    prompts = sorted(PROMPTS.glob("*.npy")) if size == IMAGE_SIZE else []
    return Bundles(exported, quantize_bundle(folder / "fp32", folder / "int8", train[:: len(train) // count], prompts))


def runtimes_of(bundles: Bundles, engine: str, threads: int | None) -> dict[str, Runtime]:
    """Every variant on one engine, opened."""
    return {
        name: Runtime(bundles.of(variant).folder, engine, threads, variant.precision)
        for name, variant in VARIANTS[engine].items()
    }


def latencies(runtimes: Mapping[str, Runtime], size: int, rounds: int) -> dict[str, Samples]:
    """The time of one image without a prompt."""
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    return interleaved({name: partial(r.infer, {"pixel_values": image}) for name, r in runtimes.items()}, rounds)


def features_of(runtime: Runtime, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """The features of images without a prompt."""
    batches = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
    return np.concatenate([runtime.embed(batch) for batch in batches])


def accuracies(runtimes: Mapping[str, Runtime], every: int) -> dict[str, dict[str, float]]:
    """The accuracy in percent of each task by variant, on each `every`-th image of the test split."""
    train, test = (list(split) for split in digits())
    train, test = train[:: len(train) // HEAD_IMAGES], test[::every]
    labels = torch.tensor([digit.digit for digit in train])
    fitted = torch.from_numpy(features_of(runtimes["fp32"], [digit.image for digit in train]))
    head, found = fit_head(fitted, labels, 10), {}
    for name, runtime in runtimes.items():
        with torch.no_grad():
            logits = head(torch.from_numpy(features_of(runtime, [digit.image for digit in test])))
        right = logits.argmax(1).numpy() == np.array([digit.digit for digit in test])
        found[name] = {LINEAR: 100 * float(right.mean())}
        for path in sorted(PROMPTS.glob("*.npy")):
            if path.stem in IMAGE_TASKS:
                runtime.load(path.stem, path)
                found[name][path.stem] = 100 * accuracy(runtime, path.stem, examples_of(path.stem, test))
    return found


def accuracy(runtime: Runtime, task: str, examples: list[tuple[NDArray[np.uint8], str]]) -> float:
    """The share of `examples` that `runtime` classifies right under `task`."""
    right = 0
    for start in range(0, len(examples), BATCH_SIZE):
        batch = examples[start : start + BATCH_SIZE]
        answers = runtime.classify([image for image, _ in batch], task=task)
        right += sum(answer.label == label for answer, (_, label) in zip(answers, batch, strict=True))
    return right / len(examples)


def size_bytes(bundle: Bundle, engine: str) -> int:
    """What the graph takes on disk, without what folds."""
    return sum((bundle.folder / name).stat().st_size for name in bundle.graph(engine).sha256)


def measure(bundles: Bundles, engine: str, size: int, rounds: int, threads: int | None, every: int) -> dict[str, Any]:
    """All figures of one engine at one size."""
    runtimes = runtimes_of(bundles, engine, threads)
    times = latencies(runtimes, size, rounds)
    scores = accuracies(runtimes, every) if size == IMAGE_SIZE else {name: {} for name in runtimes}
    rows = {
        name: {
            "median_ms": times[name].median_us / 1e3,
            "ratio": times["fp32"].median_us / times[name].median_us,
            "bytes": size_bytes(bundles.of(VARIANTS[engine][name]), engine),
            "accuracy": scores[name],
        }
        for name in runtimes
    }
    return {"size": size, "engine": engine, "parity": bundles.quantised.manifest.parity[engine], "rows": rows}


def show(figures: dict[str, Any]) -> None:
    """A table."""
    rows = figures["rows"]
    tasks = list(rows["fp32"]["accuracy"])
    title = f"DINOv2-small, {figures['size']} x {figures['size']}, {figures['engine']}"
    table = Table("precision", "median", "times fp32", "graph", *tasks, title=title)
    for name, row in rows.items():
        scores = [f"{row['accuracy'][t]:.1f} ({row['accuracy'][t] - rows['fp32']['accuracy'][t]:+.1f})" for t in tasks]
        table.add_row(
            name, f"{row['median_ms']:.1f} ms", f"{row['ratio']:.2f}", f"{row['bytes'] / 1e6:.1f} MB", *scores
        )
    Console().print(table, f"int8 features from fp32: {figures['parity']['fp32_by_prompt']}")


@click.command()
@click.option("--size", "sizes", type=int, multiple=True, default=(IMAGE_SIZE, 224), show_default=True)
@click.option("--engine", "engines", type=click.Choice(list(ENGINES)), multiple=True, default=list(ENGINES))
@click.option("--rounds", default=30, show_default=True)
@click.option("--threads", type=int, help="[default: the engine's choice]")
@click.option("--every", default=1, show_default=True, help="Score each so-manieth image of the test split.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), help="Where to write the results, a line each.")
def main(
    *,
    sizes: tuple[int, ...],
    engines: tuple[str, ...],
    rounds: int,
    threads: int | None,
    every: int,
    json_file: Path | None,
) -> None:
    """Print a table for each size and engine."""
    for size in sizes:
        with tempfile.TemporaryDirectory() as folder:
            bundles = bundles_at(size, Path(folder))
            for engine in engines:
                figures = measure(bundles, engine, size, rounds, threads, every)
                show(figures)
                if json_file is not None:
                    with json_file.open("a", encoding="utf-8") as stream:
                        stream.write(json.dumps(figures) + "\n")


if __name__ == "__main__":
    main()
