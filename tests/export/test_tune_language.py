from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_prompt.base.errors import InputError
from edge_prompt.formats.prompt import read_prompt
from edge_prompt_export import export_backbone, tune_prompt
from edge_prompt_export.modalities.language.data import Pair
from edge_prompt_export.modalities.language.dataset import LanguageDataset
from edge_prompt_export.modalities.language.recipe import RECIPE
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.modalities.text.dataset import TextDataset
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.settings import TuneSettings
from edge_prompt_export.tune import tune_examples
from edge_prompt_runtime import Runtime
from tests.conftest import BuildOnce
from tests.tiny.language import CHAT_TEMPLATE, write_tiny_language

QUICK = TuneSettings(kind="soft", virtual_tokens=6, learning_rate=0.3, epochs=16, batch_size=4)
WORDS = ("oil", "price", "state", "meeting", "minister", "rose", "after", "the")
LOUD: dict[str, Any] = {"initializer_range": 0.3}
"""Weights that are large enough for a prompt to be heard."""


@pytest.fixture(scope="session")
def loud_language(build_once: BuildOnce) -> Path:
    """The folder of a random language model on which prompts have an effect."""
    return build_once("loud_language", lambda folder: write_tiny_language(folder, **LOUD))


@pytest.fixture(scope="session")
def loud_language_bundle(build_once: BuildOnce, loud_language: Path) -> Path:
    """The bundle of `loud_language` for both engines; do not modify it."""
    return build_once("loud_language_bundle", lambda folder: export_backbone(loud_language, folder))


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    """A file whose rows all have the same completion."""
    return write(tmp_path / "pairs.jsonl", [{"prompt": word, "completion": "oil!"} for word in 4 * WORDS])


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_a_prompt_makes_the_network_say_it_on_the_device(
    kind: str, loud_language: Path, loud_language_bundle: Path, pairs: Path, tmp_path: Path
) -> None:
    output = tmp_path / "say.npy"
    settings = replace(QUICK, kind=kind, template="<|user|>{text}?")
    tuned = tune_prompt(loud_language, pairs, output, validation_file=pairs, settings=settings)
    assert tuned.figures is not None
    assert tuned.figures.measure == "exact match"
    assert tuned.figures.right > 0.7
    losses = [figures.loss for figures in tuned.outcome.figures]
    assert losses[-1] < losses[0]  # type: ignore[operator]
    for engine in ("onnxruntime", "openvino"):
        runtime = Runtime(loud_language_bundle, engine)
        runtime.load("say", output)
        assert runtime.task("say").template == "<|user|>{text}?"
        answers = runtime.generate([*WORDS], task="say", max_new_tokens=9)
        right = [(answer.text, answer.finish_reason) == ("oil!", "stop") for answer in answers]
        assert np.mean(right) == tuned.accuracy


def test_other_architectures_learn(tmp_path: Path) -> None:
    write_tiny_language(tmp_path, "gpt2", **LOUD)
    examples = [Pair(word, "oil!") for word in 4 * WORDS]
    backbone = load_backbone(str(tmp_path))
    for kind in ("soft", "prefix"):
        dataset = LanguageDataset(examples, examples, ())
        _, outcome, _ = tune_examples(backbone, dataset, replace(QUICK, kind=kind, precision="bf16"))
        assert outcome.figures[-1].loss < 0.6 * outcome.figures[0].loss  # type: ignore[operator]


def test_labels_are_classified_on_the_device_as_they_were_measured(
    loud_language: Path, loud_language_bundle: Path, engine: str, tmp_path: Path
) -> None:
    rows = [{"text": f"{word} {other}", "label": word} for word in ("oil", "state") for other in 2 * WORDS]
    train, output = write(tmp_path / "labels.jsonl", rows), tmp_path / "labels.npy"
    tuned = tune_prompt(loud_language, train, output, validation_file=train, settings=replace(QUICK, kind="prefix"))
    assert tuned.card.labels == ("oil", "state")
    assert tuned.card.head is None
    assert tuned.accuracy is not None
    assert tuned.accuracy > 0.7
    runtime = Runtime(loud_language_bundle, engine)
    runtime.load("labels", output)
    answers = runtime.classify([row["text"] for row in rows], task="labels")
    right = sum(answer.label == row["label"] for answer, row in zip(answers, rows, strict=True))
    assert right / len(rows) == pytest.approx(tuned.accuracy, abs=1.5 / len(rows))


