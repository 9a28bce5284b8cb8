"""A text encoder in memory."""

from __future__ import annotations

from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from edge_prompt.base.errors import InputError
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.backbone.conditioned_module import Tensors
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder


@dataclass(frozen=True)
class TextBackbone(LoadedBackbone):
    """A text encoder in memory; see `LoadedBackbone`."""

    module: ConditionedTextEncoder
    preprocessing: TextPreprocessing

    @property
    def max_positions(self) -> int | None:
        """Number of learned positions, shared by prefix, virtual tokens and tokens; None if there are none."""
        return self.preprocessing.max_positions

    @property
    def max_tokens(self) -> int:
        """Maximum number of tokens per text, special tokens included."""
        return self.preprocessing.max_tokens

    def require_tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer.

        Raises:
            InputError: The backbone has none.
        """
        if self.tokenizer is None:
            raise InputError(
                found=f"{self.source} has no tokenizer",
                wanted="a checkpoint with a tokenizer",
                remedy="copy the tokenizer's files into the folder",
            )
        return self.tokenizer

    def parity_requests(self) -> list[Tensors]:
        """See `LoadedBackbone.parity_requests`."""
        return self.module.parity_requests(self.preprocessing)
