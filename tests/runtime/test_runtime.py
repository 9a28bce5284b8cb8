from __future__ import annotations

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_prompt import EdgePromptError, Head, read_prompt
from edge_prompt.base.errors import (
    CardError,
    FingerprintError,
    InputError,
    ManifestError,
    MissingFileError,
    UnknownEngineError,
    UnknownTaskError,
)
from edge_prompt.formats.bundle import read_bundle
from edge_prompt.formats.manifest import write_manifest
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt.untrusted.npy import write_npy
from edge_prompt_runtime import Runtime, TruncationWarning
from edge_prompt_runtime.answers.results import softmax
from tests.conftest import AssertClose, MakePrompt

TEXTS = ["w1 w2 w3", "w4", "w5 w6 w7 w8 w9 w10 w11", "w12 w13", "w14 w15 w16 w17", "w18"]
KINDS = ["soft", "prefix"]


def feeds(*rows: list[int]) -> dict[str, NDArray[Any]]:
    longest = max(map(len, rows))
    ids, mask = np.zeros((len(rows), longest), np.int64), np.zeros((len(rows), longest), np.int64)
    for number, row in enumerate(rows):
        ids[number, : len(row)], mask[number, : len(row)] = row, 1
    return {"input_ids": ids, "attention_mask": mask}


@pytest.fixture
def tasks(runtime: Runtime, make_prompt: MakePrompt) -> list[str | None]:
    """The base model and prompts that differ in kind, length, head and number of classes, loaded."""
    for name, kind, length, classes in (
        ("soft_short", "soft", 1, 2),
        ("soft_long", "soft", 9, 5),
        ("prefix_short", "prefix", 2, 3),
        ("prefix_long", "prefix", 12, 7),
        ("second_soft", "soft", 4, 2),
    ):
        runtime.load(name, make_prompt(name, kind, length=length, classes=classes))
    return [None, *runtime.tasks]


def test_a_folder_may_be_a_string(tiny_bundle: Path, engine: str) -> None:
    runtime = Runtime(str(tiny_bundle), engine)
    assert (runtime.engine, runtime.bundle.folder) == (engine, tiny_bundle)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="expected a bundle"):
        Runtime(tmp_path)


def test_an_unknown_engine_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(UnknownEngineError, match="expected one of onnxruntime, openvino"):
        Runtime(tiny_bundle, engine="abacus")


def test_an_altered_graph_is_refused(bundle_copy: Path, engine: str) -> None:
    (bundle_copy / read_bundle(bundle_copy).graph(engine).file).write_bytes(b"")
    with pytest.raises(ManifestError, match="is altered"):
        Runtime(bundle_copy, engine)


def test_one_text_gives_one_embedding_and_several_a_batch(runtime: Runtime, assert_close: AssertClose) -> None:
    batch = runtime.embed(TEXTS)
    assert (batch.shape, batch.dtype) == ((6, 32), np.dtype(np.float32))
    for text, row in zip(TEXTS, batch, strict=True):
        assert_close(runtime.embed(text), row)


def test_texts_and_their_tokens_give_the_same(runtime: Runtime, assert_close: AssertClose) -> None:
    tokens = feeds([2, 6, 7, 8, 3], [2, 9, 3])
    assert_close(runtime.embed(tokens), runtime.embed(TEXTS[:2]))
    assert_close(runtime.embed(tokens), runtime.infer(tokens)["features"])


def test_infer_gives_every_output_of_the_graph(runtime: Runtime) -> None:
    outputs = runtime.infer(feeds([2, 6, 7, 8, 3], [2, 9, 3]))
    assert {name: array.shape for name, array in outputs.items()} == {
        "features": (2, 32),
        "last_hidden_state": (2, 5, 32),
    }


