"""`edge-prompt tasks FOLDER…`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from edge_prompt.base.errors import EdgePromptError
from edge_prompt.formats.bundle import PROMPTS_FOLDER, Bundle
from edge_prompt.formats.manifest import MANIFEST_NAME, Manifest
from edge_prompt.formats.prompt import PROMPT_SUFFIX, Prompt, read_prompt
from edge_prompt_runtime.commands.trust_options import trust_options
from edge_prompt_runtime.language.compiled_files import ARRAYS_SUFFIX
from edge_prompt_runtime.signing.trust import Trust, read_trusted_bundle
from edge_prompt_runtime.tasks.folders import PromptFolders
from edge_prompt_runtime.tasks.task import Float32, Task, base_task, load_task

MOST_LABELS = 6
"""The number of labels that the table shows."""


@dataclass(frozen=True)
class PromptDescription:
    """A task on disk.

    Attributes:
        name: The name of the task.
        file: The path of its prompt.
        kind: The kind of the prompt; empty if neither the card nor the bundle determines it.
        shape: The shape of the array.
        size_bytes: The size of the prompt and the head.
        labels: The class names.
        compiled: The engines for which it has been compiled ahead of time.
        problem: Why it is rejected; empty if it is not.
    """

    name: str
    file: str
    kind: str = ""
    shape: tuple[int, ...] = ()
    size_bytes: int = 0
    labels: tuple[str, ...] = ()
    compiled: tuple[str, ...] = ()
    problem: str = ""


@click.command("tasks")
@click.argument("folders", type=click.Path(path_type=Path), nargs=-1, required=True)
@click.option(
    "--bundle",
    type=click.Path(path_type=Path),
    help="Bundle to check the prompts against.  [default: FOLDER, if it is a bundle]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
@trust_options
def command(folders: tuple[Path, ...], bundle: Path | None, *, as_json: bool, trust: Trust | None) -> None:
    """List the prompts in folders or in a bundle, and report any problems with them.

    The exit code is 1 if any prompt is rejected.
    """
    if bundle is None:
        bundle = next((folder for folder in folders if (folder / MANIFEST_NAME).is_file()), None)
    if bundle is None and trust is not None:
        raise click.UsageError("the trust options require --bundle")
    opened = None if bundle is None else read_trusted_bundle(bundle, trust)
    found = list(describe_prompts(PromptFolders([_prompts_in(folder) for folder in folders]), opened))
    if as_json:
        for task in found:
            click.echo(json.dumps(asdict(task), ensure_ascii=False))
    else:
        _show(found)
    if any(task.problem for task in found):
        sys.exit(1)


def describe_prompts(folders: PromptFolders, bundle: Bundle | None) -> Iterator[PromptDescription]:
    """Read and check every task in folders.

    Args:
        folders: The folders.
        bundle: The bundle that the prompts must fit; None checks only that each is a valid prompt.
    """
    for name in folders.names():
        try:
            found = folders.find(name)
            if found is not None:  # otherwise it was deleted in the meantime
                yield _read(name, found.path, bundle)
        except EdgePromptError as error:
            yield PromptDescription(name, name + PROMPT_SUFFIX, problem=str(error))


def _read(name: str, path: Path, bundle: Bundle | None) -> PromptDescription:
    task = None
    try:
        prompt = read_prompt(path)
        if bundle is not None:
            manifest = bundle.manifest
            task = load_task(name, path, None, bundle, base_task(manifest), partial(_not_folded, manifest))
    except EdgePromptError as error:
        return PromptDescription(name, str(path), problem=str(error))
    engines = sorted(each.name.split(".")[-3] for each in path.parent.glob(f"{name}.*{ARRAYS_SUFFIX}"))
    return PromptDescription(
        name,
        str(path),
        kind=_kind(prompt, task),
        shape=prompt.array.shape,
        size_bytes=prompt.array.nbytes + (0 if prompt.head is None else prompt.head.size_bytes),
        labels=task.labels if task is not None else () if prompt.card is None else prompt.card.labels,
        compiled=tuple(engines),
    )


def _kind(prompt: Prompt, task: Task | None) -> str:
    return task.kind if task is not None else "" if prompt.card is None else prompt.card.kind


def _not_folded(manifest: Manifest, deep_prompt: Float32) -> Float32:
    """Return a read-only placeholder with the shape of the folded prefix."""
    lengths = (deep_prompt.shape[1] if length is None else length for length in manifest.kinds["prefix"])
    return np.broadcast_to(np.float32(0), tuple(lengths))


def _prompts_in(folder: Path) -> Path:
    return folder / PROMPTS_FOLDER if (folder / MANIFEST_NAME).is_file() else folder


def _show(tasks: list[PromptDescription]) -> None:
    table = Table("task", "kind", "shape", "bytes", "labels", "state")
    for task in tasks:
        names = ", ".join(task.labels[:MOST_LABELS])
        more = f", … ({len(task.labels)})" if len(task.labels) > MOST_LABELS else ""
        state = f"compiled for {', '.join(task.compiled)}" if task.compiled else "ready"
        table.add_row(
            escape(task.name),
            task.kind or ("" if task.problem else "?"),
            " ".join(map(str, task.shape)),
            f"{task.size_bytes:,}" if task.size_bytes else "",
            escape(names + more),
            f"[red]rejected[/]: {escape(task.problem)}" if task.problem else state,
        )
    Console().print(table)
    click.echo(f"{len(tasks)} tasks, {sum(bool(task.problem) for task in tasks)} rejected")
