"""What transformers and torch tell only through private names, in one place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel


def attention_implementation(model: PreTrainedModel) -> str:
    """Return the name of the attention function that a network dispatches to."""
    name: str = model.config._attn_implementation  # noqa: SLF001
    return name


def networks_of(auto_class: Any) -> Mapping[Any, Any]:
    """Return the classes of networks that an auto class loads, by the class of their configuration."""
    networks: Mapping[Any, Any] = auto_class._model_mapping  # noqa: SLF001
    return networks


def is_traced() -> bool:
    """Whether `torch.jit.trace` is running, as in the export to OpenVINO."""
    return torch._C._get_tracing_state() is not None  # noqa: SLF001
