"""A causal language model in memory."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from edge_prompt.base.errors import InputError
from edge_prompt.formats.preprocessing import LanguagePreprocessing
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.backbone.conditioned_module import Tensors
from edge_prompt_export.modalities.language.network import ConditionedCausalLM


@dataclass(frozen=True)
class LanguageBackbone(LoadedBackbone):
    """A causal language model in memory; see `LoadedBackbone`."""

    module: ConditionedCausalLM
    preprocessing: LanguagePreprocessing

    def require_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer, which has a form that a device can read.

        Raises:
            InputError: The backbone has none, or one in another form.
        """
        if self.tokenizer is None or getattr(self.tokenizer, "backend_tokenizer", None) is None:
            raise InputError(
                found=f"{self.source} has no tokenizer that a device can read",
                wanted="a tokenizer.json",
                remedy="add a tokenizer.json to the folder",
            )
        return self.tokenizer

    def parity_requests(self) -> list[Tensors]:
        """See `LoadedBackbone.parity_requests`."""
        return self.module.parity_requests()
