"""Load a backbone from a local folder or the hub, with the modality that its configuration belongs to.

The `checkpoint` module of each modality reads everything in a checkpoint that is specific to that modality.
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
        source: A local folder, or a name on the hub; for a GGUF file its path, or `owner/name/file.gguf` on the hub.
        task: The task that the network is loaded for, in transformers' terms; None uses that of the checkpoint's head,
            or feature extraction.
        pooling: How token vectors are pooled into the feature vector; None uses the checkpoint's setting, or one that
            suits the architecture.
        options: How to load from a hub.

    Raises:
        BackboneError: The backbone cannot be loaded, or the checkpoint lacks weights that the task needs.
        UnsupportedArchitectureError: The backbone takes no prompt, or does not run.
    """
    source, options = _split_gguf_name(source, options or LoadOptions())
    _require_folder(source)
    with explained(source), quiet():
        config = AutoConfig.from_pretrained(source, **options.arguments())
    if generates_text(config, task, options):
        modality = language
    else:
        asked = task or task_of(config, text.TASK_OF_HEAD | image.TASK_OF_HEAD, "")
        _require_modality(source, config, asked)
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


def takes_images(config: PreTrainedConfig, image_task: bool) -> bool:  # noqa: FBT001 - from `--task`
    """Whether the network takes images; for a network that takes images and texts, the task decides."""
    if getattr(config, "vision_config", None) is not None:
        return image_task or getattr(config, "text_config", None) is None
    network = AutoModel._model_mapping.get(type(config), None)
    network = network[0] if isinstance(network, tuple) else network
    return getattr(network, "main_input_name", "") == "pixel_values"


def generates_text(config: PreTrainedConfig, task: str | None, options: LoadOptions) -> bool:
    """Whether to load the network as a causal language model: decided by the task, or by the checkpoint without one."""
    if task is not None:
        return task == "text-generation"
    architecture = next(iter(getattr(config, "architectures", None) or ()), "")
    return options.gguf_file is not None or architecture.endswith(("ForCausalLM", "LMHeadModel"))


def _split_gguf_name(source: str, options: LoadOptions) -> tuple[str, LoadOptions]:
    """Split the name of a GGUF file into its folder or repository and options with the file name."""
    if not source.endswith(GGUF_SUFFIX):
        return source, options
    folder, _, name = source.rpartition("/")
    return folder or ".", replace(options, gguf_file=name)


def _require_modality(source: str, config: PreTrainedConfig, asked: str) -> None:
    """Refuse a network for images and texts if neither the task nor a head determines which of them to load."""
    if not asked and all(getattr(config, f"{side}_config", None) is not None for side in ("vision", "text")):
        raise BackboneError(
            found=f"{source} ({config.model_type}) takes images and texts, and no task selects one of them",
            wanted="a task for one of them",
            remedy="pass --task image-feature-extraction for its vision tower, or a text task for its text tower",
        )


def _require_folder(source: str) -> None:
    """Refuse a path that is not a folder; the hub would answer with an error about its naming rules."""
    if not Path(source).is_dir() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise BackboneError(
            found=f"{source}: {'not a folder' if Path(source).exists() else 'no such folder'}",
            wanted="the folder of a network, or its name on the hub",
            remedy="check the path",
        )


def _require_weights(source: str, module: ConditionedModule, missing: set[str]) -> None:
    """Refuse a network whose outputs depend on weights that the checkpoint lacks, since these would be random."""
    random = sorted(missing & reached_weights(module).keys()) if missing else []
    if random:
        features = "image-feature-extraction" if "pixel_values" in module.input_names else "feature-extraction"
        raise BackboneError(
            found=f"{source} lacks {len(random)} weights of {type(module.model).__name__} ({', '.join(random[:3])}, …)",
            wanted=f"a checkpoint with all weights for {module.task}",
            remedy=f"pass --task {features}, or use a checkpoint that was trained for {module.task}",
        )
