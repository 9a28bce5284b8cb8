"""The classifier that is tuned: the very module that is exported, its prompt a parameter, everything else frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn

from edge_prompt.manifest import PROMPT_INPUTS
from edge_prompt_export.families.text_encoder import ConditionedTextEncoder
from edge_prompt_export.tuning.batches import Batch


class PromptedClassifier(nn.Module):
    """A conditioned text encoder with a prompt and a head as its parameters.

    Args:
        encoder: The frozen, conditioned module.
        kind: `soft`, `prefix`, or empty for no prompt.
        prompt: The prompt as the graph takes it, with a leading batch of 1.
        head: The task's own head; None classifies by the network's own.
        own_labels: For each class of the task, its row in the network's own head.
        dropout: Whether the network's own dropout is on while this module trains.

    Attributes:
        prompt: The prompt, a parameter.
        head: The head.
    """

    def __init__(
        self,
        encoder: ConditionedTextEncoder,
        kind: str,
        prompt: Tensor,
        head: nn.Linear | None,
        own_labels: Sequence[int] = (),
        *,
        dropout: bool = False,
    ) -> None:
        super().__init__()
        self._encoder = (encoder,)  # in a tuple, so that its weights are not among this module's parameters
        self._kind = kind
        empty = encoder.example_inputs(batch=1, sequence=2, virtual_tokens=0, prefix_length=0)
        self._empty = {name: empty[name] for name in ("soft_prompt", "prefix") if name in empty}
        self.prompt = nn.Parameter(prompt.clone())
        self.head = head
        self._own_labels = list(own_labels)
        self._dropout = dropout
        self.eval()

    @property
    def encoder(self) -> ConditionedTextEncoder:
        """The conditioned module."""
        return self._encoder[0]

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Enter or leave training; the frozen network follows if its dropout is wanted."""
        self.encoder.train(mode and self._dropout)
        return super().train(mode)

    def inputs(self, batch: Batch) -> dict[str, Tensor]:
        """The encoder's inputs for `batch` under the prompt."""
        prompts = self._empty | ({PROMPT_INPUTS[self._kind]: self.prompt} if self._kind else {})
        length = prompts["soft_prompt"].shape[1] + (prompts["prefix"].shape[4] if "prefix" in prompts else 0)
        ones = batch.attention_mask.new_ones(len(batch.input_ids), length)
        return {
            "input_ids": batch.input_ids,
            "attention_mask": torch.cat([ones, batch.attention_mask], 1),
            **prompts,
        }

    def features(self, batch: Batch) -> Tensor:
        """The feature of each row, `[batch, feature_size]` float32."""
        features: Tensor = self.encoder(**self.inputs(batch))[0]
        return features.float()

    def forward(self, batch: Batch) -> Tensor:
        """The logits of each row, `[batch, num_labels]` float32."""
        if self.head is not None:
            logits: Tensor = self.head(self.features(batch))
            return logits
        outputs = dict(zip(self.encoder.output_names, self.encoder(**self.inputs(batch)), strict=True))
        own: Tensor = outputs["logits"].float()
        return own[:, self._own_labels]
