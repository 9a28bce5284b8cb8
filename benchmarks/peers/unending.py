"""Copies of our bundles without tokens that end a text, so that all generate the requested number of tokens."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

from benchmarks.peers.places import PEERS
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt.storage.files import folder_written_atomically, sha256_of, write_json
from edge_prompt_runtime.generation.model_defaults import GENERATION_CONFIG_NAME

BUNDLES = PEERS / "bundles"
ENDS = ("eos_token_id", "stop_strings")


def unending(bundle: Path, folder: Path = BUNDLES) -> Path:
    """Return the bundle with a generation_config.json that names no end, made in `folder` once per state of the bundle.

    The other files are hard links to the bundle's, so `folder` must be on its disk.
    """
    made = folder / f"{bundle.name}-{sha256_of(bundle / MANIFEST_NAME)[:16]}"
    if made.is_dir():
        return made
    for older in folder.glob(f"{bundle.name}-*"):
        if older.name.removeprefix(f"{bundle.name}-").isalnum() and len(older.name) == len(made.name):
            shutil.rmtree(older)
    with folder_written_atomically(made) as target:
        for file in bundle.iterdir():
            if file.name not in {MANIFEST_NAME, GENERATION_CONFIG_NAME}:
                os.link(file, target / file.name)
        manifest = json.loads((bundle / MANIFEST_NAME).read_text(encoding="utf-8"))
        config = json.loads((bundle / GENERATION_CONFIG_NAME).read_text(encoding="utf-8"))
        write_json(target / GENERATION_CONFIG_NAME, {key: value for key, value in config.items() if key not in ENDS})
        manifest["files"][GENERATION_CONFIG_NAME] = sha256_of(target / GENERATION_CONFIG_NAME)
        write_json(target / MANIFEST_NAME, manifest)
    return made
