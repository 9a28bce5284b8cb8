"""`edge-prompt inspect BUNDLE|TASK.npy`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_prompt.formats.bundle import PROMPTS_FOLDER, Bundle, read_bundle
from edge_prompt.formats.image_settings import ImageSettings
from edge_prompt.formats.kinds import FREE_AXIS, KIND_AXES, describe
from edge_prompt.formats.preprocessing import modality_of
from edge_prompt.formats.prompt import PROMPT_SUFFIX, Prompt, read_prompt

Rows = Iterator[tuple[str, str]]


@click.command("inspect")
@click.argument("path", type=click.Path(path_type=Path))
def command(path: Path) -> None:
    """Describe a bundle (a folder) or a prompt (a .npy file)."""
    rows = _prompt_rows(read_prompt(path)) if path.suffix == PROMPT_SUFFIX else _bundle_rows(read_bundle(path))
    table = Table(title=escape(str(path)), show_header=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        table.add_row(escape(name), escape(value))
    Console().print(table)


def _bundle_rows(bundle: Bundle) -> Rows:
    manifest = bundle.manifest
    backbone = manifest.backbone
    revision = f" at {backbone.revision}" if backbone.revision else ""
    yield "backbone", f"{backbone.source}{revision} ({backbone.architecture})"
    yield "task", backbone.task
    yield "parameters", f"{backbone.num_parameters:,}"
    yield "fingerprint", backbone.fingerprint
    if backbone.labels:
        yield "labels", _listed(backbone.labels)
    for kind, shape in manifest.kinds.items():
        yield f"takes {kind}", describe(kind, shape)
    for kind, reason in manifest.refused_kinds.items():
        yield f"refuses {kind}", reason
    yield from _REQUEST_ROWS[modality_of(manifest.preprocessing)](manifest.preprocessing)
    if all("features" in graph.outputs for graph in manifest.graphs.values()):
        pooling = getattr(manifest.preprocessing, "pooling", "")
        yield "feature", f"size {backbone.feature_size}{pooling and ', pooling '}{pooling}"
    for engine, graph in manifest.graphs.items():
        files = [bundle.folder / name for name in graph.sha256]
        size_bytes = sum(path.stat().st_size for path in files if path.exists())
        yield engine, f"{graph.file}, {graph.weights}, {size_bytes:,} bytes{_parity(manifest.parity.get(engine))}"
    for engine, graph in manifest.fold_graphs.items():
        yield f"{engine} fold graph", graph.file
    prompts = sorted((bundle.folder / PROMPTS_FOLDER).glob(f"*{PROMPT_SUFFIX}"))
    if prompts:
        yield "prompts", _listed([path.stem for path in prompts])
    yield "created by", ", ".join(f"{name} {version}" for name, version in manifest.versions.items())


def _text_rows(text: Any) -> Rows:
    positions = "" if text.max_positions is None else f", {text.max_positions} positions including the prompt"
    yield "text", f"up to {text.max_tokens} tokens{positions}"


def _language_rows(language: Any) -> Rows:
    yield "text", f"{language.max_positions} positions for prompt, text and generated tokens"
    yield "vocabulary", f"{language.vocab_size:,} tokens"


def _image_rows(image: Any) -> Rows:
    size = "any size" if image.height is None else f"{image.height} x {image.width} pixels"
    yield "image", f"{image.channels} channels, {size}"
    yield "preprocessing", "by the caller" if image.settings is None else ", ".join(_steps(image.settings))


def _steps(settings: ImageSettings) -> Iterator[str]:
    """Yield the preprocessing steps of an image, in order."""
    if settings.resize != "none":
        yield " ".join(["resize", settings.resize, *map(str, settings.size)])
    if settings.crop_size:
        yield " ".join(["crop", *map(str, settings.crop_size)])
    yield f"times {settings.rescale_factor:.6g}"
    yield " ".join(["mean", *(f"{number:.4g}" for number in settings.image_mean)])
    yield " ".join(["standard deviation", *(f"{number:.4g}" for number in settings.image_std)])
    if settings.pad != "none":
        yield " ".join(["pad", settings.pad, *map(str, settings.pad_size)])


def _array_rows(arrays: Any) -> Rows:
    for name, array in arrays.inputs.items():
        lengths = ("batch", *("free" if length is None else str(length) for length in array.shape[1:]))
        yield f"array {name}", f"{array.dtype} [{', '.join(lengths)}]"


_REQUEST_ROWS: dict[str, Callable[[Any], Rows]] = {
    "text": _text_rows,
    "language": _language_rows,
    "image": _image_rows,
    "arrays": _array_rows,
}
"""The rows that describe a request, by modality."""


def _parity(figures: Any) -> str:
    """Describe the difference of a graph from torch, or of an int8 graph from the fp32 graph."""
    given = figures if isinstance(figures, dict) else {}
    return "".join(
        f", difference from {name} {given[name]:.1e}"
        for name in ("torch", "fp32")
        if isinstance(given.get(name), float)
    )


def _prompt_rows(prompt: Prompt) -> Rows:
    array, card = prompt.array, prompt.card
    yield "array", f"{list(array.shape)} {array.dtype.name}, {array.nbytes:,} bytes"
    yield "values", f"{array.min():.3g} to {array.max():.3g}, standard deviation {array.std(dtype=float):.3g}"
    if card is None:
        kinds = [kind for kind, axes in KIND_AXES.items() if len(axes) == array.ndim]
        yield "card", f"none; the shape fits {' or '.join(kinds) or 'no kind'}"
        return
    yield "kind", card.kind
    if FREE_AXIS in KIND_AXES[card.kind]:
        yield "virtual tokens", str(array.shape[KIND_AXES[card.kind].index(FREE_AXIS)])
    yield "backbone", card.fingerprint
    if card.labels:
        yield "labels", _listed(card.labels)
    if prompt.head is not None:
        dense = prompt.head.dense
        before = "" if dense is None else f"{list(dense.weight.shape)}, {dense.activation}, "
        yield "head", f"{before}{list(prompt.head.weight.shape)}, {prompt.head.size_bytes:,} bytes"
    yield "template", card.template
    if card.max_tokens is not None:
        yield "tuned on", f"texts of up to {card.max_tokens} tokens"
    yield from _flattened(card.provenance)


def _flattened(value: Any, name: str = "") -> Rows:
    """Yield free-form provenance, one row per leaf."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _flattened(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, str(value)


def _listed(names: Any) -> str:
    names = list(names)
    return ", ".join(names[:30]) + (f", … ({len(names)})" if len(names) > 30 else "")
