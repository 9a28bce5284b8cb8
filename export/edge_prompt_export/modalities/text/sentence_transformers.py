"""Read the additional files of a sentence-transformers checkpoint: pooling, maximum length, normalisation."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers.utils import cached_file

from edge_prompt.base.errors import BackboneError

_MODE_FLAG = "pooling_mode_"
_KNOWN_MODULES = {"Transformer", "Pooling", "Normalize"}
_POOLING_NAMES = {"mean_tokens": "mean", "cls_token": "cls"}


@dataclass(frozen=True)
class SentenceSettings:
    """How a sentence-transformers checkpoint computes the embedding of a text.

    Attributes:
        pooling: `mean`, `cls`, or the checkpoint's name of an unsupported pooling.
        max_tokens: Maximum number of tokens per text; None if the checkpoint does not set it.
        normalize: Whether embeddings are L2-normalised.
        left_out: The types of additional modules, which a bundle does not support.
    """

    pooling: str
    max_tokens: int | None
    normalize: bool
    left_out: tuple[str, ...] = ()


def read_sentence_settings(source: str, arguments: Mapping[str, Any]) -> SentenceSettings:
    """The settings of the checkpoint `source`; mean pooling for a checkpoint without settings.

    The files are those of https://sbert.net: `modules.json`, `1_Pooling/config.json`, `sentence_bert_config.json`.

    Args:
        source: A local folder, or a name on the hub.
        arguments: Keyword arguments for the hub.

    Raises:
        BackboneError: A file is not valid JSON.
    """
    modules = _read_json(source, "modules.json", arguments)
    pooling = _read_json(source, "1_Pooling/config.json", arguments)
    length = _read_json(source, "sentence_bert_config.json", arguments)
    max_tokens = length.get("max_seq_length") if isinstance(length, dict) else None
    types = [str(module.get("type", "")) for module in modules or [] if isinstance(module, dict)]
    return SentenceSettings(
        pooling=_pooling_of(pooling if isinstance(pooling, dict) else {}),
        max_tokens=max_tokens if isinstance(max_tokens, int) else None,
        normalize=any(name.endswith("Normalize") for name in types),
        left_out=tuple(name for name in types if name.rpartition(".")[2] not in _KNOWN_MODULES),
    )


def _pooling_of(settings: dict[str, Any]) -> str:
    flags = [
        name.removeprefix(_MODE_FLAG) for name, on in settings.items() if name.startswith(_MODE_FLAG) and on is True
    ]
    named = settings.get("pooling_mode")  # newer files contain the name instead of flags
    mode = named if isinstance(named, str) else "+".join(flags) or "mean"
    return _POOLING_NAMES.get(mode, mode)


def _read_json(source: str, name: str, arguments: Mapping[str, Any]) -> Any:
    """The content of an optional file of a checkpoint; None if the file does not exist."""
    if Path(source).is_dir():
        path = Path(source) / name
    else:
        found = cached_file(
            source,
            name,
            revision=arguments["revision"],
            cache_dir=arguments["cache_dir"],
            _raise_exceptions_for_missing_entries=False,
            _raise_exceptions_for_connection_errors=False,
        )
        if not found:
            return None
        path = Path(found)
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return None
    except ValueError as error:  # if it were ignored, the pooling would silently differ from the authors' own
        raise BackboneError(
            found=f"{source}: {name} is not JSON ({error})",
            wanted="the file as sentence-transformers wrote it",
            remedy="download the checkpoint again",
        ) from error
