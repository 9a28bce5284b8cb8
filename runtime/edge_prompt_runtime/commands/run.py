"""`edge-prompt run BUNDLE --prompt TASK.npy --text S`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import click
import numpy as np

from edge_prompt.base.errors import InputError
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt.formats.preprocessing import modality_of
from edge_prompt_runtime.answers.results import Segmentation
from edge_prompt_runtime.commands.engine_options import cores_option
from edge_prompt_runtime.commands.items import ITEMS, batches
from edge_prompt_runtime.commands.trust_options import trust_options
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.engines.options import PRECISIONS
from edge_prompt_runtime.runtime import Runtime
from edge_prompt_runtime.signing.trust import Trust
from edge_prompt_runtime.tasks.registry import TaskName


@click.command("run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--prompt", type=click.Path(path_type=Path), help="Prompt of the task (.npy).  [default: none, the base model]"
)
@click.option("--kind", help="Kind of the prompt, if it has no card and its shape is ambiguous.")
@click.option("--text", help="Text to run.")
@click.option("--image", help="Image file to run.")
@click.option(
    "--input",
    "input_file",
    type=click.Path(path_type=Path),
    help='JSON Lines file to run, one {"text": "…"} or {"image": "path"} per line. Paths are relative to the file.',
)
@click.option("--engine", type=click.Choice(list(ENGINES)), help="Engine to use.  [default: the first one installed]")
@click.option("--threads", type=click.IntRange(1), help="Number of threads.  [default: chosen by the engine]")
@cores_option
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="f32", show_default=True, help="Precision of the computation."
)
@click.option(
    "--model-cache",
    type=click.Path(path_type=Path),
    help="Folder in which the engine caches the optimised graph, so that it opens faster next time.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@trust_options
def command(
    bundle: Path,
    prompt: Path | None,
    kind: str | None,
    text: str | None,
    image: str | None,
    input_file: Path | None,
    engine: str | None,
    threads: int | None,
    cores: list[int] | None,
    precision: str,
    model_cache: Path | None,
    *,
    trust: Trust | None,
    as_json: bool,
) -> None:
    """Run a bundle on texts or images, with a prompt.

    The prompt and the backbone determine the kind of answer: a class, token classes, detected objects, the share of
    pixels of each class, generated text, or an embedding.
    """
    given = {"text": text, "image": image, "input": input_file}
    if sum(value is not None for value in given.values()) != 1:
        raise click.UsageError("pass exactly one of --text, --image and --input")
    runtime = Runtime(bundle, engine, threads, precision, model_cache=model_cache, trust=trust, cores=cores)
    item = _item(runtime, given)
    task: TaskName = None
    if prompt is not None:
        task = prompt.stem
        runtime.load(task, prompt, kind)
    form = _form(runtime, task)
    show: Callable[[Answer], str] = json.dumps if as_json else form.show
    if input_file is None:
        click.echo(show(form.answers(runtime, [given[item]], task)[0]))
        return
    with _progress(input_file) as advance:
        for items, size_bytes in batches(input_file, item):
            for row in form.answers(runtime, items, task):
                click.echo(show(row))
            advance(size_bytes)


def _item(runtime: Runtime, given: dict[str, Any]) -> str:
    """Return the option that matches the modality of the bundle, if it or --input was given."""
    modality = modality_of(runtime.bundle.manifest.preprocessing)
    if modality not in ITEMS:
        raise InputError(
            found=f"the modality of {runtime.bundle.folder} is {modality}",
            wanted="a backbone for texts or images",
            remedy="use edge_prompt_runtime.Runtime in Python",
        )
    item = ITEMS[modality]
    if given[item] is None and given["input"] is None:
        other = next(name for name in ITEMS.values() if given[name] is not None)
        raise InputError(
            found=f"--{other} for a backbone for {item}s",
            wanted=f"--{item}",
            remedy=f"pass --{item} or --input, or use another bundle",
        )
    return item


Answer = dict[str, Any]


class _Form(NamedTuple):
    """How to compute the answers for items, and how to format an answer for people."""

    answers: Callable[[Runtime, Sequence[Any], TaskName], list[Answer]]
    show: Callable[[Answer], str]


def _classifications(runtime: Runtime, items: Sequence[Any], task: TaskName) -> list[Answer]:
    rows = runtime.classify(items, task)
    return [{"label": row.label, "score": row.score, "scores": dict(row.scores)} for row in rows]


def _show_classification(answer: Answer) -> str:
    return f"{answer['label']}\t{answer['score']:.4f}"


def _token_labels(runtime: Runtime, items: Sequence[Any], task: TaskName) -> list[Answer]:
    return [{"tokens": [vars(token) for token in row]} for row in runtime.label_tokens(items, task)]


def _show_token_labels(answer: Answer) -> str:
    return " ".join(f"{token['text']}/{token['label']}" for token in answer["tokens"])


def _detections(runtime: Runtime, items: Sequence[Any], task: TaskName) -> list[Answer]:
    return [{"detections": [vars(found) for found in row]} for row in runtime.detect(items, task)]


def _show_detections(answer: Answer) -> str:
    """Format each object with its score and its box: left, top, right, bottom."""
    return "\t".join(
        f"{found['label']} {found['score']:.4f} ({', '.join(f'{edge:.0f}' for edge in found['box'])})"
        for found in answer["detections"]
    )


def _segmentations(runtime: Runtime, items: Sequence[Any], task: TaskName) -> list[Answer]:
    return [{"pixels": _pixels(row)} for row in runtime.segment(items, task)]


def _pixels(row: Segmentation) -> dict[str, int]:
    """Count the pixels of each label, largest first. Labels without pixels are omitted."""
    counts = np.bincount(row.map.ravel(), minlength=len(row.labels)).tolist()
    found = [(label, count) for label, count in zip(row.labels, counts, strict=True) if count]
    return dict(sorted(found, key=lambda item: -item[1]))


def _show_segmentation(answer: Answer) -> str:
    total = sum(answer["pixels"].values())
    return "\t".join(f"{label} {count / total:.1%}" for label, count in answer["pixels"].items())


def _embeddings(runtime: Runtime, items: Sequence[Any], task: TaskName) -> list[Answer]:
    return [{"embedding": row} for row in runtime.embed(items, task).tolist()]


def _show_embedding(answer: Answer) -> str:
    return " ".join(f"{value:.6f}" for value in answer["embedding"])


def _generations(runtime: Runtime, items: Sequence[Any], task: TaskName) -> list[Answer]:
    texts: list[str] = list(items)
    rows = runtime.generate(texts, task)
    return [{"text": row.text, "finish_reason": row.finish_reason} for row in rows]


def _show_generation(answer: Answer) -> str:
    text: str = answer["text"]
    return text


_CLASSIFICATION = _Form(_classifications, _show_classification)
_EMBEDDING = _Form(_embeddings, _show_embedding)
_FORM_BY_BACKBONE_TASK = {
    "text-classification": _CLASSIFICATION,
    "image-classification": _CLASSIFICATION,
    "token-classification": _Form(_token_labels, _show_token_labels),
    "object-detection": _Form(_detections, _show_detections),
    "semantic-segmentation": _Form(_segmentations, _show_segmentation),
    "text-generation": _Form(_generations, _show_generation),
}
"""The form of the answers of a task without its own head, by the task of the backbone; otherwise an embedding."""


def _form(runtime: Runtime, task: TaskName) -> _Form:
    found = runtime.task(task)
    if found.head is not None or (found.labels and isinstance(runtime.bundle.manifest, LanguageManifest)):
        return _CLASSIFICATION
    return _FORM_BY_BACKBONE_TASK.get(runtime.bundle.manifest.backbone.task, _EMBEDDING)


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int], None]]:
    """Show a progress bar over the bytes of the file on standard error if it is a terminal."""
    if not sys.stderr.isatty():
        yield lambda _size_bytes: None
        return
    from rich.console import Console  # noqa: PLC0415 - only for a person at a terminal
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(path.name, total=path.stat().st_size)
        yield lambda size_bytes: progress.advance(bar, size_bytes)
