"""What do small weights bring a language model, and what do they cost? Speed beside loss, for several ways of storing.

    python benchmarks/weights.py

SmolLM2-135M-Instruct (de-quantised from 4 bits), two threads, 28 tokens of request, 64 generated under no prompt. All
variants of an engine take turns in one process. The loss is on 5 pieces of 256 tokens of tales, news, dialogues, posts
and books: perplexity, the divergence (KL) of the next token's distribution from that in fp32, in nats, and how often
the likeliest token is the same.

Bundles are made once and kept in .cache/weights; those that are calibrated take minutes.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np
from nncf import CompressWeightsMode as Mode
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from tokenizers import Tokenizer

from benchmarks.language import NEW_TOKENS, generate, request
from benchmarks.measure import interleaved
from edge_prompt.bundle import TOKENIZER_NAME, read_bundle
from edge_prompt.files import folder_written_atomically
from edge_prompt.manifest import write_manifest
from edge_prompt_export.loading import LoadOptions, load_backbone
from edge_prompt_export.weights import onnx_blocks, openvino
from edge_prompt_export.weights.bundle import compress_bundle
from edge_prompt_export.weights.calibration import calibration_feeds
from edge_prompt_export.weights.onnx_blocks import Blocks
from edge_prompt_runtime import Runtime
from examples.language_scores import smollm2_bundle
from examples.real_data import CACHE, TEXTS, folder_of
from examples.real_language import smollm2

PIECES = ("grimm-tales", "reuters-r52-test", "friends-transcripts", "20newsgroups-test", "book-excerpts")
PIECE_TOKENS = 256
CALIBRATION = ("20newsgroups-train", "reuters-r52-train", "andersen", "grimm-tales-selected")


class Variant(NamedTuple):
    """A way to store weights: one of `WEIGHTS`, what the tool is told in place of the default, and on which texts."""

    weights: str
    settings: Any = None
    calibrated: bool = False


def int4(group_size: int, mode: Mode = Mode.INT4_ASYM, **more: Any) -> dict[str, Any]:
    """NNCF's settings for all layers in 4 bits but embeddings and output layer."""
    return {"mode": mode, "group_size": group_size, "ratio": 1.0, **more}


VARIANTS: Mapping[str, Mapping[str, Variant]] = {
    "openvino": {
        "fp32": Variant("fp32"),
        "fp16": Variant("fp16"),
        "int8, symmetric": Variant("int8"),
        "int8, asymmetric": Variant("int8", {"mode": Mode.INT8_ASYM}),
        "int4, asymmetric, groups of 32": Variant("int4", int4(32)),
        "int4, asymmetric, groups of 64": Variant("int4", int4(64)),
        "int4, symmetric, groups of 32": Variant("int4", int4(32, Mode.INT4_SYM)),
        "int4, symmetric, groups of 64": Variant("int4", int4(64, Mode.INT4_SYM)),
        "int4, asymmetric, groups of 64, everywhere": Variant("int4", int4(64, all_layers=True)),
        "int4, asymmetric, groups of 32, calibrated": Variant("int4", calibrated=True),
    },
    "onnxruntime": {
        "fp32": Variant("fp32"),
        "fp16": Variant("fp16"),
        "int8, blocks of 32": Variant("int8", Blocks(8, 32)),
        "int8, blocks of 64": Variant("int8"),
        "int8, blocks of 128": Variant("int8", Blocks(8, 128)),
        "int4, blocks of 16": Variant("int4", Blocks(4, 16)),
        "int4, blocks of 32": Variant("int4", Blocks(4, 32)),
        "int4, blocks of 64": Variant("int4", Blocks(4, 64)),
        "int4, blocks of 128": Variant("int4", Blocks(4, 128)),
        "int4, blocks of 32, calibrated": Variant("int4", calibrated=True),
    },
}
"""By engine; the first is what others are compared with."""

TABLES: Mapping[str, dict[str, Any]] = {"openvino": openvino.SETTINGS, "onnxruntime": onnx_blocks.BLOCKS}
"""Where an engine's compressor looks up what its tool is told."""


def texts(names: tuple[str, ...]) -> list[str]:
    """The texts of each of the package's tables, as one."""
    csv.field_size_limit(1 << 24)
    found = []
    for name in names:
        with (folder_of(TEXTS, CACHE / "texts") / f"{name}.tab").open(encoding="utf-8") as stream:
            rows = list(csv.reader(stream, delimiter="\t"))[3:]
        found.append("\n".join(row[-1] for row in rows if len(row) > 1)[:300_000])
    return found


