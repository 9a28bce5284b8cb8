"""The workstation side of edge-prompt: exporting, tuning and converting with torch and transformers.

Each name is imported on first use, because converting prompts from and to PEFT does not need torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from edge_prompt.base.telemetry import refuse_telemetry

if TYPE_CHECKING:
    from edge_prompt.formats.preprocessing import ArrayInput
    from edge_prompt_export.adapters.exporter import export_adapter
    from edge_prompt_export.adapters.importer import import_adapter
    from edge_prompt_export.compression.quantize import quantize_bundle
    from edge_prompt_export.export import export_backbone
    from edge_prompt_export.modalities.custom.network import ModuleDescription
    from edge_prompt_export.training.settings import TuneSettings
    from edge_prompt_export.tune import tune_prompt

refuse_telemetry()  # before a converter is imported

__all__ = [
    "ArrayInput",
    "ModuleDescription",
    "TuneSettings",
    "export_adapter",
    "export_backbone",
    "import_adapter",
    "quantize_bundle",
    "tune_prompt",
]

_HOMES = {
    "ArrayInput": "edge_prompt.formats.preprocessing",
    "ModuleDescription": "edge_prompt_export.modalities.custom.network",
    "TuneSettings": "edge_prompt_export.training.settings",
    "export_adapter": "edge_prompt_export.adapters.exporter",
    "export_backbone": "edge_prompt_export.export",
    "import_adapter": "edge_prompt_export.adapters.importer",
    "quantize_bundle": "edge_prompt_export.compression.quantize",
    "tune_prompt": "edge_prompt_export.tune",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)
