"""How prompts are tuned for one modality: a record of functions that take the types of that modality."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, NamedTuple, Protocol, TypeVar

import torch
from torch import Tensor

from edge_prompt.base.errors import InputError
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.training.dataset import Dataset
from edge_prompt_export.training.examples import Examples
from edge_prompt_export.training.loop import LoopSettings, Observer, Outcome, train
from edge_prompt_export.training.metrics import Measure, Metrics
from edge_prompt_export.training.prompted_network import PromptedNetwork
from edge_prompt_export.training.settings import TuneSettings

BackboneT = TypeVar("BackboneT", bound=LoadedBackbone)
RowT = TypeVar("RowT")
ExamplesT = TypeVar("ExamplesT", bound=Examples)
NetworkT = TypeVar("NetworkT", bound=PromptedNetwork[ConditionedModule])


class Tuned(NamedTuple):
    """The result of tuning, in memory.

    Attributes:
        network: The prompted network with the parameters that training kept.
        outcome: How training ended.
        measure: Measures the network on the validation examples; None without validation examples.
    """

    network: PromptedNetwork[ConditionedModule]
    outcome: Outcome
    measure: Callable[[], Metrics] | None


def tune_everything(_prompt: Tensor, _settings: TuneSettings) -> None:
    """The mask of a modality that tunes all values of a prompt."""


def given_template(_backbone: LoadedBackbone, settings: TuneSettings) -> str:
    """The template of a modality that stores it as given."""
    return settings.template


@dataclass(frozen=True)
class Recipe(Generic[BackboneT, RowT, ExamplesT, NetworkT]):
    """How prompts are tuned for a modality.

    Attributes:
        backbone: The modality's type of backbone.
        datasets: The datasets that such a backbone reads; the first is the usual one.
        encode: Converts examples as read from a file to `Examples`; takes the class names and the settings.
        initial: Creates the initial prompt from the encoded training examples.
        network: Creates the module to tune from the initial prompt, the training examples and the class names.
        measure: The validation metric.
        mask: A mask with the shape of the prompt: 1 for values that are tuned, 0 for values that stay fixed. None
            tunes all values.
        template: The template to store in the card.
    """

    backbone: type[BackboneT]
    datasets: tuple[type[Dataset[RowT]], ...]
    encode: Callable[[BackboneT, Sequence[RowT], tuple[str, ...], TuneSettings], ExamplesT]
    initial: Callable[[BackboneT, ExamplesT, TuneSettings], Tensor]
    network: Callable[[BackboneT, Tensor, ExamplesT, tuple[str, ...], TuneSettings], NetworkT]
    measure: Measure[NetworkT, ExamplesT]
    mask: Callable[[Tensor, TuneSettings], Tensor | None] = tune_everything
    template: Callable[[BackboneT, TuneSettings], str] = given_template

    def require(self, backbone: LoadedBackbone, dataset: Dataset[object]) -> tuple[BackboneT, Dataset[RowT]]:
        """The backbone and the dataset with the types of this modality.

        Raises:
            InputError: The backbone does not read such examples.
        """
        names = [kind.modality for kind in self.datasets]
        if not isinstance(backbone, self.backbone) or not isinstance(dataset, self.datasets):
            raise InputError(
                found=f"{dataset.modality} examples for {backbone.source}, which reads {' and '.join(names)}",
                wanted=f"{names[0]} examples",
                remedy="use other data or another backbone",
            )
        return backbone, dataset

    def encode_training(self, backbone: LoadedBackbone, dataset: Dataset[object], settings: TuneSettings) -> ExamplesT:
        """The training examples, encoded.

        Raises:
            InputError: The backbone does not read such examples, or the prompt leaves no room for one.
        """
        own, rows = self.require(backbone, dataset)
        return self.encode(own, rows.training, rows.labels, settings)

    def initial_prompt(self, backbone: LoadedBackbone, dataset: Dataset[object], settings: TuneSettings) -> Tensor:
        """The prompt that tuning on `dataset` starts from.

        Raises:
            InputError: The backbone does not read such examples, or a setting does not fit them.
        """
        own, _ = self.require(backbone, dataset)
        return self.initial(own, self.encode_training(backbone, dataset, settings), settings)

    def card_template(self, backbone: LoadedBackbone, dataset: Dataset[object], settings: TuneSettings) -> str:
        """The template to store in the card.

        Raises:
            InputError: The settings of the template contradict each other or do not fit the backbone.
        """
        own, _ = self.require(backbone, dataset)
        return self.template(own, settings)

    def tune(
        self,
        backbone: LoadedBackbone,
        dataset: Dataset[object],
        settings: TuneSettings,
        observer: Observer | None = None,
    ) -> Tuned:
        """Tune a prompt on examples that are already in memory.

        Raises:
            InputError: The backbone does not read such examples, or the prompt leaves no room for one.
            TrainingDataError: A class is not among those of the backbone's own head.
        """
        own, rows = self.require(backbone, dataset)
        torch.manual_seed(settings.seed)
        training = self.encode(own, rows.training, rows.labels, settings)
        validation = self.encode(own, rows.validation, rows.labels, settings) if rows.validation else None
        prompt = self.initial(own, training, settings)
        network = self.network(own, prompt, training, rows.labels, settings)
        mask = self.mask(prompt, settings)
        if mask is not None:
            network.prompt.register_hook(lambda gradient: gradient * mask)  # type: ignore[no-untyped-call]
        groups: list[dict[str, object]] = [{"params": [network.prompt], "lr": settings.learning_rate}]
        if network.head is not None:
            groups.append({"params": list(network.head.parameters()), "lr": settings.head_learning_rate})
        outcome = train(network, groups, training, validation, loop_settings(settings), observer, self.measure)
        if validation is None:
            return Tuned(network, outcome, None)
        return Tuned(network, outcome, lambda: self.measure(network, validation, settings.precision))


class AnyRecipe(Protocol):
    """The recipe of any modality; see `Recipe`."""

    @property
    def backbone(self) -> type[LoadedBackbone]:
        """The modality's type of backbone."""

    def require(self, backbone: LoadedBackbone, dataset: Dataset[object]) -> object:
        """See `Recipe.require`."""

    def encode_training(self, backbone: LoadedBackbone, dataset: Dataset[object], settings: TuneSettings) -> Examples:
        """See `Recipe.encode_training`."""

    def initial_prompt(self, backbone: LoadedBackbone, dataset: Dataset[object], settings: TuneSettings) -> Tensor:
        """See `Recipe.initial_prompt`."""

    def card_template(self, backbone: LoadedBackbone, dataset: Dataset[object], settings: TuneSettings) -> str:
        """See `Recipe.card_template`."""

    def tune(
        self,
        backbone: LoadedBackbone,
        dataset: Dataset[object],
        settings: TuneSettings,
        observer: Observer | None = None,
    ) -> Tuned:
        """See `Recipe.tune`."""


def loop_settings(settings: TuneSettings) -> LoopSettings:
    """The settings of the training loop."""
    return LoopSettings(
        settings.epochs,
        settings.batch_size or 1,
        settings.accumulate,
        settings.schedule,
        settings.patience,
        settings.precision,
        settings.seed,
    )
