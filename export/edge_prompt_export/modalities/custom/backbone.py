"""A module of the user's own as a backbone in memory."""

from __future__ import annotations

from dataclasses import dataclass

from edge_prompt.formats.preprocessing import ArrayPreprocessing
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.backbone.conditioned_module import Tensors
from edge_prompt_export.modalities.custom.network import ConditionedCustom


@dataclass(frozen=True)
class CustomBackbone(LoadedBackbone):
    """A module of the user's own as a backbone in memory; see `LoadedBackbone`."""

    module: ConditionedCustom
    preprocessing: ArrayPreprocessing

    def parity_requests(self) -> list[Tensors]:
        """See `LoadedBackbone.parity_requests`."""
        return self.module.parity_requests()
