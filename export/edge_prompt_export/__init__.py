"""The workstation side of edge-prompt: torch, transformers, and the converters."""

from edge_prompt.preprocessing import ArrayInput
from edge_prompt_export.export import export_backbone
from edge_prompt_export.families.custom import ModuleDescription
from edge_prompt_export.quantize import quantize_bundle
from edge_prompt_export.tuning.settings import TuneSettings
from edge_prompt_export.tuning.tune import tune_prompt

__all__ = ["ArrayInput", "ModuleDescription", "TuneSettings", "export_backbone", "quantize_bundle", "tune_prompt"]
