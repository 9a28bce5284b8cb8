"""Which modality a checkpoint is of: a local folder or a hub name becomes a backbone.

What is read of a checkpoint besides its weights is in its modality's own `checkpoint` module.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import AutoConfig, AutoModel, PreTrainedConfig

from edge_prompt.base.errors import BackboneError
from edge_prompt_export.backbone.backbone import (
    LoadedBackbone,
    LoadOptions,
    conditioned_backbone,
    explained,
    reached_weights,
    task_of,
)
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.base.quiet import quiet
from edge_prompt_export.modalities.image import checkpoint as image
from edge_prompt_export.modalities.language import checkpoint as language
from edge_prompt_export.modalities.text import checkpoint as text

GGUF_SUFFIX = ".gguf"


def load_backbone(
    source: str, task: str | None = None, pooling: str | None = None, options: LoadOptions | None = None
) -> LoadedBackbone:
    """Load a text encoder, a causal language model or an image backbone.

    Args:
        source: A local folder, or a name on the hub; of a GGUF file its path, or `owner/name/file.gguf` on the hub.
        task: What the network does, in transformers' terms; None takes the head that the checkpoint brings, or its
            features.
        pooling: From token vectors to a feature; None takes what the checkpoint says, or what suits the network.
        options: How to load.

    Raises:
        BackboneError: It cannot be loaded, or the checkpoint lacks weights that the task needs.
        UnsupportedArchitectureError: It takes no prompt, or does not run.
    """
    source, options = _without_file(source, options or LoadOptions())
    _require_place(source)
    with explained(source), quiet():
        config = AutoConfig.from_pretrained(source, **options.arguments())
    if generates_text(config, task, options):
        modality = language
    else:
        asked = task or task_of(config, text.TASK_OF_HEAD | image.TASK_OF_HEAD, "")
        _require_one_side(source, config, asked)
        modality = image if takes_images(config, asked in image.AUTO_CLASSES) else text
    if task is not None and task not in modality.AUTO_CLASSES:
        raise BackboneError(
            found=f"the task {task!r} for {source} ({config.model_type})",
            wanted=f"one of {', '.join(modality.AUTO_CLASSES)}",
            remedy="pass one of them (--task)",
        )
    loaded = modality.load(source, config, task, pooling, options)
    backbone = conditioned_backbone(source, options, loaded.module, loaded.preprocessing, loaded.tokenizer)
    _require_weights(source, loaded.module, loaded.missing)
    return backbone


def takes_images(config: PreTrainedConfig, image_task: bool) -> bool:  # noqa: FBT001 - what `--task` says
    """Whether the network of this configuration takes images; one that takes both takes what the task asks for."""
    if getattr(config, "vision_config", None) is not None:
        return image_task or getattr(config, "text_config", None) is None
    network = AutoModel._model_mapping.get(type(config), None)
    network = network[0] if isinstance(network, tuple) else network
    return getattr(network, "main_input_name", "") == "pixel_values"


def generates_text(config: PreTrainedConfig, task: str | None, options: LoadOptions) -> bool:
    """Whether the network is taken as a causal language model: if the task says so, or the checkpoint and no task."""
    if task is not None:
        return task == "text-generation"
    architecture = next(iter(getattr(config, "architectures", None) or ()), "")
    return options.gguf_file is not None or architecture.endswith(("ForCausalLM", "LMHeadModel"))


def _without_file(source: str, options: LoadOptions) -> tuple[str, LoadOptions]:
    """The folder or repository of a GGUF file, and options that name the file; anything else as it came."""
    if not source.endswith(GGUF_SUFFIX):
        return source, options
    folder, _, name = source.rpartition("/")
    return folder or ".", replace(options, gguf_file=name)


def _require_one_side(source: str, config: PreTrainedConfig, asked: str) -> None:
    """Refuse a network for images and texts of which neither a task nor a head says which of both is meant."""
    if not asked and all(getattr(config, f"{side}_config", None) is not None for side in ("vision", "text")):
        raise BackboneError(
            found=f"{source} ({config.model_type}) takes images and texts, and no task says which are meant",
            wanted="a task of either",
            remedy="pass --task image-feature-extraction for its vision tower, or a task of texts",
        )


def _require_place(source: str) -> None:
    """Refuse what is written as a path and leads nowhere: the hub would answer it with a lecture on its names."""
    if not Path(source).is_dir() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise BackboneError(
            found=f"{source}: {'not a folder' if Path(source).exists() else 'no such folder'}",
            wanted="a folder with a network, or its name on the hub",
            remedy="check the path",
        )


def _require_weights(source: str, module: ConditionedModule, missing: set[str]) -> None:
    """Refuse a network whose outputs depend on weights that the checkpoint lacks: they would be random."""
    random = sorted(missing & reached_weights(module).keys()) if missing else []
    if random:
        features = "image-feature-extraction" if "pixel_values" in module.input_names else "feature-extraction"
        raise BackboneError(
            found=f"{source} lacks {len(random)} weights of {type(module.model).__name__} ({', '.join(random[:3])}, …)",
            wanted=f"a checkpoint with all weights for {module.task}",
            remedy=f"pass --task {features}, or a checkpoint that was trained for it",
        )