def bundle_with(engine: str, name: str, variant: Variant) -> Path:
    """The bundle with its weights stored in that way, for one engine."""
    source, target = smollm2_bundle(), CACHE / "weights" / f"{engine}, {name}"
    if variant.weights == "fp32" or target.exists():
        return source if variant.weights == "fp32" else target
    with folder_written_atomically(target) as folder:
        manifest = read_bundle(source).manifest
        for file in (*manifest.graphs[engine].sha256, *manifest.files):
            shutil.copyfile(source / file, folder / file)
        write_manifest(folder, replace(manifest, graphs={engine: manifest.graphs[engine]}))
        settings, feeds = TABLES[engine], {}
        if variant.calibrated:
            backbone = load_backbone(str(smollm2()), None, None, LoadOptions(None, False, None))  # noqa: FBT003
            (folder / "texts.txt").write_text("\n".join(texts(CALIBRATION)), encoding="utf-8")
            inputs = manifest.graphs[engine].inputs
            feeds = {engine: calibration_feeds(folder / "texts.txt", backbone, inputs)}
        own = settings.get(variant.weights)
        try:
            settings |= {} if variant.settings is None else {variant.weights: variant.settings}
            compress_bundle(folder, variant.weights, feeds)
        finally:
            settings |= {} if own is None else {variant.weights: own}
    return target


def pieces(bundle: Path) -> list[NDArray[np.int64]]:
    """Token ids to measure the loss on."""
    tokenizer = Tokenizer.from_file(str(bundle / TOKENIZER_NAME))
    random = np.random.default_rng(0)
    found = []
    for text in texts(PIECES):
        ids = np.array(tokenizer.encode(text).ids)
        start = random.integers(0, len(ids) - PIECE_TOKENS)
        found.append(ids[start : start + PIECE_TOKENS])
    return found


def log_probabilities(runtime: Runtime, ids: NDArray[np.int64]) -> NDArray[np.float32]:
    """Of every next token, `[tokens, vocab_size]`."""
    logits = runtime.infer({"input_ids": ids[None], "attention_mask": np.ones_like(ids)[None]})["logits"][0]
    shifted = logits - logits.max(-1, keepdims=True)
    found: NDArray[np.float32] = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return found


def losses(runtime: Runtime, exact: Runtime, rows: list[NDArray[np.int64]]) -> tuple[float, float, float]:
    """Perplexity, divergence from `exact`, and the share of places where the likeliest token is the same."""
    found = []
    for ids in rows:
        ours, theirs = (log_probabilities(each, ids) for each in (runtime, exact))
        surprise = -ours[np.arange(len(ids) - 1), ids[1:]].mean()
        divergence = (np.exp(theirs) * (theirs - ours)).sum(-1).mean()
        found.append((surprise, divergence, (ours.argmax(-1) == theirs.argmax(-1)).mean()))
    surprise, divergence, same = np.mean(found, 0).tolist()
    return float(np.exp(surprise)), divergence, same


def megabytes(bundle: Path, engine: str) -> float:
    """Of the files that the engine opens."""
    return sum((bundle / name).stat().st_size for name in read_bundle(bundle).graph(engine).sha256) / 1e6


@click.command()
@click.option("--engine", "engines", multiple=True, type=click.Choice(list(VARIANTS)), default=list(VARIANTS))
@click.option("--rounds", default=9, show_default=True)
@click.option("--only", default="", help="Variants whose name holds this, beside fp32.")
def main(engines: tuple[str, ...], rounds: int, only: str) -> None:
    """Print a table an engine."""
    tokens = request()
    for engine in engines:
        chosen = {name: each for name, each in VARIANTS[engine].items() if only in name or name == "fp32"}
        bundles = {name: bundle_with(engine, name, each) for name, each in chosen.items()}
        runtimes = {name: Runtime(bundle, engine, threads=2) for name, bundle in bundles.items()}
        rows = pieces(bundles["fp32"])
        lost = {name: losses(runtime, runtimes["fp32"], rows) for name, runtime in runtimes.items()}
        variants = {name: partial(generate, runtime, tokens, None) for name, runtime in runtimes.items()}
        first = {
            f"{name}, first": partial(runtime.generate, tokens, max_new_tokens=1) for name, runtime in runtimes.items()
        }
        times = interleaved({**variants, **first}, rounds)
        table = Table(engine, "MB", "tokens/s", "to fp32", "first token ms", "perplexity", "KL", "same token")
        for name, (perplexity, divergence, same) in lost.items():
            ratio = np.median(np.divide(times["fp32"].us, times[name].us))
            table.add_row(
                name,
                f"{megabytes(bundles[name], engine):.0f}",
                f"{NEW_TOKENS / times[name].median_us * 1e6:.1f}",
                f"{ratio:.2f}",
                f"{times[f'{name}, first'].median_us / 1e3:.1f}",
                f"{perplexity:.1f}",
                f"{divergence:.4f}",
                f"{same:.1%}",
            )
        Console(width=140).print(table)


if __name__ == "__main__":
    main()
