"""Export a prompt file as a PEFT adapter for the same network."""

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
"""The `peft_type` that each kind of prompt is exported as."""

_TASK_TYPES = {"text-generation": "CAUSAL_LM"}
"""PEFT's task for a prompt without a head, by the backbone's task; all other tasks become FEATURE_EXTRACTION."""


def export_adapter(prompt: str | Path, *, bundle: str | Path, output: str | Path, base: str | None = None) -> Path:
    """Write a prompt file as an adapter folder for `peft.PeftModel.from_pretrained(network, folder)`.

    A prompt with a head becomes a SEQ_CLS adapter: load its network for text classification with the same number of
    labels. A prompt without a head becomes a CAUSAL_LM adapter for a language model, and a FEATURE_EXTRACTION adapter
    for any other network.

    Args:
        prompt: The `.npy` file, with its card and head next to it.
        bundle: The bundle of the prompt's backbone; only the manifest is read.
        output: The folder to write; it must not exist.
        base: Base model to record in the adapter, as a name or path; None uses the bundle's.

    Returns:
        The folder.

    Raises:
        EdgePromptError: The prompt or the bundle is malformed, or they do not match; each cause has its own class.
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
            wanted=f"a {' or '.join(_PEFT_TYPES)} prompt for a network that reads text, since PEFT has no others",
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
    """The content of PEFT's configuration file; where a field is null, PEFT takes the value from the network."""
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
    """A README with what PEFT has no fields for: the labels and the template."""
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
