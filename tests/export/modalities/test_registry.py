from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from edge_prompt.base.errors import InputError, MissingFileError, TrainingDataError
from edge_prompt_export.modalities.image.backbone import ImageBackbone
from edge_prompt_export.modalities.image.data import LabelledImage, read_labelled_images
from edge_prompt_export.modalities.image.recipe import encode_images
from edge_prompt_export.modalities.registry import read_dataset
from edge_prompt_export.modalities.text.backbone import TextBackbone
from edge_prompt_export.modalities.text.dataset import TextDataset
from edge_prompt_export.modalities.text.recipe import encode_texts
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.settings import TuneSettings

Written = Callable[[str, str], Path]


def test_a_folder_is_of_images(image_folder: Path) -> None:
    dataset = read_dataset(image_folder, image_folder)
    assert (dataset.modality, dataset.labels) == ("image", ("cold", "warm"))
    assert len(dataset.training) == len(dataset.validation) == 40
    assert dataset.training[0] == LabelledImage(image_folder / "cold" / "0.png", "cold")


def test_a_table_is_of_images_if_it_has_paths(image_folder: Path, written: Written) -> None:
    first, second = image_folder / "cold" / "0.png", image_folder / "warm" / "0.png"
    dataset = read_dataset(written("train.csv", f"\ufefflabel,path\na,{first}\nb,{second}\n"), None)
    assert dataset.modality == "image"
    assert dataset.training == [LabelledImage(first, "a"), LabelledImage(second, "b")]
    assert len(dataset.validation) == 0


def test_other_files_are_of_texts(written: Written) -> None:
    wanted = [Example("w1", "a"), Example("w2", "b")]
    for name, content in (
        ("train.csv", "text,label\nw1,a\nw2,b\n"),
        ("train.tsv", "text\tlabel\tpath\nw1\ta\tx\nw2\tb\tx\n"),
        ("train.jsonl", '{"text": "w1", "label": "a"}\n{"text": "w2", "label": "b", "path": "x"}\n'),
    ):
        dataset = read_dataset(written(name, content), None)
        assert (dataset.modality, dataset.training, dataset.labels) == ("text", wanted, ("a", "b"))


@pytest.mark.parametrize("name", ["pictures", "train.csv", "train.jsonl"])
def test_what_is_not_there_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file or folder"):
        read_dataset(tmp_path / name, None)


def test_validation_that_is_not_there_is_refused(image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="no such file or folder"):
        read_dataset(image_folder, tmp_path / "pictures")


def test_one_class_is_refused(image_folder: Path, written: Written) -> None:
    path = written("train.csv", f"path,label\n{image_folder / 'cold' / '0.png'},a\n")
    with pytest.raises(TrainingDataError, match="one class, 'a'"):
        read_dataset(path, None)


def test_a_folder_of_one_class_is_refused(image_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "cold").symlink_to(image_folder / "cold")
    with pytest.raises(TrainingDataError, match="one class, 'cold'"):
        read_dataset(tmp_path / "data", None)


def test_a_class_that_only_validation_has_is_refused(image_folder: Path, written: Written) -> None:
    validation = written("validation.csv", f"path,label\n{image_folder / 'cold' / '0.png'},hot\n")
    with pytest.raises(TrainingDataError, match="'hot'"):
        read_dataset(image_folder, validation)


def test_validation_of_the_other_modality_is_refused(image_folder: Path, train_file: Path) -> None:
    for training, validation in ((image_folder, train_file), (train_file, image_folder)):
        with pytest.raises(TrainingDataError):
            read_dataset(training, validation)


def test_a_card_describes_a_file_by_its_digest_and_a_folder_by_its_name(image_folder: Path, train_file: Path) -> None:
    digest = sha256(train_file.read_bytes()).hexdigest()
    assert read_dataset(train_file, train_file).provenance() == {
        "file": "train.jsonl",
        "sha256": digest,
        "examples": 120,
        "validation_examples": 120,
    }
    assert read_dataset(image_folder, None).provenance() == {
        "file": image_folder.name,
        "sha256": None,
        "examples": 40,
        "validation_examples": 0,
    }
    assert TextDataset([Example("w1", "a")], [], ("a",)).provenance()["file"] is None


def test_a_backbone_without_a_tokenizer_reads_no_texts(loaded: TextBackbone, examples: list[Example]) -> None:
    settings = TuneSettings().complete("text")
    with pytest.raises(InputError, match="no tokenizer"):
        encode_texts(replace(loaded, tokenizer=None), examples, ("blue", "red"), settings)


def test_images_that_vary_in_size_are_refused(loaded_vision: ImageBackbone, image_folder: Path) -> None:
    varying = replace(loaded_vision, preprocessing=replace(loaded_vision.preprocessing, height=None, width=None))
    images, settings = read_labelled_images(image_folder), TuneSettings().complete("image")
    with pytest.raises(InputError, match="does not resize images to one size"):
        encode_images(varying, images, ("cold", "warm"), settings)
