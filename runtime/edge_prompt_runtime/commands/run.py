"""`edge-prompt run BUNDLE --prompt TASK.npy --text S`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from edge_prompt.errors import InputError
from edge_prompt.files import require_file
from edge_prompt_runtime.engines import ENGINES
from edge_prompt_runtime.results import Classification
from edge_prompt_runtime.runtime import TOKEN_CLASSIFICATION, Runtime, TaskName

BATCH_SIZE = 16


@click.command("run")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--prompt", type=click.Path(path_type=Path), help="The task's .npy file.  [default: the base model]")
@click.option("--kind", help="The kind of a bare .npy file whose shape leaves it open.")
@click.option("--text", help="A text.")
@click.option("--input", "input_file", type=click.Path(path_type=Path), help="A .jsonl file, a text a line.")
@click.option("--engine", type=click.Choice(list(ENGINES)), help="[default: the first that is installed]")
@click.option("--threads", type=click.IntRange(1), help="[default: the engine's choice]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
def command(
    bundle: Path,
    prompt: Path | None,
    kind: str | None,
    text: str | None,
    input_file: Path | None,
    engine: str | None,
    threads: int | None,
    *,
    as_json: bool,
) -> None:
    """Answer texts under a prompt: a class, token classes, or an embedding, by what prompt and backbone can do."""
    if (text is None) == (input_file is None):
        raise click.UsageError("pass either --text or --input")
    runtime = Runtime(bundle, engine, threads)
    task: TaskName = None
    if prompt is not None:
        task = prompt.stem
        runtime.load(task, prompt, kind)
    answer, show = _answers(runtime, task)
    form: Callable[[Answer], str] = json.dumps if as_json else show
    if text is not None:
        click.echo(form(answer([text])[0]))
        return
    assert input_file is not None  # noqa: S101 - one of both was given
    with _progress(input_file) as advance:
        for texts, size_bytes in _batches(input_file):
            for row in answer(texts):
                click.echo(form(row))
            advance(size_bytes)


Answer = dict[str, Any]


def _answers(runtime: Runtime, task: TaskName) -> tuple[Callable[[list[str]], list[Answer]], Callable[[Answer], str]]:
    """How texts are answered, and how an answer is shown to a person."""
    if runtime.task(task).head is None and runtime.bundle.manifest.backbone.task == TOKEN_CLASSIFICATION:
        return lambda texts: [
            {"tokens": [vars(token) for token in tokens]} for tokens in runtime.label_tokens(texts, task)
        ], _show_tokens
    if runtime.task(task).labels:
        return lambda texts: [_classification(row) for row in runtime.classify(texts, task)], _show_classification
    return lambda texts: [{"embedding": row} for row in runtime.embed(texts, task).tolist()], _show_embedding


def _classification(row: Classification) -> Answer:
    return {"label": row.label, "score": row.score, "scores": dict(row.scores)}


def _show_classification(answer: Answer) -> str:
    return f"{answer['label']}\t{answer['score']:.4f}"


def _show_tokens(answer: Answer) -> str:
    return " ".join(f"{token['text']}/{token['label']}" for token in answer["tokens"])


def _show_embedding(answer: Answer) -> str:
    return " ".join(f"{value:.6f}" for value in answer["embedding"])


def _batches(path: Path) -> Iterator[tuple[list[str], int]]:
    """The texts of the file, batch by batch, with the bytes that each batch took in it."""
    texts: list[str] = []
    size_bytes = 0
    with require_file(path).open("rb") as stream:
        for number, line in enumerate(stream, 1):
            size_bytes += len(line)
            if line.strip():
                texts.append(_text_of(line, path, number))
            if len(texts) == BATCH_SIZE:
                yield texts, size_bytes
                texts, size_bytes = [], 0
    if texts:
        yield texts, size_bytes


def _text_of(line: bytes, path: Path, number: int) -> str:
    try:
        text = json.loads(line)["text"]
    except (ValueError, RecursionError, KeyError, TypeError) as error:
        raise _line_error(path, number, f"no JSON object with a text ({type(error).__name__})") from error
    if not isinstance(text, str) or not text.strip():
        found = "an empty text" if isinstance(text, str) else f"a {type(text).__name__} as text"
        raise _line_error(path, number, found)
    return text


def _line_error(path: Path, number: int, found: str) -> InputError:
    return InputError(
        found=f"{path}, line {number}: {found}",
        wanted='{"text": "…"}',
        remedy="correct that line or leave it out",
    )


@contextmanager
def _progress(path: Path) -> Iterator[Callable[[int], None]]:
    """A progress bar over the bytes of the file on standard error, if a person is watching that."""
    if not sys.stderr.isatty():
        yield lambda _size_bytes: None
        return
    from rich.console import Console  # noqa: PLC0415 - only for a person at a terminal
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task(path.name, total=path.stat().st_size)
        yield lambda size_bytes: progress.advance(bar, size_bytes)
