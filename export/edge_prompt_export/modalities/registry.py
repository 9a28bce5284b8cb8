"""The modalities, and what depends on which of them a checkpoint, a backbone or a training file belongs to.

Everything that is specific to a modality is in its folder. Adding one is a folder and an entry of `MODALITIES`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from transformers import AutoConfig

from edge_prompt.base.errors import BackboneError, InputError, MissingFileError
from edge_prompt.formats.preprocessing import modality_of
from edge_prompt_export.backbone.backbone import LoadedBackbone, LoadOptions, loading_errors, output_weights
from edge_prompt_export.backbone.conditioned_module import ConditionedModule
from edge_prompt_export.base.library_output import suppress_library_output
from edge_prompt_export.modalities.image.modality import IMAGE
from edge_prompt_export.modalities.language.modality import LANGUAGE
from edge_prompt_export.modalities.text.modality import TEXT
from edge_prompt_export.training.dataset import Dataset
from edge_prompt_export.training.recipe import AnyRecipe

MODALITIES = (
    LANGUAGE,
    IMAGE,
    TEXT,
)
"""The modalities; the first that accepts a checkpoint or a training file reads it."""

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
    with loading_errors(source), suppress_library_output():
        config = AutoConfig.from_pretrained(source, **options.arguments())
    modality = next(modality for modality in MODALITIES if modality.accepts_checkpoint(config, task, options))
    if task is not None and task not in modality.tasks:
        raise BackboneError(
            found=f"the task {task!r} for {source} ({config.model_type})",
            wanted=f"one of {', '.join(modality.tasks)}",
            remedy="pass one of them (--task)",
        )
    backbone, missing = modality.load(source, config, task, pooling, options)
    _require_weights(source, backbone.module, missing, modality.feature_task)
    return backbone


def recipe_of(backbone: LoadedBackbone) -> AnyRecipe:
    """How prompts are tuned for a backbone.

    Raises:
        InputError: Its modality has no recipe.
    """
    for modality in MODALITIES:
        if isinstance(backbone, modality.recipe.backbone):
            return modality.recipe
    raise InputError(
        found=f"{backbone.source} reads {modality_of(backbone.preprocessing)}",
        wanted=f"a backbone that reads {' or '.join(modality.name for modality in MODALITIES)}",
        remedy="tune its prompts with your own code",
    )


def read_dataset(train_file: Path, validation_file: Path | None) -> Dataset[object]:
    """Read examples for tuning.

    A folder, or a `.csv` file with a field `path`, contains images. A `.jsonl` file with completions is for language
    models. Any other file contains labelled texts.

    Raises:
        MissingFileError: The file or folder does not exist.
        TrainingDataError: The data is malformed, or has only one class.
    """
    if not train_file.exists():
        raise MissingFileError(
            found=f"{train_file}: no such file or folder",
            wanted="a file of examples, or a folder with one subfolder of images per class",
            remedy="check the path",
        )
    modality = next(modality for modality in MODALITIES if modality.accepts_examples(train_file))
    return modality.read_dataset(train_file, validation_file)


def _split_gguf_name(source: str, options: LoadOptions) -> tuple[str, LoadOptions]:
    """Split the name of a GGUF file into its folder or repository and options with the file name."""
    if not source.endswith(GGUF_SUFFIX):
        return source, options
    folder, _, name = source.rpartition("/")
    return folder or ".", replace(options, gguf_file=name)


def _require_folder(source: str) -> None:
    """Refuse a path that is not a folder; the hub would answer with an error about its naming rules."""
    if not Path(source).is_dir() and (source.startswith((".", "/", "~")) or source.count("/") > 1):
        raise BackboneError(
            found=f"{source}: {'not a folder' if Path(source).exists() else 'no such folder'}",
            wanted="the folder of a network, or its name on the hub",
            remedy="check the path",
        )


def _require_weights(source: str, module: ConditionedModule, missing: set[str], feature_task: str) -> None:
    """Refuse a network whose outputs depend on weights that the checkpoint lacks, since these would be random."""
    random = sorted(missing & output_weights(module).keys()) if missing else []
    if random:
        raise BackboneError(
            found=f"{source} lacks {len(random)} weights of {type(module.model).__name__} ({', '.join(random[:3])}, …)",
            wanted=f"a checkpoint with all weights for {module.task}",
            remedy=f"pass --task {feature_task}, or use a checkpoint that was trained for {module.task}",
        )
