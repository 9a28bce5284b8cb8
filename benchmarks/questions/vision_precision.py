"""What does quantisation bring an image backbone, and what does it cost?

    python benchmarks/questions/vision_precision.py  # DINOv2-small at 56 and 224 pixels, both engines
    python benchmarks/questions/vision_precision.py --size 224 --engine openvino --rounds 50

Compares fp32, bf16 and int8. The network is exported once per size and quantised with prompts in place. Latency is
measured at batch 1 without a prompt; the precisions of an engine take turns in one process. Accuracy is measured at 56
pixels on the test split, for the tuned prompts in `examples/prompts/vision/` and for a linear head fitted to the frozen
fp32 features. It is not measured at other sizes, where images of digits contain no more information. Both bundles are
kept in .cache/bench-models under a digest of their inputs.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.lib.artifacts import KEPT, digest_of, kept
from benchmarks.lib.publish import Measured, milliseconds, options, publish
from edge_prompt import Bundle, read_bundle
from edge_prompt_export import export_backbone, quantize_bundle
from edge_prompt_export.training.probe import fit_head
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.bench.results import Chart, Ratio, Series
from edge_prompt_runtime.bench.timing import interleaved_us
from edge_prompt_runtime.engines.base import ENGINES
from examples.real_images import IMAGE_SIZE, IMAGE_TASKS, Digit, digits, dinov2, examples_of
from examples.tune_image_prompts import PROMPTS

BATCH_SIZE = 50
CALIBRATION_IMAGES = 200
CALIBRATION_IMAGES_FOR_LATENCY = 24
HEAD_IMAGES = 1000
LINEAR = "digits, linear head"
EXACT = "fp32"
LATENCY, BYTES, RIGHT = "latency", "graph", "right"


class Variant(NamedTuple):
    """What is compared: the fp32 or the int8 bundle, and the precision of computation."""

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


class Data(NamedTuple):
    """Images for calibration and fitting, images for scoring, and the prompts of their tasks."""

    train: Sequence[Digit]
    test: Sequence[Digit]
    prompts: tuple[Path, ...]


def real_data(every: int) -> Data:
    """Return the digits, each `every`-th of the test split, and the prompts that were tuned on them."""
    train, test = digits()
    return Data(train, test[::every], tuple(sorted(PROMPTS.glob("*.npy"))))


class Bundles(NamedTuple):
    """The exported bundle, and the quantised one."""

    exported: Bundle
    quantised: Bundle

    def of(self, variant: Variant) -> Bundle:
        """Return the bundle that the variant runs."""
        return self.quantised if variant.int8 else self.exported


def bundles_at(size: int, network: Path, data: Data, place: Path) -> Bundles:
    """Export a network such as DINOv2-small for images of `size` x `size`, and quantise it; both are kept."""
    count = CALIBRATION_IMAGES if size == IMAGE_SIZE else CALIBRATION_IMAGES_FOR_LATENCY
    prompts = data.prompts if size == IMAGE_SIZE else ()
    inside = sorted(path for path in network.iterdir() if path.is_file())

    def make(folder: Path) -> None:
        with tempfile.TemporaryDirectory() as name:
            backbone = shutil.copytree(network, Path(name) / "backbone")
            settings = backbone / "preprocessor_config.json"
            value = json.loads(settings.read_text(encoding="utf-8")) | {"size": {"height": size, "width": size}}
            settings.write_text(json.dumps(value), encoding="utf-8")
            export_backbone(backbone, folder / "fp32")
        images = [digit.image for digit in data.train[:: max(1, len(data.train) // count)]]
        quantize_bundle(folder / "fp32", folder / "int8", images, prompts)

    made = kept(f"{network.name}-{size}px", digest_of(Path(__file__), size, count, *inside, *prompts), make, place)
    return Bundles(read_bundle(made / "fp32"), read_bundle(made / "int8"))


def runtimes_of(bundles: Bundles, engine: str, threads: int) -> dict[str, Runtime]:
    """Open every variant on one engine."""
    return {
        name: Runtime(bundles.of(variant).folder, engine, threads, variant.precision)
        for name, variant in VARIANTS[engine].items()
    }


def latencies(runtimes: Mapping[str, Runtime], size: int, rounds: int) -> dict[str, tuple[float, ...]]:
    """Measure the microseconds of one image without a prompt."""
    image = np.random.default_rng(0).standard_normal((1, 3, size, size), dtype=np.float32)
    return interleaved_us({name: partial(r.infer, {"pixel_values": image}) for name, r in runtimes.items()}, rounds)


def features_of(runtime: Runtime, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """Return the features of images without a prompt."""
    batches = (images[start : start + BATCH_SIZE] for start in range(0, len(images), BATCH_SIZE))
    return np.concatenate([runtime.embed(batch) for batch in batches])


def accuracies(runtimes: Mapping[str, Runtime], data: Data) -> dict[str, dict[str, float]]:
    """Return the accuracy in percent of each task by variant."""
    train, test = list(data.train[:: max(1, len(data.train) // HEAD_IMAGES)]), list(data.test)
    labels = torch.tensor([digit.digit for digit in train])
    fitted = torch.from_numpy(features_of(runtimes["fp32"], [digit.image for digit in train]))
    head, found = fit_head(fitted, labels, 10), {}
    for name, runtime in runtimes.items():
        with torch.no_grad():
            logits = head(torch.from_numpy(features_of(runtime, [digit.image for digit in test])))
        right = logits.argmax(1).numpy() == np.array([digit.digit for digit in test])
        found[name] = {LINEAR: 100 * float(right.mean())}
        for path in data.prompts:
            if path.stem in IMAGE_TASKS:
                runtime.load(path.stem, path)
                found[name][path.stem] = 100 * accuracy(runtime, path.stem, examples_of(path.stem, test))
    return found


def accuracy(runtime: Runtime, task: str, examples: list[tuple[NDArray[np.uint8], str]]) -> float:
    """Return the share of `examples` that `runtime` classifies correctly under `task`."""
    right = 0
    for start in range(0, len(examples), BATCH_SIZE):
        batch = examples[start : start + BATCH_SIZE]
        answers = runtime.classify([image for image, _ in batch], task=task)
        right += sum(answer.label == label for answer, (_, label) in zip(answers, batch, strict=True))
    return right / len(examples)


def size_bytes(bundle: Bundle, engine: str) -> int:
    """Return the size of the graph on disk, without the folding graph."""
    return sum((bundle.folder / name).stat().st_size for name in bundle.graph(engine).sha256)


def measure_on(bundles: Bundles, engine: str, size: int, rounds: int, threads: int, data: Data | None) -> Measured:
    """Measure one engine at one size; accuracies only if there are data."""
    runtimes = runtimes_of(bundles, engine, threads)
    times = latencies(runtimes, size, rounds)
    right = accuracies(runtimes, data) if data else {name: {} for name in runtimes}
    where = {name: f"{engine}, {name}, {size} px" for name in runtimes}
    series = []
    for name in runtimes:
        series += [
            Series(f"{where[name]}: {LATENCY}", "ms", milliseconds(times[name]), engine),
            Series(
                f"{where[name]}: {BYTES}",
                "bytes",
                (float(size_bytes(bundles.of(VARIANTS[engine][name]), engine)),),
                engine,
            ),
            *(
                Series(f"{where[name]}: {RIGHT}, {task}", "%", (share,), engine, higher_is_better=True)
                for task, share in right[name].items()
            ),
        ]
    ratios = []
    for name in [name for name in runtimes if name != EXACT]:
        slow, quick = f"{where[EXACT]}: {LATENCY}", f"{where[name]}: {LATENCY}"
        small, large = f"{where[name]}: {BYTES}", f"{where[EXACT]}: {BYTES}"
        ratios += [
            Ratio(f"{slow}, over {name}", slow, quick, goal=SPEED_GOALS.get(name), at_least=True),
            Ratio(f"{small}, over {EXACT}", small, large),
        ]
    parity = bundles.quantised.manifest.parity[engine]
    note = f"int8 features differ from fp32 by prompt, {engine}, {size} px: {parity['fp32_by_prompt']}."
    return Measured(tuple(series), tuple(ratios), notes=(note,))


SPEED_GOALS = {"int8": 1.8}
"""Goals for the speed-up over fp32, by variant."""


def charts_of(series: Sequence[Series]) -> tuple[Chart, ...]:
    """Draw latency by size, and the accuracy of each task."""
    latency: dict[str, list[str]] = {}
    right: dict[str, list[str]] = {}
    for one in series:
        where, _, what = one.name.partition(": ")
        if what == LATENCY:
            latency.setdefault(where.rpartition(", ")[2], []).append(one.name)
        if what.startswith(RIGHT):
            right.setdefault(what.removeprefix(f"{RIGHT}, "), []).append(one.name)
    return (
        *(Chart(f"Time per image of {size}", tuple(names)) for size, names in latency.items()),
        *(Chart(f"Accuracy: {task}", tuple(names)) for task, names in right.items()),
    )


def measure(
    sizes: Sequence[int],
    engines: Sequence[str],
    network: Path,
    rounds: int,
    threads: int,
    data: Data,
    place: Path = KEPT,
) -> Measured:
    """Measure everything."""
    torch.set_num_threads(threads)
    found = Measured(())
    for size in sizes:
        bundles = bundles_at(size, network, data, place)
        for engine in engines:
            scored = data if size == IMAGE_SIZE else None
            found = found.and_also(measure_on(bundles, engine, size, rounds, threads, scored))
    notes = (
        "Network: DINOv2-small with its own weights; int8 is calibrated on training images, prompts in place.",
        f"Accuracy is measured on {len(data.test)} images of the test split, or on those that belong to the task.",
    )
    return found.and_also(Measured((), charts=charts_of(found.series), notes=notes))


@click.command()
@click.option("--size", "sizes", type=int, multiple=True, help="[default: 56 and 224]")
@click.option("--engine", "engines", type=click.Choice(list(ENGINES)), multiple=True, help="[default: all]")
@click.option("--rounds", type=click.IntRange(2), help="[default: 30]")
@click.option("--every", type=click.IntRange(1), help="Score only every n-th image of the test split.  [default: 1]")
@options
def main(
    *,
    sizes: tuple[int, ...],
    engines: tuple[str, ...],
    rounds: int | None,
    every: int | None,
    quick: bool,
    threads: int,
    output: Path,
) -> None:
    """Measure and publish."""
    sizes = sizes or ((IMAGE_SIZE,) if quick else (IMAGE_SIZE, 224))
    engines = engines or (("openvino",) if quick else tuple(ENGINES))
    rounds, every = rounds or (5 if quick else 30), every or (20 if quick else 1)
    settings = {"sizes": sizes, "engines": engines, "rounds": rounds, "every": every, "threads": threads}
    publish(
        __file__,
        __doc__,
        output,
        settings,
        lambda: measure(sizes, engines, dinov2(), rounds, threads, real_data(every)),
    )


if __name__ == "__main__":
    main()
