"""An image backbone in memory."""

from __future__ import annotations

from dataclasses import dataclass

from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.backbone.conditioned_module import Tensors
from edge_prompt_export.modalities.image.network import ConditionedVision


@dataclass(frozen=True)
class ImageBackbone(LoadedBackbone):
    """An image backbone in memory; see `LoadedBackbone`."""

    module: ConditionedVision
    preprocessing: ImagePreprocessing

    def parity_requests(self) -> list[Tensors]:
        """See `LoadedBackbone.parity_requests`."""
        return self.module.parity_requests()
