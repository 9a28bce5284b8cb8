from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_prompt import Bundle, Head, read_bundle, write_prompt
from edge_prompt.base.errors import (
    CardError,
    FingerprintError,
    HeadError,
    MissingFileError,
    PromptKindError,
    PromptShapeError,
    UnknownEngineError,
)
from edge_prompt.formats.manifest import EncoderManifest
from edge_prompt.formats.preprocessing import ImagePreprocessing, TextPreprocessing
from edge_prompt.untrusted.npy import write_npy
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
from edge_prompt_runtime.tasks.task import BATCH_AXES, Task, as_inputs, base_task, load_task
from tests.conftest import MakePrompt


def load(bundle: Bundle, path: Path, kind: str | None = None) -> Task:
    return load_task("x", path, kind, bundle, base_task(bundle.manifest), DeepPromptFolder(bundle, "onnxruntime"))


def with_kinds(bundle: Bundle, **kinds: tuple[int | None, ...]) -> Bundle:
    return replace(bundle, manifest=replace(bundle.manifest, kinds=kinds))


def test_the_base_model_has_prompts_of_length_0(bundle: Bundle) -> None:
    base = base_task(bundle.manifest)
    assert {name: array.shape for name, array in base.prompts.items()} == {
        "soft_prompt": (1, 0, 32),
        "prefix": (2, 2, 1, 4, 0, 8),
    }
    assert (base.virtual_tokens, base.head, base.max_tokens) == (0, None, 48)


def test_the_pixel_prompt_of_the_base_model_is_of_zeros(bundle: Bundle) -> None:
    base = base_task(with_kinds(bundle, pixel=(3, 8, 6)).manifest)
    assert list(base.prompts) == ["pixel_prompt"]
    np.testing.assert_array_equal(base.prompts["pixel_prompt"], np.zeros((1, 3, 8, 6), np.float32), strict=True)
    assert base.virtual_tokens == 0


def test_the_base_model_has_no_prompt_of_a_kind_that_the_bundle_does_not_take(bundle: Bundle) -> None:
    base = base_task(with_kinds(bundle, soft=(None, 32)).manifest)
    assert list(base.prompts) == ["soft_prompt"]
    assert base.length("prefix") == 0
    assert base_task(with_kinds(bundle).manifest).prompts == {}


def test_a_backbone_that_takes_no_text_has_no_room_for_it(bundle: Bundle, tmp_path: Path) -> None:
    assert isinstance(bundle.manifest, EncoderManifest)
    image = ImagePreprocessing(3, 8, 6, None, "cls", normalize=False)
    images = replace(bundle, manifest=replace(bundle.manifest, preprocessing=image))
    assert base_task(images.manifest).max_tokens == 0
    write_npy(tmp_path / "x.npy", np.ones((500, 32), np.float32))
    task = load(images, tmp_path / "x.npy")
    assert (task.max_tokens, task.virtual_tokens) == (0, 500)


def test_a_kind_that_the_bundle_does_not_take_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    write_npy(tmp_path / "x.npy", np.ones((2, 5, 32), np.float32))
    with pytest.raises(PromptKindError, match="expected one of soft, prefix"):
        load(bundle, tmp_path / "x.npy", "deep")


def test_a_pixel_prompt_gets_the_dimension_of_the_batch(bundle: Bundle, tmp_path: Path) -> None:
    array = np.arange(3 * 8 * 6, dtype=np.float32).reshape(3, 8, 6)
    write_npy(tmp_path / "x.npy", array)
    task = load(with_kinds(bundle, soft=(None, 32), pixel=(3, 8, 6)), tmp_path / "x.npy")
    np.testing.assert_array_equal(task.prompts["pixel_prompt"], array[None], strict=True)
    assert task.prompts["soft_prompt"].shape == (1, 0, 32)
    assert (task.kind, task.virtual_tokens) == ("pixel", 0)


def folded(deep_prompt: NDArray[np.float32]) -> NDArray[np.float32]:
    """A hand-made fold: keys are the tokens, values their negatives; 4 heads of size 8."""
    keys = deep_prompt.reshape(len(deep_prompt), -1, 4, 8).swapaxes(1, 2)
    return np.stack([keys, -keys], 1)


def test_a_deep_prompt_is_fed_as_the_prefix_it_folds_to(bundle: Bundle, tmp_path: Path) -> None:
    array = np.arange(2 * 5 * 32, dtype=np.float32).reshape(2, 5, 32)
    write_npy(tmp_path / "x.npy", array)
    deep = with_kinds(bundle, **bundle.manifest.kinds, deep=(2, None, 32))
    task = load_task("x", tmp_path / "x.npy", None, deep, base_task(deep.manifest), folded)
    np.testing.assert_array_equal(task.prompts["prefix"], folded(array)[:, :, None], strict=True)
    assert task.prompts.keys() == {"soft_prompt", "prefix"}
    assert (task.kind, task.length("prefix"), task.virtual_tokens, task.max_tokens) == ("deep", 5, 5, 48)


