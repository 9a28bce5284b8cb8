"""A backbone in memory: a frozen, conditioned module, how requests become its inputs, and its fingerprint."""

from __future__ import annotations

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
from edge_prompt.formats.preprocessing import Preprocessing, TextPreprocessing
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.base.quiet import quiet

LABELLED_TASKS = frozenset(
    {
        "text-classification",
        "token-classification",
        "image-classification",
        "object-detection",
        "semantic-segmentation",
    }
)
"""Tasks whose networks name the classes of their own head."""


@dataclass(frozen=True)
class LoadOptions:
    """How to load from a hub, as transformers spells it.

    Attributes:
        revision: Branch, tag or commit.
        trust_remote_code: Whether code that comes with the checkpoint may run.
        cache_dir: Where downloads are kept.
        gguf_file: The GGUF file in the folder or repository, if the network is in one.
    """

    revision: str | None = None
    trust_remote_code: bool = False
    cache_dir: str | None = None
    gguf_file: str | None = None

    def arguments(self) -> dict[str, Any]:
        """As keyword arguments of `from_pretrained`."""
        return {
            "revision": self.revision or "main",
            "trust_remote_code": self.trust_remote_code,
            "cache_dir": self.cache_dir,
            **({"gguf_file": self.gguf_file} if self.gguf_file else {}),
        }

    def file_arguments(self) -> dict[str, Any]:
        """As keyword arguments of transformers' `cached_file`."""
        return {"revision": self.revision or "main", "cache_dir": self.cache_dir}


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone in memory.

    Attributes:
        source: What it was loaded from; empty for a module of the user's own.
        options: How.
        module: The conditioned module, frozen, in evaluation mode.
        preprocessing: How a request becomes its inputs.
        tokenizer: Its tokenizer, or None if it brings none.
        fingerprint: See `edge_prompt.formats.fingerprint`.
        num_parameters: How many numbers the graph reaches.
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
        """A hub name as it is; of a local folder or file only its own name: paths say more than a reader needs."""
        if self.options.gguf_file:
            return self.options.gguf_file
        return Path(self.source).resolve().name if self.source and Path(self.source).is_dir() else self.source

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names of the network's own head; empty if it has none that names classes."""
        if self.module.task not in LABELLED_TASKS or self.config is None:
            return ()
        return tuple(str(self.config.id2label[index]) for index in sorted(self.config.id2label))

    @property
    def text(self) -> TextPreprocessing:
        """How a text becomes its inputs.

        Raises:
            BackboneError: It takes no text.
        """
        if not isinstance(self.preprocessing, TextPreprocessing):
            raise BackboneError(
                found=f"{self.source} takes no text", wanted="a text encoder", remedy="choose another backbone"
            )
        return self.preprocessing

    @property
    def max_positions(self) -> int | None:
        """Positions for prefix, virtual tokens and tokens together; None if the network learned no positions."""
        return self.text.max_positions

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that the backbone takes, special tokens included."""
        return self.text.max_tokens


class Checkpoint(NamedTuple):
    """A network as transformers loaded it.

    Attributes:
        module: Conditioned and frozen.
        preprocessing: How a request becomes its inputs.
        tokenizer: Its tokenizer, if it has one.
        missing: Weights of the network that the files lack.
    """

    module: ConditionedModule
    preprocessing: Preprocessing
    tokenizer: PreTrainedTokenizerBase | None
    missing: set[str]


def conditioned_backbone(
    source: str,
    options: LoadOptions,
    module: ConditionedModule,
    preprocessing: Preprocessing,
    tokenizer: PreTrainedTokenizerBase | None,
) -> LoadedBackbone:
    """A conditioned module as a backbone, with the fingerprint of the weights that its outputs depend on."""
    with running(type(module.model).__name__), quiet():
        reached = reached_weights(module)
    return LoadedBackbone(
        source=source,
        options=options,
        module=module,
        preprocessing=preprocessing,
        tokenizer=tokenizer,
        fingerprint=fingerprint_of(weights_of(reached)),
        num_parameters=sum(weight.numel() for weight in reached.values()),
    )


def reached_weights(module: ConditionedModule) -> dict[str, Tensor]:
    """The weights that the module's outputs depend on, and its buffers, by their names in the checkpoint.

    The autograd graph tells: a pooler that is loaded and not used is not in it, so it neither counts nor enters the
    fingerprint.
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
    """Tensors by name as a fingerprint reads them."""
    for name, tensor in tensors.items():
        array = tensor.contiguous().cpu()
        content = array.reshape(-1).view(torch.uint8).numpy().data
        yield Weight(name, str(array.dtype).removeprefix("torch."), tuple(array.shape), content)


def task_of(config: PreTrainedConfig, heads: Mapping[str, str], otherwise: str) -> str:
    """The task of a checkpoint that brings one of `heads` (endings of its architecture's name), or `otherwise`."""
    architecture = next(iter(getattr(config, "architectures", None) or ()), "")
    return next((task for head, task in heads.items() if architecture.endswith(head)), otherwise)


@contextmanager
def explained(source: str) -> Iterator[None]:
    """Turn what transformers raises on a bad checkpoint into one sentence."""
    try:
        yield
    except EdgePromptError:
        raise
    except Exception as error:  # transformers, safetensors, tokenizers and the hub each have their own
        reason = " ".join(str(error).split()) or type(error).__name__
        raise BackboneError(
            found=f"{source} cannot be loaded ({reason[:300]})",
            wanted="a folder or hub name that transformers can load",
            remedy="check the name, the files and the network, and --trust-remote-code if it brings its own code",
        ) from error


@contextmanager
def running(architecture: str) -> Iterator[None]:
    """Turn what a network raises when it is first run on embeddings and a mask into one sentence."""
    try:
        yield
    except EdgePromptError:
        raise
    except Exception as error:  # whatever its authors did not provide for
        raise UnsupportedArchitectureError(
            found=f"{architecture} does not run ({type(error).__name__}: {' '.join(str(error).split())[:300]})",
            wanted="a network that runs on its inputs and prompts",
            remedy="export another backbone",
        ) from error
