"""Reading an adapter as PEFT saved it: what its configuration says, and its tensors."""

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
"""What reads each file of tensors, in the order in which PEFT looks for them."""

FILE_NAMES = (CONFIG_NAME, *_READERS)
"""The files that an adapter may have here."""

PROMPT_TYPES = ("PROMPT_TUNING", "P_TUNING", "MULTITASK_PROMPT_TUNING", "PREFIX_TUNING", "CARTRIDGE")
"""The `peft_type` of adapters that are prompts."""


@dataclass(frozen=True)
class AdapterConfig:
    """What `adapter_config.json` says, in PEFT's words.

    Attributes:
        where: The file, for messages.
        peft_type: One of `PROMPT_TYPES`.
        task_type: E.g. `CAUSAL_LM`; empty if it does not say.
        base: The name or path of the network it was trained on; empty if it does not say.
        revision: That network's revision; empty if it does not say.
        peft_version: What wrote it; empty if it does not say.
        num_virtual_tokens: Length of the prompt.
        token_dim: Width of a virtual token; of a prefix that of a layer's keys.
        num_layers: Layers of the network; None if it does not say.
        num_attention_heads: Its heads, of a prefix those of keys and values; None if it does not say.
        num_transformer_submodules: 2 of an encoder-decoder, otherwise 1.
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
    """An adapter on disk: what it says, and its file of tensors, none of which was read yet."""

    config: AdapterConfig
    file: TensorFile


def read_adapter(folder: Path) -> Adapter:
    """Read the adapter that PEFT saved in `folder`.

    Raises:
        MissingFileError: There is no such folder, or one of its two files is not there.
        ReadError: A file cannot be read.
        AdapterError: A file is malformed, or the adapter is of a type that is no prompt.
    """
    there = [name for name in FILE_NAMES if (folder / name).is_file()]
    if CONFIG_NAME not in there or len(there) < 2:
        raise MissingFileError(
            found=f"{folder}: {' without the rest'.join([*there, '']) if there else _nothing_in(folder)}",
            wanted=f"{CONFIG_NAME} and {' or '.join(_READERS)}, as PEFT's save_pretrained writes them",
            remedy="give the folder of a whole adapter",
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
            f"a prompt, which is {', '.join(PROMPT_TYPES[:-1])} or {PROMPT_TYPES[-1]}",
            "merge it into its network with PEFT's merge_and_unload and export that, or train a prompt",
        )
    submodules = _size(fields, "num_transformer_submodules") or 1
    if submodules > 2:
        fields.refuse(f"num_transformer_submodules {submodules}", "1, or 2 of an encoder-decoder")
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
