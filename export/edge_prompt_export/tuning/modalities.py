"""What tuning needs of each modality: examples as batches, and where a prompt starts. Dispatched by table."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from edge_prompt.errors import InputError, MissingFileError
from edge_prompt.files import sha256_of
from edge_prompt.preprocessing import ImagePreprocessing
from edge_prompt_export.families.text_encoder import ConditionedTextEncoder
from edge_prompt_export.families.vision import ConditionedVision
from edge_prompt_export.loading import LoadedBackbone
from edge_prompt_export.tuning.batches import TextRows, tokenise
from edge_prompt_export.tuning.data import Example, labels_of, read_examples, require_known_labels
from edge_prompt_export.tuning.examples import Examples
from edge_prompt_export.tuning.image_batches import ImageRows
from edge_prompt_export.tuning.image_data import read_labelled_images
from edge_prompt_export.tuning.initialise import prompt_of_tokens, token_source
from edge_prompt_export.tuning.initialise_images import prompt_of_images
from edge_prompt_export.tuning.settings import TuneSettings


@dataclass(frozen=True)
class Labelled:
    """Labelled examples as they were read.

    Attributes:
        modality: `text` or `image`.
        training: To train on: `Example` or `LabelledImage`, or anything with a `label` and what the modality reads.
        held: To validate on; empty for none.
        labels: The class names, sorted.
        path: Where they were read from, or None.
    """

    modality: str
    training: Sequence[Any]
    held: Sequence[Any]
    labels: tuple[str, ...]
    path: Path | None = None

    def require(self, modality: str, backbone: LoadedBackbone) -> str:
        """The modality, if it is the backbone's.

        Raises:
            InputError: It is not.
        """
        if self.modality != modality:
            raise InputError(
                found=f"{self.modality} examples for {backbone.source}, which reads {modality}",
                wanted=f"{modality} examples",
                remedy="pass other data, or another backbone",
            )
        return modality

    def described(self) -> dict[str, object]:
        """What a card says of them."""
        digest = sha256_of(self.path) if self.path is not None and self.path.is_file() else None
        return {
            "file": None if self.path is None else self.path.name,
            "sha256": digest,
            "examples": len(self.training),
            "validation_examples": len(self.held),
        }


def read_labelled(train_file: Path, validation_file: Path | None) -> Labelled:
    """Read labelled texts or images; a folder, or a `.csv` with a field `path`, is of images.

    Raises:
        MissingFileError: There is no such file or folder.
        TrainingDataError: The data is malformed, or has one class.
    """
    if not train_file.exists():
        raise MissingFileError(
            found=f"{train_file}: no such file or folder",
            wanted="a file of examples, or a folder that holds a folder of images a class",
            remedy="check the path",
        )
    modality = "image" if _is_of_images(train_file) else "text"
    read = READERS[modality]
    training = read(train_file)
    labels = labels_of(training, train_file)
    held = [] if validation_file is None else read(validation_file)
    if validation_file is not None:
        require_known_labels(held, labels, validation_file)
    return Labelled(modality, training, held, labels, train_file)


def _is_of_images(path: Path) -> bool:
    if path.is_dir():
        return True
    if path.suffix.lower() != ".csv" or not path.is_file():
        return False
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as stream:
        return "path" in next(csv.reader([stream.readline(1 << 16)]), [])


READERS: dict[str, Callable[[Path], Sequence[Any]]] = {"text": read_examples, "image": read_labelled_images}


class Modality(NamedTuple):
    """What tuning needs of a modality.

    Attributes:
        examples: From what was read to batches.
        initial: The prompt that tuning starts from.
    """

    examples: Callable[[LoadedBackbone, Sequence[Any], tuple[str, ...], TuneSettings], Examples]
    initial: Callable[[LoadedBackbone, Any, TuneSettings], Tensor]


def text_rows(
    backbone: LoadedBackbone, examples: Sequence[Example], labels: tuple[str, ...], settings: TuneSettings
) -> TextRows:
    """Texts, tokenised in the template and cut to what fits beside the prompt.

    Raises:
        InputError: The backbone has no tokenizer, or the prompt leaves no room for a text.
    """
    if backbone.tokenizer is None:
        raise InputError(
            found=f"{backbone.source} has no tokenizer", wanted="one", remedy="put its files into the folder"
        )
    max_tokens = _max_tokens(backbone, settings.max_tokens, settings.virtual_tokens or 0)
    rows = tokenise(examples, labels, backbone.tokenizer, settings.template, max_tokens)
    takes_types = "token_type_ids" in backbone.module.input_names
    return TextRows(rows, backbone.text.pad_token_id, takes_types=takes_types)


def _prompt_for_texts(backbone: LoadedBackbone, training: TextRows, settings: TuneSettings) -> Tensor:
    module = backbone.module
    assert isinstance(module, ConditionedTextEncoder)  # noqa: S101 - chosen by its modality
    ids = token_source(
        settings.init or "", settings.init_text, backbone, training.rows, settings.virtual_tokens or 0, settings.seed
    )
    return prompt_of_tokens(settings.kind, module, ids)


def image_rows(
    backbone: LoadedBackbone, examples: Sequence[tuple[Any, str]], labels: tuple[str, ...], settings: TuneSettings
) -> ImageRows:
    """Images and their labels, prepared as the device prepares them.

    Raises:
        InputError: The backbone does not say how images are prepared, or they would vary in size.
    """
    preprocessing = backbone.preprocessing
    assert isinstance(preprocessing, ImagePreprocessing)  # noqa: S101 - chosen by its modality
    if preprocessing.settings is None or preprocessing.height is None:
        raise InputError(
            found=f"{backbone.source} does not bring images to one size",
            wanted="a preprocessor_config.json with one size",
            remedy="add it, or set a size there",
        )
    index = {label: number for number, label in enumerate(labels)}
    return ImageRows(
        [example[0] for example in examples],
        [index[example[1]] for example in examples],
        preprocessing.settings,
        settings.augment,
        settings.seed,
    )


def _prompt_for_images(backbone: LoadedBackbone, training: ImageRows, settings: TuneSettings) -> Tensor:
    module = backbone.module
    assert isinstance(module, ConditionedVision)  # noqa: S101 - chosen by its modality
    return prompt_of_images(
        settings.kind, settings.init or "", module, training, settings.virtual_tokens or 0, settings.seed
    )


MODALITIES = {
    "text": Modality(text_rows, _prompt_for_texts),
    "image": Modality(image_rows, _prompt_for_images),
}


def _max_tokens(backbone: LoadedBackbone, asked: int | None, virtual_tokens: int) -> int:
    room = backbone.max_tokens
    if backbone.max_positions is not None:
        room = min(room, backbone.max_positions - virtual_tokens)
    wanted = room if asked is None else asked
    if wanted > room or room < 3:
        raise InputError(
            found=f"{wanted} tokens of a text beside {virtual_tokens} virtual tokens",
            wanted=f"at most {max(room, 0)}",
            remedy="pass smaller --max-tokens or --virtual-tokens",
        )
    return wanted
