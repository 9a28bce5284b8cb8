"""Check by name that an adapter belongs to a bundle's backbone; sizes are checked when its arrays are converted."""

from __future__ import annotations

import re

from edge_prompt.base.errors import AdapterError
from edge_prompt.formats.manifest import Backbone
from edge_prompt.formats.preprocessing import LanguagePreprocessing, TextPreprocessing
from edge_prompt_export.adapters.adapter_files import Adapter

FINGERPRINT_KEY = "edge_prompt_fingerprint"
"""The metadata key of the fingerprint in a safetensors file that was exported from a prompt of edge-prompt."""

TEXT = (TextPreprocessing, LanguagePreprocessing)
"""Preprocessings of networks that read text, the only ones that PEFT has prompts for."""

RENAMED_OPTION = "--base-renamed"

_HUB_CACHE = re.compile(r"models--([^/]+)/snapshots/[^/]+/?$")
"""The path of a network in the hub's cache: the last folder is a commit, and the name precedes it."""


def base_name(name: str) -> str:
    """The last part of a hub name or a path in lower case, by which two names of one network are compared.

    `org/Name`, `/models/Name/` and `~/.cache/…/models--org--Name/snapshots/…` all give `name`.
    """
    path = name.replace("\\", "/")
    cached = _HUB_CACHE.search(path)
    if cached is not None:
        path = cached.group(1).replace("--", "/")
    return path.rstrip("/").rpartition("/")[2].casefold()


def require_base(adapter: Adapter, backbone: Backbone, *, renamed: bool) -> None:
    """Refuse an adapter that was trained on another network.

    Args:
        adapter: The adapter.
        backbone: The bundle's backbone.
        renamed: Whether the caller asserts that both are the same network under two names.

    Raises:
        AdapterError: The names or revisions differ and `renamed` is false, or the fingerprints differ.
    """
    config = adapter.config
    fingerprint = adapter.file.metadata.get(FINGERPRINT_KEY, backbone.fingerprint)
    if fingerprint != backbone.fingerprint:
        raise AdapterError(
            found=f"{adapter.file.path} was made for a backbone of fingerprint {fingerprint[:12]}…",
            wanted=f"{backbone.fingerprint[:12]}…, that of this bundle",
            remedy="use the bundle of that backbone",
        )
    if renamed:
        return
    if config.base and base_name(config.base) != base_name(backbone.source):
        raise AdapterError(
            found=f"{config.where}: an adapter for {config.base[:200]!r}",
            wanted=f"one for {backbone.source!r}, this bundle's backbone",
            remedy=f"use the bundle of the adapter's base model, or pass {RENAMED_OPTION} if both names mean the same "
            "network",
        )
    known = backbone.revision or ("main" if "/" in backbone.source else "")
    if config.revision and known and config.revision != known:
        raise AdapterError(
            found=f"{config.where}: an adapter for revision {config.revision[:80]!r} of {config.base[:200]!r}",
            wanted=f"revision {known!r}, that of this bundle",
            remedy=f"export the adapter's revision (--revision), or pass {RENAMED_OPTION} if both revisions are the "
            "same network",
        )
