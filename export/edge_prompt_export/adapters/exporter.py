"""The way back: a prompt file of ours becomes an adapter that PEFT opens on the same network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from edge_prompt.base.errors import AdapterError
from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.card import TEMPLATE_FIELD
from edge_prompt.formats.fingerprint import require_fingerprint
from edge_prompt.formats.kinds import kind_of
from edge_prompt.formats.manifest import Manifest
from edge_prompt.formats.prompt import Prompt, read_prompt
from edge_prompt.storage.files import folder_written_atomically, write_json
from edge_prompt_export.adapters.adapter_files import CONFIG_NAME, TENSORS_NAME
from edge_prompt_export.adapters.base import FINGERPRINT_KEY, TEXT
from edge_prompt_export.adapters.heads import tensors_of_head
from edge_prompt_export.adapters.prompts import PROMPT_TENSOR, rows_of_prefix

_PEFT_TYPES = {"soft": "PROMPT_TUNING", "prefix": "PREFIX_TUNING"}
"""What each kind becomes."""

_TASK_TYPES = {"text-generation": "CAUSAL_LM"}
"""PEFT's task of a prompt without a head, by the backbone's; others are answered by what the network gives."""


def export_adapter(prompt: str | Path, *, bundle: str | Path, output: str | Path, base: str | None = None) -> Path:
    """Write a prompt file as the folder of an adapter, for `peft.PeftModel.from_pretrained(network, folder)`.

    A prompt with a head becomes a SEQ_CLS adapter, whose network is to be loaded for text classification with as many
    labels; without one, of a language model CAUSAL_LM, of others FEATURE_EXTRACTION.

    Args:
        prompt: The `.npy` file, with its card and head beside it.
        bundle: The bundle of its backbone; only its manifest is read.
        output: The folder to write; it must not exist.
        base: The name or path of the network that the adapter shall name; None takes the bundle's.

    Returns:
        The folder.

    Raises:
        EdgePromptError: Prompt or bundle is malformed, or they are not for each other; each cause has its class.
        AdapterError: PEFT has no such prompt or head.
        WriteError: The folder exists already, or cannot be written.
    """
    path, manifest = Path(prompt), read_bundle(Path(bundle)).manifest
    found = read_prompt(path)
    if found.card is not None:
        require_fingerprint(found.card.fingerprint, manifest.backbone.fingerprint, str(path))
    kind = kind_of(found.array.shape, None if found.card is None else found.card.kind, manifest.kinds, str(path))
    if kind not in _PEFT_TYPES or not isinstance(manifest.preprocessing, TEXT):
        raise AdapterError(
            found=f"{path}: a {kind} prompt for {manifest.backbone.task}",
            wanted=f"a {' or '.join(_PEFT_TYPES)} prompt of a network that reads text: PEFT has no others",
            remedy="choose another prompt",
        )
    rows = rows_of_prefix(found.array) if kind == "prefix" else found.array
    tensors: dict[str, NDArray[Any]] = {PROMPT_TENSOR: np.ascontiguousarray(rows)}
    head = {} if found.head is None else tensors_of_head(found.head, kind, manifest, str(path))
    tensors |= head
    config = _config(kind, found, manifest, base or manifest.backbone.source)
    config["modules_to_save"] = [*dict.fromkeys(name.split(".")[1] for name in head)] or None
    with folder_written_atomically(Path(output)) as folder:
        write_json(folder / CONFIG_NAME, config)
        (folder / "README.md").write_text(_readme(path.stem, found, config), encoding="utf-8")
        metadata = {"format": "pt", FINGERPRINT_KEY: manifest.backbone.fingerprint}
        save_file(tensors, folder / TENSORS_NAME, metadata=metadata)
    return Path(output)


def _config(kind: str, prompt: Prompt, manifest: Manifest, base: str) -> dict[str, Any]:
    """What PEFT's own configuration of the type holds; where it is null, PEFT asks the network."""
    task_type = _TASK_TYPES.get(manifest.backbone.task, "FEATURE_EXTRACTION") if prompt.head is None else "SEQ_CLS"
    layers, _, heads, _, _ = manifest.kinds.get("prefix", (None,) * 5)
    config: dict[str, Any] = {
        "auto_mapping": None,
        "base_model_name_or_path": base,
        "inference_mode": True,
        "num_attention_heads": heads,
        "num_layers": layers,
        "num_transformer_submodules": 1,
        "peft_type": _PEFT_TYPES[kind],
        "revision": manifest.backbone.revision,
        "task_type": task_type,
    }
    if kind == "soft":
        length, width = prompt.array.shape
        return {**config, "num_virtual_tokens": length, "token_dim": width, "prompt_tuning_init": "RANDOM"}
    width = prompt.array.shape[2] * prompt.array.shape[4]
    return {
        **config,
        "num_virtual_tokens": prompt.array.shape[3],
        "token_dim": width,
        "prefix_projection": False,
        "encoder_hidden_size": width,
    }


def _readme(name: str, prompt: Prompt, config: Mapping[str, Any]) -> str:
    """What PEFT has no field for: the labels, and the text around a request's text."""
    card = prompt.card
    lines = [
        "---",
        "library_name: peft",
        f"base_model: {json.dumps(config['base_model_name_or_path'])}",
        "---",
        "",
        f"# {name}",
        "",
    ]
    lines += ["A prompt of edge-prompt, written for PEFT.", ""]
    if card is not None and card.labels:
        lines += ["Labels, in order: " + ", ".join(f"`{label}`" for label in card.labels), ""]
    if card is not None and card.template != TEMPLATE_FIELD:
        lines += ["Put every text into this template first:", "", "```", card.template, "```", ""]
    return "\n".join(lines)