def test_an_embedding_is_normalised_if_the_configuration_says_so(bundle_copy: Path, engine: str) -> None:
    manifest = read_bundle(bundle_copy).manifest
    assert isinstance(manifest.preprocessing, TextPreprocessing)
    plain = Runtime(bundle_copy, engine).embed(TEXTS)
    write_manifest(bundle_copy, replace(manifest, preprocessing=replace(manifest.preprocessing, normalize=True)))
    scaled = Runtime(bundle_copy, engine).embed(TEXTS)
    assert np.abs(np.linalg.norm(plain, axis=1) - 1).min() > 0.1
    np.testing.assert_allclose(scaled, plain / np.linalg.norm(plain, axis=1, keepdims=True), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_a_prompt_changes_the_answer(runtime: Runtime, make_prompt: MakePrompt, kind: str) -> None:
    runtime.load("a", make_prompt("a", kind))
    runtime.load("b", make_prompt("b", kind))
    base, first, second = (runtime.embed(TEXTS, task) for task in (None, "a", "b"))
    for one, other in ((base, first), (base, second), (first, second)):
        assert np.abs(one - other).max(axis=1).min() > 0.01


def test_no_task_is_the_base_model(runtime: Runtime, tasks: list[str | None], assert_close: AssertClose) -> None:
    fresh = Runtime(runtime.bundle.folder, runtime.engine)
    assert_close(runtime.embed(TEXTS), fresh.embed(TEXTS))
    assert_close(runtime.embed(TEXTS, [None] * 6), fresh.embed(TEXTS))
    assert_close(runtime.embed(TEXTS, [None, *tasks[1:]])[0], fresh.embed(TEXTS[0]))


def test_a_mixed_batch_of_texts_equals_its_rows_alone(
    runtime: Runtime, tasks: list[str | None], assert_close: AssertClose
) -> None:
    mixed = runtime.embed(TEXTS, tasks)
    for text, task, row in zip(TEXTS, tasks, mixed, strict=True):
        assert_close(row, runtime.embed(text, task))


def test_a_mixed_batch_of_tokens_equals_its_rows_alone(
    runtime: Runtime, tasks: list[str | None], assert_close: AssertClose
) -> None:
    rows = [[2, *range(10 * row, 10 * row + 2 * row + 1), 3] for row in range(1, 7)]
    mixed = runtime.infer(feeds(*rows), tasks)
    for number, (row, task) in enumerate(zip(rows, tasks, strict=True)):
        alone = runtime.infer(feeds(row), task)
        assert_close(mixed["features"][number], alone["features"][0])
        assert_close(mixed["last_hidden_state"][number, : len(row)], alone["last_hidden_state"][0])


def test_a_mixed_batch_of_classifications_equals_its_rows_alone(runtime: Runtime, tasks: list[str | None]) -> None:
    mixed = runtime.classify(TEXTS[:5], tasks[1:])
    assert [len(answer.scores) for answer in mixed] == [2, 5, 3, 7, 2]
    for text, task, answer in zip(TEXTS, tasks[1:], mixed, strict=False):
        alone = runtime.classify(text, task)
        assert answer.label == alone.label
        assert answer.scores == pytest.approx(alone.scores, abs=1e-4)


def test_a_classification_is_the_head_on_the_feature(
    runtime: Runtime, make_prompt: MakePrompt, assert_close: AssertClose
) -> None:
    path = make_prompt("a", classes=4)
    runtime.load("a", path)
    head = read_prompt(path).head
    assert isinstance(head, Head)
    expected = softmax(head.logits(runtime.infer(feeds([2, 6, 7, 8, 3]), "a")["features"]))[0]
    found = runtime.classify(TEXTS[0], "a")
    assert list(found.scores) == ["a_0", "a_1", "a_2", "a_3"]
    assert_close(np.array(list(found.scores.values())), expected)
    assert (found.label, found.score) == (f"a_{expected.argmax()}", max(found.scores.values()))


def test_token_arrays_are_classified_too(runtime: Runtime, make_prompt: MakePrompt) -> None:
    runtime.load("a", make_prompt("a", classes=3))
    (found,) = runtime.classify(feeds([2, 6, 7, 8, 3]), "a")
    assert found.scores == pytest.approx(runtime.classify(TEXTS[0], "a").scores, abs=1e-5)


def test_a_task_without_a_head_classifies_nothing(runtime: Runtime, make_prompt: MakePrompt) -> None:
    runtime.load("a", make_prompt("a", classes=2))
    runtime.load("b", make_prompt("b"))
    with pytest.raises(InputError, match="task 'b' has no head"):
        runtime.classify(TEXTS[:2], ["a", "b"])
    with pytest.raises(InputError, match="the base model has no head"):
        runtime.classify(TEXTS[0])


def test_a_template_is_put_around_the_text(
    runtime: Runtime, make_prompt: MakePrompt, assert_close: AssertClose
) -> None:
    runtime.load("templated", make_prompt("a", template="w50 {text} w51"))
    runtime.load("plain", make_prompt("a"))
    assert_close(runtime.embed("w1 w2", "templated"), runtime.embed("w50 w1 w2 w51", "plain"))


def test_two_tasks_in_eight_threads_never_see_the_numbers_of_each_other(
    runtime: Runtime, tasks: list[str | None]
) -> None:
    alone = [runtime.embed(TEXTS, task) for task in tasks]

    def ask(number: int) -> tuple[int, NDArray[Any]]:
        which = number % len(tasks)
        return which, runtime.embed(TEXTS, tasks[which])

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(96)))
    for which, found in answers:
        np.testing.assert_allclose(found, alone[which], atol=1e-5)


