"""The workstation side of edge-prompt: torch, transformers, and the converters."""

from edge_prompt_export.export import export_backbone

__all__ = ["export_backbone"]
