"""A backbone in memory: a frozen, conditioned module, its preprocessing, and its fingerprint."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedConfig, PreTrainedTokenizerBase

from edge_prompt.base.errors import BackboneError, EdgePromptError, UnsupportedArchitectureError
from edge_prompt.formats.fingerprint import Weight, fingerprint_of
from edge_prompt.formats.preprocessing import Preprocessing
from edge_prompt.formats.problem_type import PROBLEM_TYPES
from edge_prompt_export.backbone.conditioned_module import ConditionedModule, Tensors
from edge_prompt_export.base.library_output import suppress_library_output

CLASSIFIER_TASKS = frozenset({"text-classification", "image-classification"})
"""The tasks whose head gives one logit per class, which `problem_type` explains."""

LABELLED_TASKS = frozenset(
    {
        "text-classification",
        "token-classification",
        "image-classification",
        "object-detection",
        "semantic-segmentation",
    }
)
"""Tasks whose networks have a head with named classes."""


@dataclass(frozen=True)
class LoadOptions:
    """How to load from a hub, in transformers' terms.

    Attributes:
        revision: Branch, tag or commit.
        trust_remote_code: Whether code from the checkpoint may run.
        cache_dir: Folder for downloads.
        gguf_file: The GGUF file in the folder or repository, if the network is stored as one.
    """

    revision: str | None = None
    trust_remote_code: bool = False
    cache_dir: str | None = None
    gguf_file: str | None = None

    def arguments(self) -> dict[str, Any]:
        """The options as keyword arguments of `from_pretrained`."""
        return {
            "revision": self.revision or "main",
            "trust_remote_code": self.trust_remote_code,
            "cache_dir": self.cache_dir,
            **({"gguf_file": self.gguf_file} if self.gguf_file else {}),
        }

    def file_arguments(self) -> dict[str, Any]:
        """The options as keyword arguments of transformers' `cached_file`."""
        return {"revision": self.revision or "main", "cache_dir": self.cache_dir}


@dataclass(frozen=True)
class LoadedBackbone(ABC):
    """A backbone in memory. Each modality has a subclass that narrows the types of the module and the preprocessing.

    Attributes:
        source: Folder or hub name that it was loaded from; for a module of the user's own, its name.
        options: How it was loaded.
        module: The conditioned module, frozen, in evaluation mode.
        preprocessing: How a request becomes the module's inputs.
        tokenizer: Its tokenizer; None if the checkpoint has none.
        fingerprint: See `edge_prompt.formats.fingerprint`.
        num_parameters: Number of parameters that the outputs depend on.
    """

    source: str
    options: LoadOptions
    module: ConditionedModule
    preprocessing: Preprocessing
    tokenizer: PreTrainedTokenizerBase | None
    fingerprint: str
    num_parameters: int

    @property
    def config(self) -> PreTrainedConfig | None:
        """The network's configuration; None for a module of the user's own."""
        return getattr(self.module.model, "config", None)

    @property
    def source_name(self) -> str:
        """The hub name, or the last part of a local path: whole paths would reveal more than a reader needs."""
        if self.options.gguf_file:
            return self.options.gguf_file
        return Path(self.source).resolve().name if self.source and Path(self.source).is_dir() else self.source

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names of the network's own head; empty if it has no head with named classes."""
        if self.module.task not in LABELLED_TASKS or self.config is None:
            return ()
        return tuple(str(self.config.id2label[index]) for index in sorted(self.config.id2label))

    @property
    def problem_type(self) -> str | None:
        """What the logits of the network's own classifier mean; None leaves it to their number.

        Raises:
            BackboneError: The configuration names a problem type that does not exist.
        """
        if self.module.task not in CLASSIFIER_TASKS or self.config is None:
            return None
        found: str | None = getattr(self.config, "problem_type", None)
        if found not in (None, *PROBLEM_TYPES):
            raise BackboneError(
                found=f"{self.source} has the problem_type {found!r}",
                wanted=f"one of {', '.join(PROBLEM_TYPES)}, or none",
                remedy="correct config.json",
            )
        return found

    @abstractmethod
    def parity_requests(self) -> list[Tensors]:
        """Requests of several sizes, without prompts, to compare a bundle with the network on."""


