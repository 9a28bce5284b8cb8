"""Convert PEFT's tensors, which are flat rows of numbers, to the arrays of prompt files with named axes, and back."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import NamedTuple, NoReturn

import numpy as np

from edge_prompt.base.errors import AdapterError
from edge_prompt.formats.kinds import describe
from edge_prompt.formats.manifest import Manifest
from edge_prompt.formats.preprocessing import LEAST_TOKENS
from edge_prompt.untrusted.npy import FloatArray
from edge_prompt_export.adapters.adapter_files import Adapter, AdapterConfig
from edge_prompt_export.adapters.tensors import Tensor

logger = logging.getLogger(__name__)

PROMPT_TENSOR = "prompt_embeddings"
_COLUMNS_TENSOR, _ROWS_TENSOR = "prefix_task_cols", "prefix_task_rows"


class Form(NamedTuple):
    """How a type of adapter is imported: the kind of prompt, and the names of the tensors that it consists of."""

    kind: str
    tensors: tuple[str, ...]


FORMS: Mapping[str, Form] = {
    "PROMPT_TUNING": Form("soft", (PROMPT_TENSOR,)),
    "P_TUNING": Form("soft", (PROMPT_TENSOR,)),
    "MULTITASK_PROMPT_TUNING": Form("soft", (PROMPT_TENSOR, _COLUMNS_TENSOR, _ROWS_TENSOR)),
    "PREFIX_TUNING": Form("prefix", (PROMPT_TENSOR,)),
    "CARTRIDGE": Form("prefix", (PROMPT_TENSOR,)),
}
"""The form of each `peft_type`."""


def prompts_of(adapter: Adapter, manifest: Manifest) -> tuple[FloatArray, ...]:
    """The prompts of an adapter, one per task; only MULTITASK_PROMPT_TUNING adapters have several.

    Returns:
        Arrays with the axes of their kind (`FORMS`), in float16 if the adapter's tensors are, otherwise in float32.

    Raises:
        AdapterError: A tensor is missing, contradicts the configuration, is not finite, or does not fit the bundle.
    """
    config, form = adapter.config, FORMS[adapter.config.peft_type]
    if form.kind not in manifest.kinds:
        _refuse_adapter(
            config,
            f"a {config.peft_type} adapter, which is a {form.kind} prompt",
            f"one that this bundle takes, {' or '.join(manifest.kinds) or 'which takes none'}"
            + (f" ({manifest.refused_kinds[form.kind]})" if form.kind in manifest.refused_kinds else ""),
            "export another backbone, or train another kind of prompt",
        )
    tensors = {name: _tensor(adapter, name) for name in form.tensors}
    _require_room(config, manifest)
    if form.kind == "prefix":
        return (_prefix(config, tensors[PROMPT_TENSOR], manifest),)
    return _soft(config, tensors, manifest)


def rows_of_prefix(prefix: FloatArray) -> FloatArray:
    """Convert a prefix `[num_layers, 2, num_kv_heads, num_virtual_tokens, head_dim]` to PEFT's rows.

    Returns:
        `[num_virtual_tokens, num_layers * 2 * num_kv_heads * head_dim]`; blocks 2l and 2l + 1 of each row hold the keys
        and values of layer l.
    """
    return prefix.transpose(3, 0, 1, 2, 4).reshape(prefix.shape[3], -1)


def _prefix(config: AdapterConfig, tensor: Tensor, manifest: Manifest) -> FloatArray:
    layers, _, heads, _, head_dim = (length or 0 for length in manifest.kinds["prefix"])
    stated = (config.num_layers or layers, config.num_attention_heads or heads, config.token_dim)
    if config.num_transformer_submodules == 2:
        _refuse_adapter(
            config,
            "a prefix for the decoder of an encoder-decoder",
            f"one for {manifest.backbone.architecture}",
            "train it on this bundle's backbone",
        )
    if stated != (layers, heads, heads * head_dim):
        _refuse_adapter(
            config,
            f"a prefix of {stated[0]} layers, {stated[1]} heads of keys and values, and a key width of {stated[2]}",
            f"{layers}, {heads} and {heads * head_dim}, as in this bundle",
            "use an adapter that was trained on this bundle's backbone",
        )
    _require_shape(config, tensor, (config.num_virtual_tokens, layers * 2 * config.token_dim))
    rows = tensor.array().reshape(config.num_virtual_tokens, layers, 2, heads, head_dim)
    return rows.transpose(1, 2, 3, 0, 4)


def _soft(config: AdapterConfig, tensors: Mapping[str, Tensor], manifest: Manifest) -> tuple[FloatArray, ...]:
    shape = manifest.kinds["soft"]
    if config.token_dim != shape[1]:
        _refuse_adapter(
            config,
            f"virtual tokens of width {config.token_dim}",
            f"{describe('soft', shape)}, as in this bundle",
            "use an adapter that was trained on this bundle's backbone",
        )
    length, halves = config.num_virtual_tokens, config.num_transformer_submodules
    _require_shape(config, tensors[PROMPT_TENSOR], (length * halves, config.token_dim))
    if halves == 2:
        logger.warning(
            "%s: the adapter is for an encoder-decoder; the encoder's half is taken and the decoder's half is ignored",
            config.where,
        )
    if _COLUMNS_TENSOR not in tensors:
        return (tensors[PROMPT_TENSOR].array()[:length],)
    columns, rows = tensors[_COLUMNS_TENSOR], tensors[_ROWS_TENSOR]
    tasks, ranks = (columns.shape[0], columns.shape[2]) if len(columns.shape) == 3 else (0, 0)
    _require_shape(config, columns, (max(tasks, 1), length * halves, max(ranks, 1)))
    _require_shape(config, rows, (tasks, ranks, config.token_dim))
    shared, left, right = (each.array().astype(np.float32) for each in (tensors[PROMPT_TENSOR], columns, rows))
    return tuple((shared * (left[task] @ right[task]))[:length] for task in range(tasks))


def _tensor(adapter: Adapter, name: str) -> Tensor:
    if name not in adapter.file.tensors:
        has = ", ".join(sorted(adapter.file.tensors)[:5])[:200]
        raise AdapterError(
            found=f"{adapter.file.path}: no tensor {name!r}, but {has or 'none at all'}",
            wanted=f"{' and '.join(FORMS[adapter.config.peft_type].tensors)}, as PEFT names them",
            remedy="save the adapter again with PEFT's save_pretrained",
        )
    return adapter.file.tensors[name]


def _require_shape(config: AdapterConfig, tensor: Tensor, wanted: tuple[int, ...]) -> None:
    if tensor.shape != wanted:
        raise AdapterError(
            found=f"{tensor.name} has shape {list(tensor.shape)[:9]}",
            wanted=f"{list(wanted)}, which follows from {config.where} ({config.num_virtual_tokens} virtual tokens)",
            remedy="restore the two files from the same adapter",
        )


def _require_room(config: AdapterConfig, manifest: Manifest) -> None:
    positions: int | None = getattr(manifest.preprocessing, "max_positions", None)
    if positions is not None and config.num_virtual_tokens > positions - LEAST_TOKENS:
        _refuse_adapter(
            config,
            f"{config.num_virtual_tokens} virtual tokens",
            f"at most {max(positions - LEAST_TOKENS, 0)}, so that a text fits into this bundle's {positions} positions",
            "train a shorter prompt",
        )


def _refuse_adapter(config: AdapterConfig, found: str, wanted: str, remedy: str) -> NoReturn:
    raise AdapterError(found=f"{config.where}: {found}", wanted=wanted, remedy=remedy)
