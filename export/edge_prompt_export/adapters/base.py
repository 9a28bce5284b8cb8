"""Whether an adapter is for a bundle's backbone, as far as names tell; sizes are checked where arrays are made."""

from __future__ import annotations

import re

from edge_prompt.base.errors import AdapterError
from edge_prompt.formats.manifest import Backbone
from edge_prompt.formats.preprocessing import LanguagePreprocessing, TextPreprocessing
from edge_prompt_export.adapters.adapter_files import Adapter

FINGERPRINT_KEY = "edge_prompt_fingerprint"
"""Where a safetensors file says the fingerprint, if it was written from a prompt of ours."""

TEXT = (TextPreprocessing, LanguagePreprocessing)
"""PEFT's prompts are for networks that read text."""

RENAMED_OPTION = "--base-renamed"

_HUB_CACHE = re.compile(r"models--([^/]+)/snapshots/[^/]+/?$")
"""A network in the hub's cache: its last folder is a commit, its name stands before."""


def base_name(name: str) -> str:
    """The last part of a hub name or of a path, in lower case: what two names of one network share.

    `org/Name`, `/models/Name/` and `~/.cache/…/models--org--Name/snapshots/…` all are `name`.
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
        backbone: The bundle's.
        renamed: Whether the caller says that both are one network under two names.

    Raises:
        AdapterError: Names or revisions differ and `renamed` is not set; or the fingerprints differ, whatever is set.
    """
    config = adapter.config
    fingerprint = adapter.file.metadata.get(FINGERPRINT_KEY, backbone.fingerprint)
    if fingerprint != backbone.fingerprint:
        raise AdapterError(
            found=f"{adapter.file.path} was made for a backbone of fingerprint {fingerprint[:12]}…",
            wanted=f"{backbone.fingerprint[:12]}…, this bundle's",
            remedy="use the bundle of that backbone",
        )
    if renamed:
        return
    if config.base and base_name(config.base) != base_name(backbone.source):
        raise AdapterError(
            found=f"{config.where}: an adapter for {config.base[:200]!r}",
            wanted=f"one for {backbone.source!r}, this bundle's backbone",
            remedy=f"use the bundle of its own network, or pass {RENAMED_OPTION} if both are the same under two names",
        )
    known = backbone.revision or ("main" if "/" in backbone.source else "")
    if config.revision and known and config.revision != known:
        raise AdapterError(
            found=f"{config.where}: an adapter for revision {config.revision[:80]!r} of {config.base[:200]!r}",
            wanted=f"revision {known!r}, this bundle's",
            remedy=f"export that revision (--revision), or pass {RENAMED_OPTION} if both are the same under two names",
        )
