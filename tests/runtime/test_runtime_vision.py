"""The methods of image backbones and the accepted forms of images; numbers are compared elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edge_prompt.base.errors import InputError, MissingFileError
from edge_prompt_runtime import Runtime
from tests.conftest import AssertClose, MakeImage, MakePrompt


def forms_of(path: Path) -> list[Any]:
    """The same picture in every accepted form."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    array = np.asarray(picture)
    return [path, str(path), path.read_bytes(), picture, array, array.astype(np.float32) / 255]


def test_every_form_of_an_image_is_answered_alike(
    classifier: Runtime, make_image: MakeImage, assert_close: AssertClose
) -> None:
    forms = forms_of(make_image("cat"))
    reference = classifier.embed(forms[0])
    for form in forms:
        assert_close(classifier.embed(form), reference)
        assert classifier.classify(form).label == classifier.classify(forms[0]).label
    for several in (forms, tuple(forms)):
        batch = classifier.embed(several)
        assert batch.shape == (len(forms), 32)
        assert_close(batch, np.stack([reference] * len(forms)))


def test_forms_and_tasks_are_mixed_in_one_batch(
    classifier: Runtime, make_image: MakeImage, make_prompt: MakePrompt, assert_close: AssertClose
) -> None:
    for name, kind in (("soft", "soft"), ("deep", "deep"), ("prefix", "prefix"), ("pixel", "pixel")):
        classifier.load(name, make_prompt(name, kind, classes=2, bundle=classifier.bundle.folder))
    forms, tasks = forms_of(make_image("cat")), ["soft", None, "deep", "pixel", "prefix", "deep"]
    for row, (form, task) in enumerate(zip(forms, tasks, strict=True)):
        assert_close(classifier.embed(forms, tasks)[row], classifier.embed(form, task))
        together = classifier.classify(forms, tasks)[row]
        assert together.scores == pytest.approx(classifier.classify(form, task).scores, abs=1e-4)


def test_objects_are_found_in_every_form_of_an_image(detector: Runtime, make_image: MakeImage) -> None:
    forms = forms_of(make_image("cat", 30, 60))
    reference = detector.detect(forms[0], threshold=0)
    assert len(reference) == 7
    for form, found in zip(forms, detector.detect(forms, threshold=0), strict=True):
        for answer in (found, detector.detect(form, threshold=0)):
            assert [one.label for one in answer] == [one.label for one in reference]
            np.testing.assert_allclose([one.box for one in answer], [one.box for one in reference], atol=1e-2)


def test_pixels_are_labelled_in_every_form_of_an_image(segmenter: Runtime, make_image: MakeImage) -> None:
    forms = forms_of(make_image("cat", 30, 60))
    reference = segmenter.segment(forms[0]).map
    assert reference.shape == (30, 60)
    for form, found in zip(forms, segmenter.segment(forms), strict=True):
        for answer in (found, segmenter.segment(form)):
            assert (answer.map == reference).mean() > 0.99


def test_features_of_images_of_several_sizes_are_those_of_each_alone(
    detector: Runtime, make_image: MakeImage, make_prompt: MakePrompt, assert_close: AssertClose
) -> None:
    detector.load("soft", make_prompt("soft", bundle=detector.bundle.folder))
    paths = [make_image(f"picture_{size}", *size) for size in ((40, 30), (30, 60), (40, 30), (32, 96))]
    tasks = ["soft", "soft", None, None]
    together = detector.embed(paths, tasks)
    for path, task, row in zip(paths, tasks, together, strict=True):
        assert_close(row, detector.embed(path, task))


def test_a_task_and_the_images_of_a_thread_are_its_own(
    detector: Runtime, make_image: MakeImage, make_prompt: MakePrompt
) -> None:
    paths = [make_image(f"picture_{number}", *size) for number, size in enumerate([(40, 30), (30, 60), (32, 32)])]
    for name, kind in (("soft", "soft"), ("deep", "deep")):
        detector.load(name, make_prompt(name, kind, bundle=detector.bundle.folder))
    asked = [(path, task) for path in paths for task in (None, "soft", "deep")]
    alone = [detector.embed(path, task) for path, task in asked]
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda number: detector.embed(*asked[number % len(asked)]), range(36)))
    for number, found in enumerate(answers):
        np.testing.assert_allclose(found, alone[number % len(asked)], atol=1e-5)


def test_folding_in_one_thread_disturbs_no_answer_in_another(
    classifier: Runtime, make_image: MakeImage, make_prompt: MakePrompt
) -> None:
    prompts = [make_prompt(name, "deep", bundle=classifier.bundle.folder) for name in ("a", "b")]
    path = make_image("cat")
    expected = []
    for prompt in prompts:
        classifier.load("task", prompt)
        expected.append(classifier.embed(path, "task"))

    def load_in_turns() -> None:
        for number in range(10):
            classifier.load("task", prompts[number % 2])

    with ThreadPoolExecutor(2) as pool:
        loading = pool.submit(load_in_turns)
        answers = list(pool.map(lambda _: classifier.embed(path, "task"), range(20)))
        loading.result()
    for answer in answers:
        assert min(float(np.abs(answer - wanted).max()) for wanted in expected) < 1e-5


def test_a_text_is_no_image(classifier: Runtime, detector: Runtime) -> None:
    asks: tuple[Callable[..., Any], ...] = (classifier.embed, classifier.classify, detector.detect)
    for ask in asks:
        with pytest.raises(MissingFileError, match="oil prices rose"):
            ask("oil prices rose")
    with pytest.raises(InputError, match=r"the arrays are named \['input_ids'\]; expected pixel_values float32"):
        classifier.infer({"input_ids": np.array([[2, 7, 3]])})


def test_images_have_no_tokens(classifier: Runtime, make_image: MakeImage) -> None:
    with pytest.raises(
        InputError, match="this bundle is for image-classification; expected one for token-classification"
    ):
        classifier.label_tokens(str(make_image("cat")))
