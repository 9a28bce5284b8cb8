"""Import a PEFT adapter as a prompt file with its card and head; the network itself is not needed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_prompt.base.errors import AdapterError, HeadError, InputError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt.formats.head import Head
from edge_prompt.formats.manifest import Manifest
from edge_prompt.formats.preprocessing import LEAST_TOKENS
from edge_prompt.formats.prompt import PROMPT_SUFFIX, write_prompt
from edge_prompt_export.adapters.adapter_files import Adapter, read_adapter
from edge_prompt_export.adapters.base import TEXT, require_base
from edge_prompt_export.adapters.heads import head_of
from edge_prompt_export.adapters.location import adapter_folder
from edge_prompt_export.adapters.prompts import FORMS, prompts_of

_MAX_CHARACTERS = 200
"""Longest text, in characters, that is copied from an adapter's configuration into a card."""


def import_adapter(
    adapter: str | Path,
    *,
    bundle: str | Path,
    output: str | Path,
    task_index: int | None = None,
    labels: Sequence[str] = (),
    template: str = TEMPLATE_FIELD,
    max_tokens: int | None = None,
    problem_type: str | None = None,
    base_renamed: bool = False,
    revision: str | None = None,
    cache_dir: str | None = None,
) -> tuple[Path, ...]:
    """Write the prompt of a PEFT adapter as a prompt file for a bundle, with its card, and its head if it has one.

    Args:
        adapter: The folder that PEFT's `save_pretrained` wrote, or its name on the hub.
        bundle: The bundle of the network that the adapter was trained on; only its manifest is read.
        output: The `.npy` file to write.
        task_index: Index of the task to import from a MULTITASK_PROMPT_TUNING adapter. None imports all; if there are
            several, they are written as `NAME-0.npy`, `NAME-1.npy`, ….
        labels: Class names in the order of the head's rows. If empty, the backbone's class names are used if their
            number fits.
        template: The template that texts were put into during training; it contains `{text}` once.
        max_tokens: Maximum number of tokens per text during training; longer texts are truncated. None uses the
            backbone's maximum.
        problem_type: What the logits of the adapter's classifier mean: `regression`, `single_label_classification` or
            `multi_label_classification`, as in the configuration it was trained with; None leaves it to their number.
        base_renamed: Whether the adapter's base model and the bundle's backbone are the same network under two names
            or revisions. Sizes are checked in any case.
        revision: The adapter's branch, tag or commit on the hub.
        cache_dir: Folder for downloads.

    Returns:
        The prompt files that were written.

    Raises:
        MissingFileError: The adapter, one of its files, or the bundle does not exist.
        AdapterError: The adapter is malformed, is not a prompt, or belongs to another backbone.
        HeadError: The number of labels does not fit the head.
        InputError: `output`, `task_index`, `template` or `max_tokens` is invalid.
        WriteError: A file cannot be written.
    """
    path = Path(output)
    _require_settings(path, template, max_tokens)
    manifest = read_bundle(Path(bundle)).manifest
    if not isinstance(manifest.preprocessing, TEXT):
        raise AdapterError(
            found=f"{bundle}, whose backbone takes no text",
            wanted="the bundle of a language model or a text encoder",
            remedy="use the bundle of the network that the adapter was trained on",
        )
    folder = adapter_folder(str(adapter), revision, cache_dir)
    found = read_adapter(folder)
    require_base(found, manifest.backbone, renamed=base_renamed)
    form = FORMS[found.config.peft_type]
    prompts = prompts_of(found, manifest)
    head = head_of(found, form.tensors, form.kind, manifest)
    names = _labels(head, labels, manifest, path)
    written = []
    for task in _tasks(task_index, len(prompts), str(adapter)):
        several = len(prompts) > 1
        target = path.with_name(f"{path.stem}-{task}{PROMPT_SUFFIX}") if several and task_index is None else path
        write_prompt(
            target,
            prompts[task],
            form.kind,
            manifest.backbone.fingerprint,
            head=head,
            labels=names,
            template=template,
            max_tokens=max_tokens,
            problem_type=problem_type,
            provenance=_provenance(found, _name_of(adapter), task if several else None),
        )
        written.append(target)
    return tuple(written)


def _require_settings(path: Path, template: str, max_tokens: int | None) -> None:
    wrong = {
        f"the output {path}": path.suffix != PROMPT_SUFFIX and "a name that ends in .npy",
        f"the template {template[:80]!r}": template.count(TEMPLATE_FIELD) != 1
        and f"a template that contains {TEMPLATE_FIELD} exactly once",
        f"max_tokens {max_tokens}": max_tokens is not None
        and not LEAST_TOKENS <= max_tokens < 2**31
        and f"{LEAST_TOKENS} or more",
    }
    for found, wanted in wrong.items():
        if wanted:
            raise InputError(found=found, wanted=wanted, remedy="correct this argument")


def _tasks(task_index: int | None, tasks: int, adapter: str) -> Sequence[int]:
    if task_index is None:
        return range(tasks)
    if not 0 <= task_index < tasks:
        raise InputError(
            found=f"task {task_index} of {adapter}",
            wanted=f"an index from 0 to {tasks - 1}",
            remedy="pass the index of one of its tasks, or leave the index out to import all of them",
        )
    return [task_index]


def _labels(head: Head | None, labels: Sequence[str], manifest: Manifest, path: Path) -> tuple[str, ...]:
    """The given labels; else the backbone's class names, as in PEFT, if there are as many as the head has classes."""
    own = manifest.backbone.labels
    classes = len(own) if head is None else len(head.weight)
    if labels and len(labels) != classes:
        raise HeadError(
            found=f"{len(labels)} labels for {path}",
            wanted=f"{classes}, one per class of {'the network' if head is None else 'the adapter'}'s own head",
            remedy=f"pass {classes} labels (--label), or none",
        )
    return tuple(labels) or (own if head is not None and len(own) == classes else ())


def _name_of(adapter: str | Path) -> str:
    """The hub name, or the last part of a local path: whole paths would reveal more than a reader needs."""
    return Path(adapter).resolve().name if Path(adapter).exists() else str(adapter)


def _provenance(adapter: Adapter, name: str, task: int | None) -> dict[str, Any]:
    config = adapter.config
    fields = {
        "imported_from": "PEFT",
        "adapter": name,
        "peft_type": config.peft_type,
        "task_type": config.task_type,
        "base_model": _without_folders(config.base),
        "revision": config.revision,
        "peft_version": config.peft_version,
        "part": "encoder" if config.num_transformer_submodules == 2 else "",
    }
    clipped = {key: text[:_MAX_CHARACTERS] for key, text in fields.items() if text}
    return clipped if task is None else {**clipped, "task_index": task}


def _without_folders(base: str) -> str:
    """The hub name, or the last part of a path: whole paths would reveal more than a reader needs."""
    return base if re.fullmatch(r"[\w.-]+(/[\w.-]+)?", base) else re.split(r"[\\/]", base.rstrip("\\/"))[-1]
