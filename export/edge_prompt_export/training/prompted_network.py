"""The network that is tuned: the exported module itself, with the prompt as its parameter and the rest frozen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, Self, TypeVar

from torch import Tensor, nn

from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.training.examples import Batch

ModuleT_co = TypeVar("ModuleT_co", bound=ConditionedModule, covariant=True)


class PromptedNetwork(nn.Module, Generic[ModuleT_co]):
    """A conditioned backbone with a prompt as its parameter; subclasses define the forward pass.

    Args:
        backbone: The frozen, conditioned module.
        kind: The prompt's kind, or empty for no prompt.
        prompt: The prompt, with the axes of a prompt file.
        head: The task's own head; None uses the network's own head.
        dropout: Whether the network's own dropout is on while this module trains.

    Attributes:
        prompt: The prompt, a parameter.
        head: The head.
    """

    def __init__(
        self, backbone: ModuleT_co, kind: str, prompt: Tensor, head: nn.Linear | None = None, *, dropout: bool = False
    ) -> None:
        super().__init__()
        self._backbone = (backbone,)  # in a tuple, so that its weights are not among this module's parameters
        self._kind = kind
        self.prompt = nn.Parameter(prompt.clone())
        self.head = head
        self._dropout = dropout
        self.eval()

    @property
    def backbone(self) -> ModuleT_co:
        """The conditioned module."""
        return self._backbone[0]

    def train(self, mode: bool = True) -> Self:  # noqa: FBT001, FBT002 - torch's signature
        """Set the training mode; it extends to the frozen network only if dropout is enabled."""
        self.backbone.train(mode and self._dropout)
        return super().train(mode)


class PromptedClassifier(PromptedNetwork[ConditionedModule]):
    """A conditioned backbone with a prompt and a head as its parameters; see `PromptedNetwork`.

    Args:
        backbone: The frozen, conditioned module.
        kind: The prompt's kind, or empty for no prompt.
        prompt: The prompt, with the axes of a prompt file.
        head: The task's own head; None uses the network's own head.
        own_labels: For each class of the task, its row in the network's own head.
        dropout: Whether the network's own dropout is on while this module trains.
    """

    def __init__(
        self,
        backbone: ConditionedModule,
        kind: str,
        prompt: Tensor,
        head: nn.Linear | None,
        own_labels: Sequence[int] = (),
        *,
        dropout: bool = False,
    ) -> None:
        super().__init__(backbone, kind, prompt, head, dropout=dropout)
        self._own_labels = list(own_labels)

    def outputs(self, batch: Batch) -> dict[str, Tensor]:
        """The backbone's outputs by name for `batch` with the prompt."""
        prompts = self.backbone.as_input(self._kind, self.prompt) if self._kind else {}
        inputs = self.backbone.graph_inputs(batch.request, prompts)
        return dict(zip(self.backbone.output_names, self.backbone(**inputs), strict=True))

    def features(self, batch: Batch) -> Tensor:
        """The feature of each example, `[batch, feature_size]` float32."""
        return self.outputs(batch)["features"].float()

    def forward(self, batch: Batch) -> Tensor:
        """The logits of each example, `[batch, num_labels]` float32."""
        if self.head is not None:
            logits: Tensor = self.head(self.features(batch))
            return logits
        own = self.outputs(batch)["logits"].float()
        return own[:, self._own_labels]