def test_loading_while_others_ask_disturbs_nobody(runtime: Runtime, make_prompt: MakePrompt) -> None:
    paths = [make_prompt(name, kind, classes=2) for name, kind in (("a", "soft"), ("b", "prefix"))]
    runtime.load("steady", paths[0])
    alone = runtime.embed(TEXTS, "steady")

    def load_or_ask(number: int) -> NDArray[Any] | None:
        if number % 3 == 0:
            runtime.load("changing", paths[number % 2])
            return None
        return runtime.embed(TEXTS, "steady")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(load_or_ask, range(48)))
    assert sum(found is None for found in answers) == 16
    for found in answers:
        if found is not None:
            np.testing.assert_allclose(found, alone, atol=1e-5)


def test_a_long_text_is_truncated_with_a_warning_at_the_callers_line(
    runtime: Runtime, assert_close: AssertClose
) -> None:
    long, fitting = (" ".join(["w1 w2"] * count) for count in (40, 23))
    with pytest.warns(TruncationWarning, match="text 1 was truncated to 48 tokens") as caught:
        found = runtime.embed(["w7", long, "w8 w9"])
    assert caught[0].filename == __file__
    assert_close(found, runtime.embed(["w7", fitting, "w8 w9"]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_long_prompt_leaves_less_room_for_text(
    runtime: Runtime, make_prompt: MakePrompt, assert_close: AssertClose, kind: str
) -> None:
    runtime.load("long", make_prompt("long", kind, length=54))
    with pytest.warns(TruncationWarning, match="truncated to 10 tokens"):
        found = runtime.embed(" ".join(["w1"] * 20), "long")
    assert_close(found, runtime.embed(" ".join(["w1"] * 8), "long"))


@pytest.mark.parametrize("kind", KINDS)
def test_token_rows_that_are_too_long_are_refused(runtime: Runtime, make_prompt: MakePrompt, kind: str) -> None:
    runtime.load("long", make_prompt("long", kind, length=54))
    with pytest.raises(InputError, match="row 1 has 11 tokens for task 'long'; expected at most 10"):
        runtime.infer(feeds([7] * 10, [7] * 11), "long")
    with pytest.raises(InputError, match="row 0 has 49 tokens for the base model; expected at most 48"):
        runtime.infer(feeds([7] * 49))


@pytest.mark.parametrize("text", ["", "   ", "\n"])
def test_an_empty_text_is_refused(runtime: Runtime, text: str) -> None:
    with pytest.raises(InputError, match="text 0 is empty"):
        runtime.embed(text)
    with pytest.raises(InputError, match="text 1 is empty"):
        runtime.embed(["w1", text])


@pytest.mark.parametrize("task", [None, "a", [], ["a"]])
def test_an_empty_batch_is_refused(runtime: Runtime, make_prompt: MakePrompt, task: Any) -> None:
    runtime.load("a", make_prompt("a", classes=2))
    for ask in (runtime.embed, runtime.classify):
        with pytest.raises(InputError, match="the request has no rows; expected at least one"):
            ask([], task)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_and_a_task_list_of_different_lengths_are_refused(
    runtime: Runtime, make_prompt: MakePrompt, count: int
) -> None:
    runtime.load("a", make_prompt("a", classes=2))
    for ask in (runtime.embed, runtime.classify):
        with pytest.raises(InputError, match=f"the request has 2 rows and {count} tasks; expected one task per row"):
            ask(TEXTS[:2], ["a"] * count)
    with pytest.raises(InputError, match=f"2 rows and {count} tasks"):
        runtime.infer(feeds([7], [8]), ["a"] * count)


def test_an_unknown_task_is_refused_with_those_loaded(runtime: Runtime, make_prompt: MakePrompt) -> None:
    with pytest.raises(UnknownTaskError, match=r"no task 'x' is loaded; expected a loaded task \(there are none\)"):
        runtime.embed("w1", "x")
    runtime.load("a", make_prompt("a"))
    runtime.load("b", make_prompt("b"))
    with pytest.raises(UnknownTaskError, match=r"no task 'x' is loaded; expected one of a, b\. Load its prompt first"):
        runtime.embed(["w1", "w2"], ["a", "x"])


def test_a_prompt_takes_the_place_of_an_older_one_of_its_name(
    runtime: Runtime, make_prompt: MakePrompt, assert_close: AssertClose
) -> None:
    runtime.load("a", make_prompt("a"))
    runtime.load("b", make_prompt("b", "prefix"))
    runtime.load("a", make_prompt("b", "prefix"))
    assert runtime.tasks == ("a", "b")
    assert_close(runtime.embed(TEXTS, "a"), runtime.embed(TEXTS, "b"))


def test_a_prompt_that_is_refused_leaves_the_older_one(runtime: Runtime, make_prompt: MakePrompt) -> None:
    runtime.load("a", make_prompt("a"))
    before = runtime.task("a")
    bad = make_prompt("bad")
    bad.write_bytes(bad.read_bytes()[:-1])
    with pytest.raises(EdgePromptError):
        runtime.load("a", bad)
    assert runtime.task("a") is before


def test_a_prompt_tuned_on_other_weights_is_refused(
    runtime: Runtime, tiny_tagger_bundle: Path, make_prompt: MakePrompt
) -> None:
    with pytest.raises(FingerprintError, match="Use the bundle of that backbone"):
        runtime.load("a", make_prompt("a", bundle=tiny_tagger_bundle))
    assert runtime.tasks == ()


def test_a_bare_array_is_loaded_by_its_shape_or_kind(
    runtime: Runtime, make_prompt: MakePrompt, tmp_path: Path, assert_close: AssertClose
) -> None:
    path = make_prompt("a", "prefix")
    runtime.load("carded", path)
    write_npy(tmp_path / "bare.npy", np.load(path))
    runtime.load("bare", str(tmp_path / "bare.npy"))
    runtime.load("said", tmp_path / "bare.npy", kind="prefix")
    assert_close(runtime.embed(TEXTS, "bare"), runtime.embed(TEXTS, "carded"))
    assert_close(runtime.embed(TEXTS, "said"), runtime.embed(TEXTS, "carded"))


def test_a_folder_of_prompts_is_loaded_under_the_names_of_its_files(runtime: Runtime, make_prompt: MakePrompt) -> None:
    paths = [make_prompt(name, classes=2) for name in ("b", "a", "v1.2")]
    assert runtime.load_all(paths[0].parent) == ("a", "b", "v1.2")
    assert runtime.tasks == ("a", "b", "v1.2")
    assert runtime.classify("w1", "v1.2").label in {"v1.2_0", "v1.2_1"}


def test_a_folder_with_a_bad_prompt_is_not_loaded_at_all(runtime: Runtime, make_prompt: MakePrompt) -> None:
    runtime.load("b", make_prompt("b"))
    before = runtime.task("b")
    folder = make_prompt("a").parent
    shutil.copy(folder / "a.npy", folder / "c.npy")
    shutil.copy(folder / "b.json", folder / "c.json")
    with pytest.raises(CardError):
        runtime.load_all(folder)
    assert runtime.tasks == ("b",)
    assert runtime.task("b") is before


def test_a_missing_folder_of_prompts_is_named(runtime: Runtime, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="nowhere: no such folder; expected a folder of prompts"):
        runtime.load_all(tmp_path / "nowhere")


def test_an_empty_folder_of_prompts_loads_nothing(runtime: Runtime, tmp_path: Path) -> None:
    assert runtime.load_all(str(tmp_path)) == ()


def test_an_unloaded_task_is_unknown(runtime: Runtime, make_prompt: MakePrompt) -> None:
    runtime.load("a", make_prompt("a"))
    runtime.load("b", make_prompt("b"))
    runtime.unload("a")
    assert runtime.tasks == ("b",)
    with pytest.raises(UnknownTaskError):
        runtime.embed("w1", "a")
    with pytest.raises(UnknownTaskError):
        runtime.unload("a")


def test_the_own_head_of_a_backbone_classifies(
    tiny_classifier_bundle: Path, engine: str, make_prompt: MakePrompt, assert_close: AssertClose
) -> None:
    runtime = Runtime(tiny_classifier_bundle, engine)
    runtime.load("renamed", make_prompt("renamed", bundle=tiny_classifier_bundle, labels=("x", "y", "z")))
    runtime.load("headed", make_prompt("headed", "prefix", bundle=tiny_classifier_bundle, classes=5))
    tasks = [None, "renamed", "headed"]
    mixed = runtime.classify(TEXTS[:3], tasks)
    assert [next(iter(answer.scores)) for answer in mixed] == ["red", "x", "headed_0"]
    for text, task, answer in zip(TEXTS, tasks, mixed, strict=False):
        assert answer.scores == pytest.approx(runtime.classify(text, task).scores, abs=1e-4)
    logits = runtime.infer(feeds([2, 6, 7, 8, 3]))["logits"]
    assert_close(np.array(list(mixed[0].scores.values())), softmax(logits)[0])


def test_tokens_are_labelled_by_the_own_head_of_a_backbone(
    tiny_tagger_bundle: Path, engine: str, make_prompt: MakePrompt
) -> None:
    runtime = Runtime(tiny_tagger_bundle, engine)
    text = "w1, w22 w1"
    found = runtime.label_tokens(text)
    assert [(token.text, token.start, token.end) for token in found] == [
        ("w1", 0, 2),
        (",", 2, 3),
        ("w22", 4, 7),
        ("w1", 8, 10),
    ]
    logits = runtime.infer(feeds([2, 6, 1, 27, 6, 3]))["logits"][0, 1:-1]
    assert [token.label for token in found] == [("red", "green", "blue")[best] for best in logits.argmax(1)]
    assert [token.score for token in found] == pytest.approx(softmax(logits).max(1).tolist(), abs=1e-4)


def test_tokens_of_a_mixed_batch_are_labelled_as_alone(
    tiny_tagger_bundle: Path, engine: str, make_prompt: MakePrompt
) -> None:
    runtime = Runtime(tiny_tagger_bundle, engine)
    runtime.load("soft", make_prompt("soft", bundle=tiny_tagger_bundle, labels=("x", "y", "z")))
    runtime.load("prefix", make_prompt("prefix", "prefix", bundle=tiny_tagger_bundle, template="w7 w8 {text} w9"))
    tasks = [None, "soft", "prefix"]
    for text, task, found in zip(TEXTS, tasks, runtime.label_tokens(TEXTS[:3], tasks), strict=False):
        alone = runtime.label_tokens(text, task)
        assert [replace(token, score=0) for token in found] == [replace(token, score=0) for token in alone]
        assert [token.score for token in found] == pytest.approx([token.score for token in alone], abs=1e-4)
        assert " ".join(token.text for token in found) == text
        assert {token.label for token in found} <= ({"x", "y", "z"} if task == "soft" else {"red", "green", "blue"})


def test_a_backbone_that_labels_tokens_classifies_no_text_without_a_head(
    tiny_tagger_bundle: Path, engine: str, make_prompt: MakePrompt
) -> None:
    runtime = Runtime(tiny_tagger_bundle, engine)
    with pytest.raises(InputError, match="has no head, and the backbone has no classification head"):
        runtime.classify("w1")
    runtime.load("a", make_prompt("a", bundle=tiny_tagger_bundle, classes=2))
    assert set(runtime.classify("w1", "a").scores) == {"a_0", "a_1"}


def test_the_own_head_of_a_backbone_labels_tokens_in_its_own_words_under_a_task_with_a_head(
    tiny_tagger_bundle: Path, engine: str, make_prompt: MakePrompt
) -> None:
    runtime = Runtime(tiny_tagger_bundle, engine)
    runtime.load("headed", make_prompt("headed", bundle=tiny_tagger_bundle, classes=2))
    found = runtime.label_tokens(TEXTS[2], "headed")
    assert {token.label for token in found} <= {"red", "green", "blue"}


def test_tokens_of_arrays_are_not_labelled(tiny_tagger_bundle: Path, engine: str) -> None:
    arrays: Any = feeds([2, 6, 3])
    with pytest.raises(InputError, match="called with arrays by name; expected texts or images"):
        Runtime(tiny_tagger_bundle, engine).label_tokens(arrays)


@pytest.mark.parametrize("ask", [Runtime.detect, Runtime.segment])
def test_a_backbone_for_texts_looks_at_no_images(runtime: Runtime, ask: Callable[..., Any]) -> None:
    with pytest.raises(InputError, match="this bundle is for feature-extraction; expected one for"):
        ask(runtime, "cat.png")


def test_a_request_that_is_no_text_is_refused(runtime: Runtime) -> None:
    for request in (b"w1", 3, None):
        with pytest.raises(
            InputError, match=f"the request is of type {type(request).__name__}, but this backbone reads texts"
        ):
            runtime.embed(request)


def test_a_backbone_for_features_labels_no_tokens(runtime: Runtime) -> None:
    with pytest.raises(InputError, match="this bundle is for feature-extraction; expected one for token-"):
        runtime.label_tokens("w1")
