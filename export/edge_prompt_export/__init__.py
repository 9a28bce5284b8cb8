"""The workstation side of edge-prompt: torch, transformers, and the converters."""

from edge_prompt_export.export import export_backbone
from edge_prompt_export.tuning.tune import TuneSettings, tune_prompt

__all__ = ["TuneSettings", "export_backbone", "tune_prompt"]
