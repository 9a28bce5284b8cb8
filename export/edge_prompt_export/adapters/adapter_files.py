"""Read an adapter as PEFT saves it: its configuration and its tensors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_prompt.base.errors import AdapterError, MissingFileError
from edge_prompt.storage.files import read_json
from edge_prompt.untrusted.json_fields import Fields
from edge_prompt_export.adapters.safetensors_file import read_safetensors
from edge_prompt_export.adapters.tensors import TensorFile
from edge_prompt_export.adapters.torch_file import read_bin

CONFIG_NAME = "adapter_config.json"
TENSORS_NAME = "adapter_model.safetensors"

_READERS: Mapping[str, Callable[[Path], TensorFile]] = {TENSORS_NAME: read_safetensors, "adapter_model.bin": read_bin}
"""The reader of each tensor file, in the order in which PEFT looks for the files."""

FILE_NAMES = (CONFIG_NAME, *_READERS)
"""The files of an adapter that are read or downloaded."""

PROMPT_TYPES = ("PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "CARTRIDGE")
"""The `peft_type` of adapters that are prompts."""


@dataclass(frozen=True)
class AdapterConfig:
    """The fields of `adapter_config.json`, in PEFT's terms. Optional fields are empty or None if the file lacks them.

    Attributes:
        where: The file, for messages.
        peft_type: One of `PROMPT_TYPES`.
        task_type: The task, e.g. `CAUSAL_LM`.
        base: Name or path of the base model.
        revision: Revision of the base model.
        peft_version: Version of PEFT that wrote the file.
        num_virtual_tokens: Length of the prompt.
        token_dim: Width of a virtual token; for a prefix, the total width of a layer's keys.
        num_layers: Number of layers of the base model.
        num_attention_heads: Number of attention heads; for a prefix, of heads of keys and values.
        num_transformer_submodules: 2 for an encoder-decoder, otherwise 1.
    """

    where: str
    peft_type: str
    task_type: str
    base: str
    revision: str
    peft_version: str
    num_virtual_tokens: int
    token_dim: int
    num_layers: int | None
    num_attention_heads: int | None
    num_transformer_submodules: int


@dataclass(frozen=True)
class Adapter:
    """An adapter on disk: its configuration, and its tensor file, whose tensors are read on demand."""

    config: AdapterConfig
    file: TensorFile


def read_adapter(folder: Path) -> Adapter:
    """Read the adapter that PEFT saved in `folder`.

    Raises:
        MissingFileError: The folder, or one of its two files, does not exist.
        ReadError: A file cannot be read.
        AdapterError: A file is malformed, or the adapter is not a prompt.
    """
    there = [name for name in FILE_NAMES if (folder / name).is_file()]
    if CONFIG_NAME not in there or len(there) < 2:
        raise MissingFileError(
            found=f"{folder}: {'only ' + ' and '.join(there) if there else _nothing_in(folder)}",
            wanted=f"{CONFIG_NAME} and {' or '.join(_READERS)}, as PEFT's save_pretrained writes them",
            remedy="pass the folder of a complete adapter",
        )
    config = _read_config(folder / CONFIG_NAME)
    return Adapter(config, _READERS[there[1]](folder / there[1]))


def _nothing_in(folder: Path) -> str:
    return "no adapter in it" if folder.is_dir() else "no such folder"


def _read_config(path: Path) -> AdapterConfig:
    fields = Fields(read_json(path, AdapterError), str(path), AdapterError)
    peft_type = fields.take("peft_type", str)
    if peft_type not in PROMPT_TYPES:
        fields.refuse(
            f"an adapter of type {peft_type[:40]}",
            f"a prompt ({', '.join(PROMPT_TYPES[:-1])} or {PROMPT_TYPES[-1]})",
            "merge the adapter into its network with PEFT's merge_and_unload and export the result, or train a prompt",
        )
    submodules = _size(fields, "num_transformer_submodules") or 1
    if submodules > 2:
        fields.refuse(f"num_transformer_submodules {submodules}", "1, or 2 for an encoder-decoder")
    return AdapterConfig(
        where=str(path),
        peft_type=peft_type,
        task_type=fields.optional("task_type", str) or "",
        base=fields.optional("base_model_name_or_path", str) or "",
        revision=fields.optional("revision", str) or "",
        peft_version=fields.optional("peft_version", str) or "",
        num_virtual_tokens=fields.size("num_virtual_tokens", least=1),
        token_dim=fields.size("token_dim", least=1),
        num_layers=_size(fields, "num_layers"),
        num_attention_heads=_size(fields, "num_attention_heads"),
        num_transformer_submodules=submodules,
    )


def _size(fields: Fields, name: str) -> int | None:
    return None if fields.value.get(name) is None else fields.size(name, least=1)
