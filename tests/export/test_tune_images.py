"""Tuning on images, from a folder of pictures to the answers of the runtime."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers

from edge_prompt.base.errors import InputError, TrainingDataError, UnsupportedArchitectureError
from edge_prompt.cli import main
from edge_prompt.formats.preprocessing import ImagePreprocessing
from edge_prompt.formats.prompt import read_prompt
from edge_prompt_export import tune_prompt
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.image.augment import AUGMENTATIONS
from edge_prompt_export.modalities.image.data import read_labelled_images
from edge_prompt_export.modalities.image.network import ConditionedVision
from edge_prompt_export.modalities.image.pixel_forms import PIXEL_FORMS
from edge_prompt_export.modalities.registry import read_dataset
from edge_prompt_export.training.settings import TuneSettings
from edge_prompt_export.tune import tune_examples
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.engines.base import ENGINES
from edge_prompt_runtime.inputs.image import prepare_images

KINDS = ("soft", "deep", "prefix", "pixel")
QUICK = TuneSettings(kind="deep", virtual_tokens=3, epochs=2, batch_size=8)


def quick(kind: str, **changes: Any) -> TuneSettings:
    return replace(QUICK, kind=kind, virtual_tokens=None if kind == "pixel" else 3, **changes)


@pytest.fixture
def three_classes(image_folder: Path, written: Callable[[str, str], Path]) -> Path:
    """A table of the pictures with classes of the network's own head; most are labelled `blue` whatever they show."""
    labels = ("blue", "blue", "green", "blue", "red")
    rows = [f"{image.path},{labels[row % 5]}" for row, image in enumerate(read_labelled_images(image_folder))]
    return written("train.csv", "\n".join(["path,label", *rows]))


