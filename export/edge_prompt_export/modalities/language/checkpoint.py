"""Load a causal language model from a folder, the hub, or a GGUF file that transformers supports."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM, PreTrainedConfig

from edge_prompt.base.errors import BackboneError
from edge_prompt.formats.preprocessing import LanguagePreprocessing
from edge_prompt_export.backbone.backbone import Checkpoint, LoadOptions, first_run_errors, identity_of, loading_errors
from edge_prompt_export.base.library_output import suppress_library_output
from edge_prompt_export.modalities.language.backbone import LanguageBackbone
from edge_prompt_export.modalities.language.network import ConditionedCausalLM
from edge_prompt_export.modalities.text.checkpoint import load_tokenizer

AUTO_CLASSES = {"text-generation": AutoModelForCausalLM}

_EXPERTS = "batched_mm"
"""How a mixture of experts is computed: the only implementation in transformers that both converters support. It
gathers the weights of each token's experts, which decoding reads anyway, but long requests need more memory."""


def accepts_checkpoint(config: PreTrainedConfig, task: str | None, options: LoadOptions) -> bool:
    """Whether to load the network as a causal language model: decided by the task, or by the checkpoint without one."""
    if task is not None:
        return task in AUTO_CLASSES
    architecture = next(iter(config.architectures or ()), "")
    return options.gguf_file is not None or architecture.endswith(("ForCausalLM", "LMHeadModel"))


def load(
    source: str, config: PreTrainedConfig, task: str | None, pooling: str | None, options: LoadOptions
) -> Checkpoint:
    """Load a causal language model; see `load_backbone`."""
    if pooling is not None:
        raise BackboneError(
            found=f"pooling by {pooling!r} for {task or 'text-generation'}",
            wanted="no pooling, since a language model returns logits",
            remedy="leave --pooling out",
        )
    with loading_errors(source), suppress_library_output():
        model, info = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True, **options.arguments()
        )
    model.set_experts_implementation(_EXPERTS)
    model.eval().requires_grad_(requires_grad=False)
    tokenizer = load_tokenizer(source, options)
    with first_run_errors(type(model).__name__), suppress_library_output():
        module = ConditionedCausalLM(model)
        module.eval()
    preprocessing = LanguagePreprocessing(
        max_positions=module.max_positions,
        vocab_size=int(module.embedding.weight.shape[0]),
    )
    backbone = LanguageBackbone(source, options, module, preprocessing, tokenizer, *identity_of(module))
    return Checkpoint(backbone, set(info["missing_keys"]))
