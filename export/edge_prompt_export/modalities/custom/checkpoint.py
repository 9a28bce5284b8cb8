"""Use a module of the user's own as a backbone; nothing is loaded, and its current weights are used."""

from __future__ import annotations

import itertools
from dataclasses import replace

from torch import nn

from edge_prompt.formats.fingerprint import fingerprint_of
from edge_prompt_export.backbone.backbone import LoadedBackbone, LoadOptions, conditioned_backbone, running, weights_of
from edge_prompt_export.modalities.custom.network import ConditionedCustom, ModuleDescription


def load_module(model: nn.Module, description: ModuleDescription) -> LoadedBackbone:
    """Condition a module of the user's own; see `ConditionedCustom`.

    The fingerprint covers all weights of the module, because its forward method may hide dependencies from autograd
    (with `torch.no_grad` around a frozen part).

    Raises:
        InputError: The description does not fit the module.
        UnsupportedArchitectureError: The module does not run on the described inputs.
    """
    name = description.name or type(model).__name__
    with running(name):
        module = ConditionedCustom(model, description)
        module.eval()
    backbone = conditioned_backbone(name, LoadOptions(), module, module.preprocessing(), None)
    weights = dict(itertools.chain(model.named_parameters(), model.named_buffers()))
    return replace(
        backbone,
        fingerprint=fingerprint_of(weights_of(weights)),
        num_parameters=sum(weight.numel() for weight in weights.values()),
    )