@pytest.fixture
def without_tokens(tiny_image_backbone: Path, tmp_path: Path) -> Path:
    """The folder of a random network that takes pixel prompts only."""
    folder = tmp_path / "convnext"
    config = transformers.ConvNextConfig(hidden_sizes=[8, 16], depths=[1, 1], num_stages=2, image_size=32)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.ConvNextModel(config).save_pretrained(folder)
    shutil.copy(tiny_image_backbone / "preprocessor_config.json", folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_tuned_prompt_answers_in_the_runtime_as_it_was_measured(
    kind: str, tiny_image_backbone: Path, tiny_image_bundle: Path, image_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "warmth.npy"
    settings = quick(kind)
    tuned = tune_prompt(tiny_image_backbone, image_folder, output, validation_file=image_folder, settings=settings)
    assert tuned.accuracy is not None
    assert tuned.accuracy > 0.95
    assert (tuned.card.kind, tuned.card.labels) == (kind, ("cold", "warm"))
    images = read_labelled_images(image_folder)
    for engine in ENGINES:
        runtime = Runtime(tiny_image_bundle, engine, threads=1)
        runtime.load("warmth", output)
        answers = runtime.classify([image.path for image in images], task="warmth")
        right = sum(answer.label == image.label for answer, image in zip(answers, images, strict=True))
        assert right / len(images) == pytest.approx(tuned.accuracy, abs=1.5 / len(images))  # one may be on the border


@pytest.mark.parametrize("kind", KINDS)
def test_through_the_networks_own_head(
    kind: str, tiny_image_backbone: Path, tiny_image_bundle: Path, three_classes: Path, tmp_path: Path
) -> None:
    """Only the prompt is tuned, so the prompt alone explains the improvement."""
    settings = quick(kind, head="own", epochs=4, learning_rate=0.3)
    output = tmp_path / "own.npy"
    tuned = tune_prompt(tiny_image_backbone, three_classes, output, validation_file=three_classes, settings=settings)
    assert tuned.card.head is None
    assert tuned.card.labels == ("red", "green", "blue")
    images = read_labelled_images(three_classes)
    for engine in ENGINES:
        runtime = Runtime(tiny_image_bundle, engine, threads=1)
        runtime.load("own", output)
        base, own = (runtime.classify([image.path for image in images], task=task) for task in (None, "own"))
        scores = [sum(a.label == i.label for a, i in zip(answers, images, strict=True)) for answers in (base, own)]
        assert scores[1] >= scores[0] + 8
        assert scores[1] / len(images) == pytest.approx(tuned.accuracy, abs=1.5 / len(images))


def test_the_runtime_folds_a_deep_prompt_to_what_was_tuned(
    trained_vision: ConditionedVision,
    tiny_image_backbone: Path,
    tiny_image_bundle: Path,
    image_folder: Path,
    tmp_path: Path,
) -> None:
    output = tmp_path / "warmth.npy"
    tune_prompt(tiny_image_backbone, image_folder, output, settings=replace(QUICK, learning_rate=0.3))
    paths = [image.path for image in read_labelled_images(image_folder)]
    for engine in ENGINES:
        runtime = Runtime(tiny_image_bundle, engine, threads=1)
        runtime.load("warmth", output)
        task = runtime.task("warmth")
        assert task.prompts["prefix"].shape == (2, 2, 1, 4, 3, 8)
        preprocessing = runtime.bundle.manifest.preprocessing
        assert isinstance(preprocessing, ImagePreprocessing)
        assert preprocessing.settings is not None
        pixel_values = torch.from_numpy(prepare_images(paths, preprocessing.settings).pixel_values)
        with torch.no_grad():
            wanted = trained_vision.naive_deep(pixel_values, torch.from_numpy(np.load(output).astype(np.float32)))[
                0
            ].numpy()
        np.testing.assert_allclose(runtime.embed(paths, task="warmth"), wanted, atol=1e-4 * np.abs(wanted).max())


@pytest.mark.parametrize("form", PIXEL_FORMS)
def test_a_pixel_prompt_is_zero_outside_of_its_form(
    form: str, tiny_image_backbone: Path, image_folder: Path, tmp_path: Path
) -> None:
    output = tmp_path / "warmth.npy"
    settings = quick("pixel", pixel_form=form)
    tuned = tune_prompt(tiny_image_backbone, image_folder, output, validation_file=image_folder, settings=settings)
    array, mask = np.load(output), PIXEL_FORMS[form](32, 32).numpy() > 0
    assert tuned.outcome.kept_epoch == 2
    assert array.shape == (3, 32, 32)
    assert np.abs(array[:, ~mask]).sum() == 0
    assert (array[:, mask] != 0).mean() > 0.99


def test_the_card_tells_how_it_was_made(tiny_image_backbone: Path, image_folder: Path, tmp_path: Path) -> None:
    settings = replace(QUICK, augment="move", virtual_tokens=None)
    tuned = tune_prompt(tiny_image_backbone, image_folder, tmp_path / "warmth.npy", settings=settings)
    assert read_prompt(tmp_path / "warmth.npy").card == tuned.card
    assert tuned.card.shape == (2, 16, 32)
    provenance = json.loads(json.dumps(dict(tuned.card.provenance)))
    said = {"kind": "deep", "virtual_tokens": 16, "init": "training-image", "learning_rate": 1e-2, "augment": "move"}
    assert provenance["settings"].items() >= said.items()
    assert provenance["data"]["file"] == image_folder.name
    assert provenance["data"]["examples"] == 40
    assert str(tmp_path.parent) not in json.dumps(provenance)


def test_the_backbone_stays_as_it_was(loaded_vision: LoadedBackbone, image_folder: Path) -> None:
    module = loaded_vision.module
    before = {name: tensor.clone() for name, tensor in module.model.state_dict().items()}
    for kind in KINDS:
        tune_examples(loaded_vision, read_dataset(image_folder, None), quick(kind, epochs=1))
    after = module.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(inner.training for inner in module.modules())
    request = {"pixel_values": torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))}
    found, wanted = module.prompted_outputs(request, "soft", None), module.original_outputs(request)
    assert all(torch.allclose(found[name], wanted[name], atol=1e-4) for name in wanted)


@pytest.mark.parametrize("init", ["training-image", "random"])
def test_the_same_seed_gives_the_same_file(
    init: str, tiny_image_backbone: Path, image_folder: Path, tmp_path: Path
) -> None:
    settings = replace(QUICK, init=init, augment="move-and-mirror", epochs=1)
    for name, seed in (("first", 1), ("second", 1), ("third", 2)):
        tune_prompt(tiny_image_backbone, image_folder, tmp_path / f"{name}.npy", settings=replace(settings, seed=seed))
    first, second, third = ((tmp_path / f"{name}.npy").read_bytes() for name in ("first", "second", "third"))
    assert first == second != third
    assert (tmp_path / "first.head.npz").read_bytes() == (tmp_path / "second.head.npz").read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_in_bf16(kind: str, loaded_vision: LoadedBackbone, image_folder: Path) -> None:
    dataset = read_dataset(image_folder, image_folder)
    _, outcome, _ = tune_examples(loaded_vision, dataset, quick(kind, precision="bf16"))
    assert outcome.accuracies[-1] > 0.95


@pytest.mark.parametrize("augment", AUGMENTATIONS)
def test_with_images_moved(augment: str, loaded_vision: LoadedBackbone, image_folder: Path) -> None:
    dataset = read_dataset(image_folder, image_folder)
    _, outcome, _ = tune_examples(loaded_vision, dataset, replace(QUICK, augment=augment))
    assert outcome.accuracies[-1] > 0.95


