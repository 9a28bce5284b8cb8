"""Fails the strict build if a name on a reference page has no docstring; mkdocstrings would leave it out silently."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import griffe

ROOT = Path(__file__).resolve().parents[2]
SOURCES = (ROOT, ROOT / "export", ROOT / "runtime")

LOG = logging.getLogger("mkdocs.hooks.docstrings")  # a warning below `mkdocs` fails a strict build

_REFERENCE = re.compile(r"^::: ([\w.]+)$", re.MULTILINE)
_NAMING_SECTIONS = {griffe.DocstringSectionKind.attributes, griffe.DocstringSectionKind.parameters}


def on_pre_build(config: Any) -> None:
    """Warn about each undocumented name."""
    for page in sorted(Path(config["docs_dir"]).rglob("*.md")):
        for module in _REFERENCE.findall(page.read_text(encoding="utf-8")):
            for path in undocumented(module):
                LOG.warning("%s has no docstring, but belongs to %s", path, page.name)


def undocumented(module: str) -> Iterator[str]:
    """Yield the paths of the public names of a module that have no docstring."""
    root = griffe.load(
        module, search_paths=SOURCES, docstring_parser="google", resolve_aliases=True, resolve_external=True
    )
    if not root.has_docstring:
        yield root.path
    for name in map(str, root.exports or ()):
        if name.startswith("_"):
            continue
        found = _target(root[name])
        if not found.has_docstring:
            yield found.path
        elif found.is_class:
            yield from _undocumented_members(found)


def _undocumented_members(parent: Any) -> Iterator[str]:
    for name, member in parent.all_members.items():
        found = _target(member)
        if not name.startswith("_") and not found.has_docstring and name not in _named_in(found.parent):
            yield f"{parent.path}.{name}"


def _named_in(parent: Any) -> set[str]:
    """Return the attributes and parameters that the docstring of a class describes."""
    sections = parent.docstring.parsed if parent.docstring else []
    return {entry.name for section in sections if section.kind in _NAMING_SECTIONS for entry in section.value}


def _target(member: Any) -> Any:
    return member.final_target if member.is_alias else member
