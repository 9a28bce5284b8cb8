"""Loading a backbone: a local folder or a hub name becomes a frozen, conditioned module with all its weights."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForMaskedLM,
    AutoModelForSequenceClassification,
    AutoModelForTextEncoding,
    AutoModelForTokenClassification,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedTokenizerBase,
)

from edge_prompt.errors import BackboneError, EdgePromptError, UnsupportedArchitectureError
from edge_prompt.fingerprint import Weight, fingerprint_of
from edge_prompt_export.families.text_encoder import TASK_OUTPUTS, ConditionedTextEncoder
from edge_prompt_export.pooling import POOLINGS
from edge_prompt_export.quiet import quiet
from edge_prompt_export.sentence_transformers import SentenceSettings, read_sentence_settings

logger = logging.getLogger(__name__)

AUTO_CLASSES = {
    "feature-extraction": AutoModel,
    "text-classification": AutoModelForSequenceClassification,
    "token-classification": AutoModelForTokenClassification,
    "fill-mask": AutoModelForMaskedLM,
}

_TASK_OF_HEAD = {"ForSequenceClassification": "text-classification", "ForTokenClassification": "token-classification"}
"""The task of a checkpoint that brings such a head; all others are taken for their features."""

_TOKEN_FALLBACK = 512
"""Where neither tokenizer nor configuration bounds the length of a text."""

_UNBOUNDED = 1_000_000
"""transformers writes a huge number where a tokenizer has no bound."""


@dataclass(frozen=True)
class LoadOptions:
    """How to load from a hub, as transformers spells it.

    Attributes:
        revision: Branch, tag or commit.
        trust_remote_code: Whether code that comes with the checkpoint may run.
        cache_dir: Where downloads are kept.
    """

    revision: str | None = None
    trust_remote_code: bool = False
    cache_dir: str | None = None

    def arguments(self) -> dict[str, Any]:
        """As keyword arguments of `from_pretrained`."""
        return {
            "revision": self.revision or "main",
            "trust_remote_code": self.trust_remote_code,
            "cache_dir": self.cache_dir,
        }


@dataclass(frozen=True)
class LoadedBackbone:
    """A backbone in memory.

    Attributes:
        source: What it was loaded from.
        options: How.
        module: The conditioned module, frozen, in evaluation mode.
        tokenizer: Its tokenizer, or None if it brings none.
        sentence: What a sentence-transformers checkpoint says beyond transformers.
        fingerprint: See `edge_prompt.fingerprint`.
        num_parameters: How many numbers the graph reaches.
    """

    source: str
    options: LoadOptions
    module: ConditionedTextEncoder
    tokenizer: PreTrainedTokenizerBase | None
    sentence: SentenceSettings
    fingerprint: str
    num_parameters: int

    @property
    def config(self) -> PreTrainedConfig:
        """The network's configuration."""
        return self.module.model.config

    @property
    def source_name(self) -> str:
        """A hub name as it is; of a local folder only its own name, since paths say more than a reader needs."""
        return Path(self.source).resolve().name if Path(self.source).is_dir() else self.source

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names of the network's own head; empty if it has none that names classes."""
        if self.module.task not in {"text-classification", "token-classification"}:
            return ()
        return tuple(str(self.config.id2label[index]) for index in sorted(self.config.id2label))

    @property
    def max_positions(self) -> int | None:
        """Positions for prefix, virtual tokens and tokens together; None if the network learned no positions."""
        return self.module.num_positions

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that the backbone takes, special tokens included."""
        bounds = [
            self.sentence.max_tokens,
            self.module.num_positions,
            getattr(self.tokenizer, "model_max_length", None),
        ]
        known = [bound for bound in bounds if bound is not None and bound < _UNBOUNDED]
        return min(known, default=getattr(self.config, "max_position_embeddings", None) or _TOKEN_FALLBACK)


def load_backbone(
    source: str, task: str | None = None, pooling: str | None = None, options: LoadOptions | None = None
) -> LoadedBackbone:
    """Load a text encoder.

    Args:
        source: A local folder, or a name on the hub.
        task: A key of `AUTO_CLASSES`; None takes the head that the checkpoint brings, or its features.
        pooling: `mean` or `cls`; None takes what the checkpoint says, or `mean`.
        options: How to load.

    Raises:
        BackboneError: It cannot be loaded, or the checkpoint lacks weights that the task needs.
        UnsupportedArchitectureError: It takes no embeddings or no padding mask, or does not run on them.
    """
    options = options or LoadOptions()
    _require_place(source)
    with _explained(source), quiet():
        config = AutoConfig.from_pretrained(source, **options.arguments())
        task = task or _task_of(config)
        auto_class = _auto_class(source, task, config)
        model, info = auto_class.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **options.arguments()
        )
    tokenizer = _load_tokenizer(source, options)
    model.eval().requires_grad_(requires_grad=False)
    sentence = read_sentence_settings(source, options.arguments())
    if sentence.left_out:
        logger.warning("%s: embeddings are those before %s", source, ", ".join(sentence.left_out))
    pooling = _pooling(source, pooling or sentence.pooling)
    with _running(type(model).__name__), quiet():
        module = ConditionedTextEncoder(model, task, pooling)
        module.eval()
        reached = reached_weights(module)
    _require_weights(source, task, module, reached, set(info["missing_keys"]))
    return LoadedBackbone(
        source=source,
        options=options,
        module=module,
        tokenizer=tokenizer,
        sentence=sentence,
        fingerprint=fingerprint_of(_weights(reached)),
        num_parameters=sum(weight.numel() for weight in reached.values()),
    )


def _require_place(source: str) -> None:
    """Refuse what is written as a path and leads nowhere: the hub would answer it with a lecture on its names."""
    if not Path(source).is_dir() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise BackboneError(
            found=f"{source}: {'not a folder' if Path(source).exists() else 'no such folder'}",
            wanted="a folder with a network, or its name on the hub",
            remedy="check the path",
        )


def reached_weights(module: ConditionedTextEncoder) -> dict[str, Tensor]:
    """The weights that the module's outputs depend on, and its buffers, by their names in the checkpoint.

    The autograd graph tells: a pooler that is loaded and not used is not in it, so it neither counts nor enters the
    fingerprint.
    """
    parameters = dict(module.model.named_parameters())
    inputs = module.example_inputs(batch=2, sequence=3, virtual_tokens=2, prefix_length=2)
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


def _weights(tensors: dict[str, Tensor]) -> Iterator[Weight]:
    for name, tensor in tensors.items():
        array = tensor.contiguous().cpu()
        content = array.reshape(-1).view(torch.uint8).numpy().data
        yield Weight(name, str(array.dtype).removeprefix("torch."), tuple(array.shape), content)


def _task_of(config: PreTrainedConfig) -> str:
    architecture = next(iter(getattr(config, "architectures", None) or ()), "")
    return next((task for head, task in _TASK_OF_HEAD.items() if architecture.endswith(head)), "feature-extraction")


def _auto_class(source: str, task: str, config: PreTrainedConfig) -> Any:
    if task not in AUTO_CLASSES:
        raise BackboneError(
            found=f"the task {task!r}", wanted=f"one of {', '.join(TASK_OUTPUTS)}", remedy="pass one of them (--task)"
        )
    # T5 saved as an encoder says that it is no encoder-decoder, and AutoModel would load it with a random decoder
    if task == "feature-extraction" and type(config) in AutoModelForTextEncoding._model_mapping:
        return AutoModelForTextEncoding
    if not getattr(config, "is_encoder_decoder", False):
        return AUTO_CLASSES[task]
    raise BackboneError(
        found=f"{source} is an encoder-decoder ({config.model_type})",
        wanted="a text encoder, or an encoder-decoder whose encoder stands alone, for feature-extraction",
        remedy="choose another backbone",
    )


def _pooling(source: str, name: str) -> str:
    if name not in POOLINGS:
        raise BackboneError(
            found=f"{source} pools by {name!r}",
            wanted=f"one of {', '.join(POOLINGS)}",
            remedy="pass one of them (--pooling)",
        )
    return name


def _require_weights(
    source: str, task: str, module: ConditionedTextEncoder, reached: dict[str, Tensor], missing: set[str]
) -> None:
    """Refuse a network whose outputs depend on weights that the checkpoint lacks: they would be random."""
    random = sorted(missing & reached.keys())
    if random:
        raise BackboneError(
            found=f"{source} lacks {len(random)} weights of {type(module.model).__name__} ({', '.join(random[:3])}, …)",
            wanted=f"a checkpoint with all weights for {task}",
            remedy="pass --task feature-extraction, or a checkpoint that was trained for it",
        )


def _load_tokenizer(source: str, options: LoadOptions) -> PreTrainedTokenizerBase | None:
    """The tokenizer of the checkpoint; None if it brings none, which is no error: callers may pass token arrays."""
    folder = Path(source)
    names = (
        "tokenizer.json",
        "tokenizer_config.json",
        "vocab.txt",
        "vocab.json",
        "spiece.model",
        "sentencepiece.bpe.model",
    )
    if folder.is_dir() and not any((folder / name).exists() for name in names):
        return None
    with _explained(source), quiet():
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(source, **options.arguments())
    return tokenizer


@contextmanager
def _explained(source: str) -> Iterator[None]:
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
def _running(architecture: str) -> Iterator[None]:
    """Turn what a network raises when it is first run on embeddings and a mask into one sentence."""
    try:
        yield
    except EdgePromptError:
        raise
    except Exception as error:  # whatever its authors did not provide for
        raise UnsupportedArchitectureError(
            found=f"{architecture} does not run ({type(error).__name__}: {' '.join(str(error).split())[:300]})",
            wanted="a text encoder that runs on embeddings and a padding mask",
            remedy="export another backbone",
        ) from error