def test_texts_are_refused_by_an_image_backbone(tiny_image_backbone: Path, train_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"text examples for .*, which reads image; expected image examples"):
        tune_prompt(tiny_image_backbone, train_file, tmp_path / "x.npy", settings=QUICK)
    assert not list(tmp_path.glob("x*"))


def test_images_are_refused_by_a_text_backbone(tiny_backbone: Path, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"image examples for .*, which reads text; expected text examples"):
        tune_prompt(tiny_backbone, image_folder, tmp_path / "x.npy", settings=replace(QUICK, kind="soft"))
    assert not list(tmp_path.glob("x*"))


@pytest.mark.parametrize("kind", ["soft", "deep", "prefix"])
def test_a_kind_that_the_network_does_not_take_is_refused(
    kind: str, without_tokens: Path, image_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=r"does not dispatch its attention; .*\(--kind pixel\)"):
        tune_prompt(without_tokens, image_folder, tmp_path / "x.npy", settings=quick(kind))
    assert not list(tmp_path.glob("x*"))


def test_a_network_without_virtual_tokens_takes_a_pixel_prompt(
    without_tokens: Path, image_folder: Path, tmp_path: Path
) -> None:
    settings = quick("pixel")
    tuned = tune_prompt(
        without_tokens, image_folder, tmp_path / "x.npy", validation_file=image_folder, settings=settings
    )
    assert tuned.accuracy is not None
    assert tuned.accuracy > 0.95


def test_a_backbone_that_does_not_say_how_images_are_prepared_is_refused(
    tiny_image_backbone: Path, image_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(
        tiny_image_backbone, tmp_path / "bare", ignore=shutil.ignore_patterns("preprocessor_config.json")
    )
    with pytest.raises(InputError, match=r"expected a preprocessor_config\.json with one size"):
        tune_prompt(folder, image_folder, tmp_path / "x.npy", settings=QUICK)


def test_own_labels_must_be_those_of_the_head(tiny_image_backbone: Path, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="red, green, blue"):
        tune_prompt(tiny_image_backbone, image_folder, tmp_path / "x.npy", settings=replace(QUICK, head="own"))


def test_features_have_no_own_head(without_tokens: Path, image_folder: Path, tmp_path: Path) -> None:
    settings = quick("pixel", head="own")
    with pytest.raises(InputError, match="image-feature-extraction"):
        tune_prompt(without_tokens, image_folder, tmp_path / "x.npy", settings=settings)


def test_a_start_for_texts_is_refused(tiny_image_backbone: Path, image_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="for images; expected one of training-image"):
        tune_prompt(tiny_image_backbone, image_folder, tmp_path / "x.npy", settings=replace(QUICK, init="vocabulary"))


def test_a_broken_image_is_named_and_nothing_is_written(
    tiny_image_backbone: Path, image_folder: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(image_folder, tmp_path / "pictures")
    (folder / "warm" / "7.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"warm/7\.png"):
        tune_prompt(tiny_image_backbone, folder, tmp_path / "x.npy", settings=QUICK)
    assert not list(tmp_path.glob("x*"))


def test_the_command_tunes_on_a_folder(
    tiny_image_backbone: Path,
    tiny_image_bundle: Path,
    image_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "warmth.npy"
    options = ["--kind", "deep", "--virtual-tokens", "3", "--epochs", "1", "--augment", "move", "--output", str(output)]
    with pytest.raises(SystemExit) as ended:
        main(["tune", str(tiny_image_backbone), str(image_folder), "--validation", str(image_folder), *options])
    assert ended.value.code == 0
    assert f"{output.stat().st_size:,} bytes, validation accuracy" in capsys.readouterr().out
    card = read_prompt(output).card
    assert card is not None
    assert (card.kind, card.shape, card.labels) == ("deep", (2, 3, 32), ("cold", "warm"))
    runtime = Runtime(tiny_image_bundle, threads=1)
    runtime.load("warmth", output)
    assert runtime.classify(image_folder / "warm" / "0.png", task="warmth").label == "warm"


@pytest.mark.parametrize("option", ["--augment=twirl", "--pixel-form=ring", "--init=nothing", "--kind=hard"])
def test_an_impossible_option_is_a_usage_error(
    option: str, tiny_image_backbone: Path, image_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["tune", str(tiny_image_backbone), str(image_folder), "--output", str(tmp_path / "x.npy"), option])
    assert ended.value.code == 2
    assert option.split("=", maxsplit=1)[0] in capsys.readouterr().err