def test_a_deep_prompt_without_a_graph_that_folds_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    write_npy(tmp_path / "x.npy", np.ones((2, 5, 32), np.float32))
    with pytest.raises(UnknownEngineError, match="no graph that folds deep prompts for the engine 'onnxruntime'"):
        load(with_kinds(bundle, deep=(2, None, 32)), tmp_path / "x.npy")


@pytest.mark.parametrize(("kind", "shape"), [("soft", (5, 32)), ("prefix", (2, 2, 4, 5, 8)), ("pixel", (3, 8, 6))])
def test_a_prompt_enters_with_1_on_the_axis_of_the_batch(kind: str, shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
    ((name, given),) = as_inputs(kind, array, folded).items()
    assert given.shape[BATCH_AXES[name]] == 1
    np.testing.assert_array_equal(given.squeeze(BATCH_AXES[name]), array, strict=True)


def test_a_soft_prompt_gets_the_dimension_of_the_batch(bundle: Bundle, make_prompt: MakePrompt) -> None:
    path = make_prompt("a", "soft", length=7)
    task = load(bundle, path)
    np.testing.assert_array_equal(task.prompts["soft_prompt"], np.load(path)[None], strict=True)
    assert (task.kind, task.length("soft_prompt"), task.length("prefix")) == ("soft", 7, 0)


def test_a_prefix_gets_the_dimension_of_the_batch(bundle: Bundle, make_prompt: MakePrompt) -> None:
    path = make_prompt("a", "prefix", length=7)
    task = load(bundle, path)
    np.testing.assert_array_equal(task.prompts["prefix"], np.load(path)[:, :, None], strict=True)
    assert (task.kind, task.length("soft_prompt"), task.length("prefix")) == ("prefix", 0, 7)


def test_a_float16_prompt_is_widened(bundle: Bundle, tmp_path: Path) -> None:
    array = np.ones((5, 32), np.float16)
    write_npy(tmp_path / "x.npy", array)
    np.testing.assert_array_equal(
        load(bundle, tmp_path / "x.npy").prompts["soft_prompt"], array[None].astype(np.float32), strict=True
    )


@pytest.mark.parametrize(("shape", "kind"), [((5, 32), "soft"), ((2, 2, 4, 5, 8), "prefix")])
def test_a_bare_array_is_known_by_its_shape(bundle: Bundle, tmp_path: Path, shape: tuple[int, ...], kind: str) -> None:
    write_npy(tmp_path / "x.npy", np.ones(shape, np.float32))
    assert load(bundle, tmp_path / "x.npy").kind == kind
    assert load(bundle, tmp_path / "x.npy", kind).kind == kind


@pytest.mark.parametrize(
    "shape",
    [(5, 31), (5, 64), (32,), (1, 5, 32), (3, 2, 4, 5, 8), (1, 2, 4, 5, 8), (2, 2, 8, 5, 8), (2, 2, 4, 5, 16)],
    ids=str,
)
def test_another_hidden_size_layer_or_head_count_is_refused(
    bundle: Bundle, tmp_path: Path, shape: tuple[int, ...]
) -> None:
    write_npy(tmp_path / "x.npy", np.ones(shape, np.float32))
    with pytest.raises(PromptShapeError, match=r"soft \[num_virtual_tokens, 32\] or prefix \[2, 2, 4, num_virtual_t"):
        load(bundle, tmp_path / "x.npy")


def test_a_card_does_not_make_another_hidden_size_fit(bundle: Bundle, tmp_path: Path) -> None:
    write_prompt(tmp_path / "x.npy", np.ones((5, 31), np.float32), "soft", bundle.manifest.backbone.fingerprint)
    with pytest.raises(PromptShapeError, match=r"a soft prompt of shape \[5, 31\]; expected soft \[num_virtual_t"):
        load(bundle, tmp_path / "x.npy")


@pytest.mark.parametrize("kind", ["prefix", "deep", "nonsense"])
def test_a_kind_that_contradicts_the_card_is_refused(bundle: Bundle, make_prompt: MakePrompt, kind: str) -> None:
    with pytest.raises(CardError, match=f"was requested as a {kind} prompt, but its card says soft"):
        load(bundle, make_prompt("a", "soft"), kind)


def test_a_prompt_tuned_on_other_weights_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    write_prompt(tmp_path / "x.npy", np.ones((5, 32), np.float32), "soft", "f" * 64)
    with pytest.raises(FingerprintError, match="tuned on a backbone with the fingerprint ffffffffffff…"):
        load(bundle, tmp_path / "x.npy")


def test_a_missing_prompt_is_named(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"x\.npy: no such file"):
        load(bundle, tmp_path / "x.npy")


def test_a_head_comes_with_its_labels(bundle: Bundle, make_prompt: MakePrompt) -> None:
    task = load(bundle, make_prompt("a", classes=3))
    assert task.head is not None
    assert task.head.weight.shape == (3, 32)
    assert task.labels == ("a_0", "a_1", "a_2")


def test_a_head_without_labels_gets_numbered_ones(bundle: Bundle, make_prompt: MakePrompt) -> None:
    assert load(bundle, make_prompt("a", classes=3, labels=())).labels == ("LABEL_0", "LABEL_1", "LABEL_2")


def test_a_head_that_reads_another_feature_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    head = Head(np.ones((3, 16), np.float32), np.ones(3, np.float32))
    fingerprint = bundle.manifest.backbone.fingerprint
    write_prompt(tmp_path / "x.npy", np.ones((5, 32), np.float32), "soft", fingerprint, head=head)
    with pytest.raises(HeadError, match="takes 16 features; expected the 32 features of this backbone"):
        load(bundle, tmp_path / "x.npy")


def test_labels_without_any_head_are_refused(bundle: Bundle, make_prompt: MakePrompt) -> None:
    with pytest.raises(HeadError, match="has 2 labels and no head"):
        load(bundle, make_prompt("a", labels=("x", "y")))


def test_labels_rename_those_of_the_own_head_of_a_backbone(
    tiny_classifier_bundle: Path, make_prompt: MakePrompt
) -> None:
    bundle = read_bundle(tiny_classifier_bundle)
    renamed = make_prompt("a", bundle=tiny_classifier_bundle, labels=("x", "y", "z"))
    assert load(bundle, renamed).labels == ("x", "y", "z")
    assert load(bundle, make_prompt("b", bundle=tiny_classifier_bundle)).labels == ("red", "green", "blue")
    with pytest.raises(HeadError, match="has 2 labels and no head; expected a head, or the 3 labels"):
        load(bundle, make_prompt("c", bundle=tiny_classifier_bundle, labels=("x", "y")))


@pytest.mark.parametrize("kind", ["soft", "prefix"])
@pytest.mark.parametrize(("length", "room"), [(1, 48), (16, 48), (17, 47), (40, 24), (61, 3)])
def test_a_long_prompt_leaves_less_room_for_text(
    bundle: Bundle, make_prompt: MakePrompt, kind: str, length: int, room: int
) -> None:
    assert load(bundle, make_prompt("a", kind, length=length)).max_tokens == room


@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_a_prompt_that_leaves_no_room_for_text_is_refused(bundle: Bundle, make_prompt: MakePrompt, kind: str) -> None:
    with pytest.raises(PromptShapeError, match="has 62 virtual tokens; expected at most 61"):
        load(bundle, make_prompt("a", kind, length=62))


@pytest.mark.parametrize(("asked", "room"), [(None, 24), (10, 10), (24, 24), (100, 24), (0, 3)])
def test_a_card_may_ask_for_less_text(bundle: Bundle, make_prompt: MakePrompt, asked: int | None, room: int) -> None:
    assert load(bundle, make_prompt("a", length=40, max_tokens=asked)).max_tokens == room


def test_without_learned_positions_a_prompt_takes_no_room(bundle: Bundle, make_prompt: MakePrompt) -> None:
    assert isinstance(bundle.manifest.preprocessing, TextPreprocessing)
    preprocessing = replace(bundle.manifest.preprocessing, max_positions=None)
    unbounded = replace(bundle, manifest=replace(bundle.manifest, preprocessing=preprocessing))
    assert load(unbounded, make_prompt("a", length=500)).max_tokens == 48


def test_the_template_is_that_of_the_card(bundle: Bundle, make_prompt: MakePrompt, tmp_path: Path) -> None:
    assert load(bundle, make_prompt("a", template="w1 {text}")).template == "w1 {text}"
    write_npy(tmp_path / "bare.npy", np.ones((5, 32), np.float32))
    assert load(bundle, tmp_path / "bare.npy").template == "{text}"


def test_a_task_cannot_be_changed(bundle: Bundle) -> None:
    base: Any = base_task(bundle.manifest)
    with pytest.raises(AttributeError):
        base.name = "other"