class Checkpoint(NamedTuple):
    """A network as loaded by transformers.

    Attributes:
        backbone: The network, conditioned and frozen.
        missing: Names of the network's weights that the checkpoint lacks.
    """

    backbone: LoadedBackbone
    missing: set[str]


class Identity(NamedTuple):
    """What identifies the weights that a module's outputs depend on.

    Attributes:
        fingerprint: See `edge_prompt.formats.fingerprint`.
        num_parameters: Their number of parameters.
    """

    fingerprint: str
    num_parameters: int


def identity_of(module: ConditionedModule) -> Identity:
    """Run a conditioned module once, and identify the weights that its outputs depend on."""
    with first_run_errors(type(module.model).__name__), suppress_library_output():
        reached = output_weights(module)
    return identity_of_weights(reached)


def identity_of_weights(weights: Mapping[str, Tensor]) -> Identity:
    """Identify weights by name."""
    return Identity(fingerprint_of(weights_of(weights)), sum(weight.numel() for weight in weights.values()))


def output_weights(module: ConditionedModule) -> dict[str, Tensor]:
    """The weights that the module's outputs depend on, and its buffers, by their names in the checkpoint.

    They are found through the autograd graph. A pooler that is loaded but not used is not in that graph, so it is
    neither counted nor part of the fingerprint.
    """
    parameters = dict(module.model.named_parameters())
    inputs = module.trace_inputs()
    module.model.requires_grad_(requires_grad=True)
    try:
        found = {id(leaf) for output in module(**inputs) for leaf in _leaves(output)}
    finally:
        module.model.requires_grad_(requires_grad=False)
    reached = {name: parameter.detach() for name, parameter in parameters.items() if id(parameter) in found}
    pointers = {parameter.data_ptr() for parameter in parameters.values()}
    state = module.model.state_dict()
    return reached | {n: t for n, t in state.items() if n not in parameters and t.data_ptr() not in pointers}


def _leaves(output: Tensor) -> Iterator[Tensor]:
    """The leaf tensors of the autograd graph that ends in `output`."""
    seen: set[Any] = set()
    stack = [output.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if hasattr(node, "variable"):
            yield node.variable
        stack.extend(following for following, _ in node.next_functions)


def weights_of(tensors: Mapping[str, Tensor]) -> Iterator[Weight]:
    """Convert tensors by name to the form that a fingerprint is computed from."""
    for name, tensor in tensors.items():
        array = tensor.contiguous().cpu()
        content = array.reshape(-1).view(torch.uint8).numpy().data
        yield Weight(name, str(array.dtype).removeprefix("torch."), tuple(array.shape), content)


def task_of(config: PreTrainedConfig, heads: Mapping[str, str], otherwise: str) -> str:
    """The task of the checkpoint's head, looked up by the ending of its architecture's name; else `otherwise`."""
    architecture = next(iter(getattr(config, "architectures", None) or ()), "")
    return next((task for head, task in heads.items() if architecture.endswith(head)), otherwise)


@contextmanager
def loading_errors(source: str) -> Iterator[None]:
    """Convert whatever transformers raises for a bad checkpoint to a `BackboneError`."""
    try:
        yield
    except EdgePromptError:
        raise
    except Exception as error:  # transformers, safetensors, tokenizers and the hub each have their own classes
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BackboneError(
            found=f"{source} cannot be loaded ({reason[:300]})",
            wanted="a folder or hub name that transformers can load",
            remedy="check the name, the files and the network connection, and pass --trust-remote-code if the "
            "checkpoint contains code that you trust",
        ) from error


@contextmanager
def first_run_errors(architecture: str) -> Iterator[None]:
    """Convert whatever a network raises in its first run on conditioned inputs to an `UnsupportedArchitectureError`."""
    try:
        yield
    except EdgePromptError:
        raise
    except Exception as error:  # the network's code may raise anything
        raise UnsupportedArchitectureError(
            found=f"{architecture} does not run ({type(error).__name__}: {' '.join(str(error).split())[:300]})",
            wanted="a network that runs on its inputs and prompts",
            remedy="export another backbone",
        ) from error