def test_chats_are_answered_on_the_device(loud_language: Path, loud_language_bundle: Path, tmp_path: Path) -> None:
    chats = [[{"role": "user", "content": word}, {"role": "assistant", "content": "oil!"}] for word in 4 * WORDS]
    train, output = write(tmp_path / "chats.jsonl", [{"messages": chat} for chat in chats]), tmp_path / "chats.npy"
    tuned = tune_prompt(loud_language, train, output, settings=replace(QUICK, kind="prefix"))
    assert tuned.card.template == "{text}"
    runtime = Runtime(loud_language_bundle)
    runtime.load("chats", output)
    assert runtime.generate(chats[0][:1], task="chats", max_new_tokens=9).text == "oil!"


def test_the_card_brings_the_chat_template_along(loud_language: Path, pairs: Path, tmp_path: Path) -> None:
    """A device without jinja2 needs only the template of the card."""
    output = tmp_path / "say.npy"
    settings = replace(QUICK, epochs=1, chat=True, system="Be brief.", dtype="float16")
    tune_prompt(loud_language, pairs, output, validation_file=pairs, settings=settings)
    prompt = read_prompt(output)
    assert prompt.array.dtype == np.float16
    assert prompt.card is not None
    assert prompt.card.template == "<|system|>Be brief.<|end|><|user|>{text}<|end|><|assistant|>"
    assert prompt.card.labels == ()
    figures = prompt.card.provenance["figures"]
    assert {"validation_exact_match", "validation_loss", "validation_loss_by_epoch"} <= figures.keys()
    assert prompt.card.provenance["settings"]["chat"] is True
    assert prompt.card.provenance["data"]["examples"] == 32
    assert CHAT_TEMPLATE not in json.dumps(dict(prompt.card.provenance))


def test_the_first_token_of_a_prefix_stays(loud_language: Path) -> None:
    backbone, settings = load_backbone(str(loud_language)), replace(QUICK, kind="prefix", epochs=1)
    dataset = LanguageDataset([Pair(word, "oil!") for word in WORDS], [], ())
    network, _, _ = tune_examples(backbone, dataset, settings)
    start = RECIPE.initial_prompt(backbone, dataset, settings.complete("language"))
    moved = (network.prompt.detach() - start).abs().amax((0, 1, 2, 4))
    assert moved[0] == 0
    assert moved[1:].min() > 0


def test_a_prefix_of_nothing_but_its_first_token_is_refused(loud_language: Path) -> None:
    dataset = LanguageDataset([Pair("oil", "price")], [], ())
    with pytest.raises(InputError, match="one virtual token"):
        tune_examples(load_backbone(str(loud_language)), dataset, replace(QUICK, kind="prefix", virtual_tokens=1))


class Interrupting:
    def step(self, step: int, steps: int, loss: float) -> None:
        if step == 20:  # in the third epoch of eight steps
            raise KeyboardInterrupt

    def epoch(self, epoch: int, figures: object, *, best: bool) -> None:
        pass


def test_an_interruption_keeps_the_best_so_far(loud_language: Path, pairs: Path, tmp_path: Path) -> None:
    output = tmp_path / "say.npy"
    tuned = tune_prompt(loud_language, pairs, output, validation_file=pairs, settings=QUICK, observer=Interrupting())
    assert tuned.outcome.interrupted
    assert tuned.outcome.kept_epoch == len(tuned.outcome.figures) == 2
    assert tuned.figures is not None
    assert tuned.figures.loss == pytest.approx(tuned.outcome.figures[-1].loss, rel=0.05)
    assert read_prompt(output).card == tuned.card


def test_examples_of_language_models_are_for_language_models(
    tiny_backbone: Path, loud_language: Path, pairs: Path, image_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"language examples for .*, which reads text"):
        tune_prompt(tiny_backbone, pairs, tmp_path / "x.npy")
    with pytest.raises(InputError, match=r"image examples for .*, which reads language and text"):
        tune_prompt(loud_language, image_folder, tmp_path / "x.npy")


@pytest.mark.parametrize("init", ["vocabulary", "text", "training-text"])
def test_prompts_start_from_real_tokens(init: str, loud_language: Path) -> None:
    backbone = load_backbone(str(loud_language))
    text = {"init_text": "the oil price"} if init == "text" else {}
    settings = replace(QUICK, init=init, **text).complete("language")  # type: ignore[arg-type]
    dataset = TextDataset([Example("oil", "a"), Example("price", "b")], [], ("a", "b"))
    prompt = RECIPE.initial_prompt(backbone, dataset, settings)
    module: Any = backbone.module
    table = module.embedding.weight.detach().numpy()
    assert all((table == row).all(1).any() for row in prompt.numpy())
