"""The runtime on image backbones: without a mask, rows of the same size and prompt length run in one batch."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from edge_prompt.base.errors import InputError
from edge_prompt.untrusted.npy import write_npy
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.answers.results import softmax
from edge_prompt_runtime.reference import TOLERANCE, check_reference
from tests.conftest import AssertClose, MakeImage, MakePrompt

KINDS = ("soft", "deep", "prefix", "pixel")


@pytest.fixture
def tasks(classifier: Runtime, make_prompt: MakePrompt) -> list[str | None]:
    """The base model and prompts of every kind, of several lengths and heads, loaded."""
    for name, kind, length, classes in (
        ("soft", "soft", 3, 2),
        ("soft_again", "soft", 3, 4),
        ("longer", "soft", 5, 2),
        ("deep", "deep", 3, 3),
        ("prefix", "prefix", 3, 5),
        ("pixel", "pixel", 0, 2),
    ):
        path = make_prompt(name, kind, length=length, classes=classes, bundle=classifier.bundle.folder)
        classifier.load(name, path)
    return [None, *classifier.tasks]


@pytest.fixture
def pictures(make_image: MakeImage) -> list[Path]:
    """Pictures of several sizes."""
    return [
        make_image(f"picture_{row}", *size) for row, size in enumerate([(40, 30), (30, 60), (32, 32), (50, 20)] * 2)
    ]


def network_of(bundle: Path) -> tuple[Any, Any]:
    """The network of a bundle as transformers loads it, and its image processor."""
    folder = bundle.with_name(f"{bundle.name}_backbone")
    config = transformers.AutoConfig.from_pretrained(folder)
    family = {"yolos": "Yolos", "segformer": "Segformer", "vit": "ViT"}[config.model_type]
    network = getattr(transformers, config.architectures[0]).from_pretrained(folder).eval()
    module = import_module(f"transformers.models.{config.model_type}.image_processing_pil_{config.model_type}")
    return network, getattr(module, f"{family}ImageProcessorPil").from_pretrained(folder)


def picture_at(path: Path) -> Image.Image:
    with Image.open(path) as picture:
        return picture.convert("RGB")


def answered(bundle: Path, path: Path) -> tuple[Any, Any]:
    """The output of transformers for the picture at `path`, and the image processor."""
    network, processor = network_of(bundle)
    with torch.no_grad():
        return network(**processor(picture_at(path), return_tensors="pt")), processor


def test_a_bundle_of_images_gives_what_torch_gave(classifier: Runtime) -> None:
    figures = check_reference(classifier.bundle, classifier.engine)
    assert figures.keys() == {"base", *KINDS}
    assert max(figures.values()) <= TOLERANCE


def test_images_are_classified_as_transformers_does(
    classifier: Runtime, pictures: list[Path], assert_close: AssertClose
) -> None:
    found = classifier.classify(pictures[:3])
    for path, answer in zip(pictures, found, strict=False):
        wanted = softmax(answered(classifier.bundle.folder, path)[0].logits.numpy())[0]
        assert list(answer.scores) == ["red", "green", "blue"]
        assert_close(np.array(list(answer.scores.values())), wanted)


def test_one_image_gives_one_answer_and_several_a_list(
    classifier: Runtime, pictures: list[Path], assert_close: AssertClose
) -> None:
    batch = classifier.embed(pictures)
    assert (batch.shape, batch.dtype) == ((8, 32), np.dtype(np.float32))
    for path, row in zip(pictures, batch, strict=True):
        assert_close(classifier.embed(path), row)
        assert_close(classifier.embed(path.read_bytes()), row)
    assert classifier.classify(str(pictures[0])).label == classifier.classify(pictures)[0].label


def test_pixel_values_and_pictures_give_the_same(
    classifier: Runtime, pictures: list[Path], assert_close: AssertClose
) -> None:
    _, processor = network_of(classifier.bundle.folder)
    pixels = processor([picture_at(path) for path in pictures], return_tensors="np")["pixel_values"]
    outputs = classifier.infer({"pixel_values": pixels})
    assert {name: array.shape for name, array in outputs.items()} == {"features": (8, 32), "logits": (8, 3)}
    assert_close(outputs["features"], classifier.embed(pictures))


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_changes_the_answer(
    classifier: Runtime, make_prompt: MakePrompt, pictures: list[Path], kind: str
) -> None:
    for name in ("a", "b"):
        classifier.load(name, make_prompt(name, kind, bundle=classifier.bundle.folder))
    base, first, second = (classifier.embed(pictures, task) for task in (None, "a", "b"))
    for one, other in ((base, first), (base, second), (first, second)):
        assert np.abs(one - other).max(axis=1).min() > 0.01


def test_a_mixed_batch_equals_its_rows_alone(
    classifier: Runtime, tasks: list[str | None], pictures: list[Path], assert_close: AssertClose
) -> None:
    rows = [*tasks, "soft"]
    mixed = classifier.embed(pictures, rows)
    for path, task, row in zip(pictures, rows, mixed, strict=True):
        assert_close(row, classifier.embed(path, task))
    answers = classifier.classify(pictures, rows)
    assert [len(answer.scores) for answer in answers] == [3, 2, 4, 2, 3, 5, 2, 2]
    for path, task, answer in zip(pictures, rows, answers, strict=True):
        assert answer.scores == pytest.approx(classifier.classify(path, task).scores, abs=1e-4)


def test_a_mixed_batch_of_arrays_equals_its_rows_alone(
    classifier: Runtime, tasks: list[str | None], assert_close: AssertClose
) -> None:
    pixels = np.random.default_rng(0).standard_normal((len(tasks), 3, 32, 32), dtype=np.float32)
    mixed = classifier.infer({"pixel_values": pixels}, tasks)
    for row, task in enumerate(tasks):
        alone = classifier.infer({"pixel_values": pixels[row : row + 1]}, task)
        for name, array in alone.items():
            assert_close(mixed[name][row], array[0])


def test_tasks_in_eight_threads_never_see_the_numbers_of_each_other(
    classifier: Runtime, tasks: list[str | None], pictures: list[Path]
) -> None:
    alone = [classifier.embed(pictures[:2], task) for task in tasks]
    with ThreadPoolExecutor(8) as pool:
        which = [number % len(tasks) for number in range(56)]
        answers = list(pool.map(lambda index: classifier.embed(pictures[:2], tasks[index]), which))
    for index, found in zip(which, answers, strict=True):
        np.testing.assert_allclose(found, alone[index], atol=1e-5)


def test_a_deep_prompt_without_a_card_is_loaded_by_its_shape(
    classifier: Runtime, make_prompt: MakePrompt, tmp_path: Path, pictures: list[Path], assert_close: AssertClose
) -> None:
    path = make_prompt("deep", "deep", bundle=classifier.bundle.folder)
    classifier.load("carded", path)
    write_npy(tmp_path / "bare.npy", np.load(path))
    classifier.load("bare", tmp_path / "bare.npy")
    assert classifier.task("bare").kind == "deep"
    assert_close(classifier.embed(pictures, "bare"), classifier.embed(pictures, "carded"))


def test_a_pixel_prompt_without_a_card_is_loaded_by_its_shape(classifier: Runtime, tmp_path: Path) -> None:
    write_npy(tmp_path / "x.npy", np.ones((3, 32, 32), np.float32))
    classifier.load("bare", tmp_path / "x.npy")
    assert (classifier.task("bare").kind, classifier.task("bare").virtual_tokens) == ("pixel", 0)


def test_a_folder_of_prompts_of_every_kind_is_loaded(classifier: Runtime, make_prompt: MakePrompt) -> None:
    paths = [make_prompt(f"all_{kind}", kind, bundle=classifier.bundle.folder) for kind in KINDS]
    assert sorted(classifier.load_all(paths[0].parent)) == sorted(f"all_{kind}" for kind in KINDS)


@pytest.mark.parametrize("threshold", [0.0, 0.4])
def test_objects_are_found_where_transformers_finds_them(
    detector: Runtime, pictures: list[Path], threshold: float
) -> None:
    path = pictures[1]
    outputs, processor = answered(detector.bundle.folder, path)
    (wanted,) = processor.post_process_object_detection(outputs, threshold, [(30, 60)])
    found = detector.detect(path, threshold=threshold)
    order = wanted["scores"].argsort(descending=True)
    names = ("red", "green", "blue")
    assert len(found) > 0
    assert [one.label for one in found] == [names[index] for index in wanted["labels"][order]]
    np.testing.assert_allclose([one.score for one in found], wanted["scores"][order], atol=1e-4)
    np.testing.assert_allclose([one.box for one in found], wanted["boxes"][order], atol=1e-2)


def test_objects_in_images_of_several_sizes_and_tasks_are_found_as_alone(
    detector: Runtime, make_prompt: MakePrompt, pictures: list[Path]
) -> None:
    folder = detector.bundle.folder
    detector.load("soft", make_prompt("soft", bundle=folder, labels=("x", "y", "z")))
    detector.load("deep", make_prompt("deep", "deep", bundle=folder))
    rows = [None, "soft", "deep", "soft", None, "soft", "deep", None]
    together = detector.detect(pictures, rows, threshold=0)
    for path, task, found in zip(pictures, rows, together, strict=True):
        alone = detector.detect(path, task, threshold=0)
        assert len(found) == len(alone) == 7
        np.testing.assert_allclose([one.score for one in found], [one.score for one in alone], atol=1e-4)
        assert {one.label for one in found} <= ({"x", "y", "z"} if task == "soft" else {"red", "green", "blue"})


def test_the_own_head_of_a_detector_answers_in_its_own_words_under_a_task_with_a_head(
    detector: Runtime, make_prompt: MakePrompt, pictures: list[Path]
) -> None:
    detector.load("headed", make_prompt("headed", bundle=detector.bundle.folder, classes=2))
    assert {one.label for one in detector.detect(pictures[0], "headed", threshold=0)} <= {"red", "green", "blue"}
    assert set(detector.classify(pictures[0], "headed").scores) == {"headed_0", "headed_1"}


def test_pixels_are_labelled_as_transformers_labels_them(segmenter: Runtime, pictures: list[Path]) -> None:
    for path, found in zip(pictures[:4], segmenter.segment(pictures[:4]), strict=True):
        outputs, processor = answered(segmenter.bundle.folder, path)
        height, width = np.asarray(picture_at(path)).shape[:2]
        (wanted,) = processor.post_process_semantic_segmentation(outputs, [(height, width)])
        assert (found.map.shape, found.labels) == ((height, width), ("red", "green", "blue"))
        assert (found.map == wanted.numpy()).mean() > 0.99  # the others are pixels between two classes
        np.testing.assert_array_equal(segmenter.segment(path).map, found.map)


def test_pixels_under_a_pixel_prompt_are_labelled_otherwise(
    segmenter: Runtime, make_prompt: MakePrompt, pictures: list[Path]
) -> None:
    segmenter.load("a", make_prompt("a", "pixel", bundle=segmenter.bundle.folder, labels=("x", "y", "z")))
    plain, prompted = segmenter.segment([pictures[0]] * 2, [None, "a"])
    assert prompted.labels == ("x", "y", "z")
    assert (plain.map != prompted.map).any()


def test_a_backbone_does_only_what_it_was_exported_for(
    classifier: Runtime, detector: Runtime, segmenter: Runtime, pictures: list[Path]
) -> None:
    for ask, own in ((classifier.detect, "image-classification"), (classifier.segment, "image-classification")):
        with pytest.raises(InputError, match=f"this bundle is for {own}; expected one for"):
            ask(pictures[0])
    for other in (detector, segmenter):
        with pytest.raises(InputError, match="has no head, and the backbone has no classification head"):
            other.classify(pictures[0])


def test_objects_and_pixels_are_of_images_not_of_arrays(detector: Runtime, segmenter: Runtime) -> None:
    asks: tuple[Callable[..., Any], ...] = (detector.detect, segmenter.segment)
    for ask in asks:
        with pytest.raises(InputError, match="called with arrays by name; expected texts or images"):
            ask({"pixel_values": np.zeros((1, 3, 32, 48), np.float32)})


def test_an_empty_batch_of_images_is_refused(classifier: Runtime) -> None:
    for ask in (classifier.embed, classifier.classify):
        with pytest.raises(InputError, match="the request has no rows; expected at least one"):
            ask([])


def test_a_batch_and_a_task_list_of_different_lengths_are_refused(classifier: Runtime, pictures: list[Path]) -> None:
    with pytest.raises(InputError, match="the request has 8 rows and 1 tasks; expected one task per row"):
        classifier.embed(pictures, [None])
