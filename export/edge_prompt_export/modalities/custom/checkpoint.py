"""Use a module of the user's own as a backbone; nothing is loaded, and its current weights are used."""

from __future__ import annotations

import itertools

from torch import nn

from edge_prompt_export.backbone.backbone import LoadOptions, first_run_errors, identity_of, identity_of_weights
from edge_prompt_export.modalities.custom.backbone import CustomBackbone
from edge_prompt_export.modalities.custom.network import ConditionedCustom, ModuleDescription


def load_module(model: nn.Module, description: ModuleDescription) -> CustomBackbone:
    """Condition a module of the user's own; see `ConditionedCustom`.

    The fingerprint covers all weights of the module, because its forward method may hide dependencies from autograd
    (with `torch.no_grad` around a frozen part).

    Raises:
        InputError: The description does not fit the module.
        UnsupportedArchitectureError: The module does not run on the described inputs.
    """
    name = description.name or type(model).__name__
    with first_run_errors(name):
        module = ConditionedCustom(model, description)
        module.eval()
    identity_of(module)  # runs it once, so that a module that autograd cannot follow is refused here
    weights = dict(itertools.chain(model.named_parameters(), model.named_buffers()))
    identity = identity_of_weights(weights)
    return CustomBackbone(name, LoadOptions(), module, module.preprocessing(), None, *identity)
