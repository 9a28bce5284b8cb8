from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edge_prompt.base.errors import InputError, TrainingDataError, UnsupportedArchitectureError
from edge_prompt.formats.prompt import read_prompt
from edge_prompt_export import tune_prompt
from edge_prompt_export.backbone.backbone import LoadedBackbone
from edge_prompt_export.modalities.registry import load_backbone
from edge_prompt_export.modalities.text.dataset import TextDataset
from edge_prompt_export.training.data import Example
from edge_prompt_export.training.settings import TuneSettings
from edge_prompt_export.tune import tune_examples
from edge_prompt_runtime import Runtime

QUICK = TuneSettings(virtual_tokens=4, epochs=2, batch_size=8)


def halves(examples: list[Example]) -> TextDataset:
    """Train on every other example, and validate on the rest."""
    return TextDataset(examples[::2], examples[1::2], ("blue", "red"))


@pytest.mark.parametrize("kind", ["soft", "prefix"])
def test_a_tuned_prompt_answers_in_the_runtime_as_it_was_measured(
    kind: str, engine: str, tiny_backbone: Path, tiny_bundle: Path, train_file: Path, tmp_path: Path
) -> None:
    settings = replace(QUICK, kind=kind, dtype="float16", max_tokens=12, epochs=6, head_learning_rate=1e-2)
    output = tmp_path / "colour.npy"
    tuned = tune_prompt(tiny_backbone, train_file, output, validation_file=train_file, settings=settings)
    assert tuned.accuracy is not None
    assert tuned.accuracy > 0.75
    runtime = Runtime(tiny_bundle, engine)
    runtime.load("colour", output)
    rows = [json.loads(line) for line in train_file.read_text(encoding="utf-8").splitlines()]
    answers = runtime.classify([row["text"] for row in rows], task="colour")
    right = sum(answer.label == row["label"] for answer, row in zip(answers, rows, strict=True))
    assert right / len(rows) == pytest.approx(tuned.accuracy, abs=1.5 / len(rows))  # one may lie on the border


def test_the_card_tells_how_it_was_made(tiny_backbone: Path, train_file: Path, tmp_path: Path) -> None:
    tuned = tune_prompt(tiny_backbone, train_file, tmp_path / "colour.npy", settings=QUICK)
    prompt = read_prompt(tmp_path / "colour.npy")
    assert prompt.card == tuned.card
    assert tuned.card.labels == ("blue", "red")
    assert tuned.card.fingerprint == load_backbone(str(tiny_backbone)).fingerprint
    provenance = tuned.card.provenance
    assert provenance["settings"]["virtual_tokens"] == 4
    assert provenance["data"]["examples"] == 120
    assert len(provenance["data"]["sha256"]) == 64
    assert provenance["figures"]["validation_accuracy"] is None
    assert provenance["figures"]["kept_epoch"] == QUICK.epochs
    assert str(tmp_path) not in json.dumps(dict(provenance))


def test_the_backbone_stays_as_it_was(loaded: LoadedBackbone, examples: list[Example]) -> None:
    before = {name: tensor.clone() for name, tensor in loaded.module.model.state_dict().items()}
    tune_examples(loaded, halves(examples), QUICK)
    after = loaded.module.model.state_dict()
    assert all(torch.equal(tensor, after[name]) for name, tensor in before.items())
    assert not any(module.training for module in loaded.module.modules())


def test_the_same_seed_gives_the_same_file(tiny_backbone: Path, train_file: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        tune_prompt(tiny_backbone, train_file, tmp_path / f"{name}.npy", settings=QUICK)
    assert (tmp_path / "first.npy").read_bytes() == (tmp_path / "second.npy").read_bytes()
    assert (tmp_path / "first.head.npz").read_bytes() == (tmp_path / "second.head.npz").read_bytes()


def test_through_the_networks_own_head(
    tiny_classifier: Path, tiny_classifier_bundle: Path, engine: str, tmp_path: Path
) -> None:
    """The random network almost never predicts blue; with the prompt, it learns this label of half of the texts."""
    names = ("blue", "red", "blue", "green", "blue", "blue")
    rows = [{"text": f"w{number} w{number + 1}", "label": names[number % 6]} for number in range(60)]
    train_file = tmp_path / "train.jsonl"
    train_file.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    settings = replace(QUICK, head="own", epochs=8, learning_rate=0.1, dropout=False)
    tuned = tune_prompt(tiny_classifier, train_file, tmp_path / "own.npy", settings=settings)
    assert tuned.card.head is None
    assert tuned.card.labels == ("red", "green", "blue")
    runtime = Runtime(tiny_classifier_bundle, engine)
    runtime.load("own", tmp_path / "own.npy")
    texts = [str(row["text"]) for row in rows]
    base, own = runtime.classify(texts), runtime.classify(texts, task="own")
    scores = [sum(a.label == row["label"] for a, row in zip(answers, rows, strict=True)) for answers in (base, own)]
    assert scores[1] > scores[0] + 20


def test_own_labels_must_be_those_of_the_head(tiny_classifier: Path, train_file: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingDataError, match="red, green, blue"):
        tune_prompt(tiny_classifier, train_file, tmp_path / "own.npy", settings=replace(QUICK, head="own"))
    assert not list(tmp_path.glob("own*"))


def test_features_have_no_own_head(tiny_backbone: Path, train_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="feature-extraction"):
        tune_prompt(tiny_backbone, train_file, tmp_path / "own.npy", settings=replace(QUICK, head="own"))


@pytest.mark.parametrize(
    "changed",
    [{"template": "no place"}, {"template": "{text} {text}"}, {"max_tokens": 49}, {"virtual_tokens": 62}],
)
def test_settings_that_do_not_fit_are_refused(
    changed: dict[str, object], tiny_backbone: Path, train_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError):
        tune_prompt(tiny_backbone, train_file, tmp_path / "x.npy", settings=replace(QUICK, **changed))  # type: ignore[arg-type]
    assert not list(tmp_path.glob("x*"))


def test_the_output_must_be_an_npy_file(tiny_backbone: Path, train_file: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\.npy"):
        tune_prompt(tiny_backbone, train_file, tmp_path / "x.bin", settings=QUICK)


def test_a_prefix_is_refused_where_the_network_takes_none(
    checkpoint: Callable[..., Path], examples: list[Example]
) -> None:
    backbone = load_backbone(str(checkpoint("deberta")))
    with pytest.raises(UnsupportedArchitectureError, match="does not dispatch"):
        tune_examples(backbone, halves(examples), QUICK)


@pytest.mark.parametrize("kind", ["deep", "pixel"])
def test_kinds_for_images_are_refused(kind: str, loaded: LoadedBackbone, examples: list[Example]) -> None:
    with pytest.raises(UnsupportedArchitectureError, match=f"takes no {kind} prompts; expected .*soft, prefix"):
        tune_examples(loaded, halves(examples), replace(QUICK, kind=kind))


@pytest.mark.parametrize("init", ["training-image", "random"])
def test_starts_for_images_are_refused(init: str, loaded: LoadedBackbone, examples: list[Example]) -> None:
    with pytest.raises(InputError, match="for texts; expected one of training-text"):
        tune_examples(loaded, halves(examples), replace(QUICK, init=init))


def test_a_validation_file_is_what_it_is_chosen_by(tiny_backbone: Path, train_file: Path, tmp_path: Path) -> None:
    validation = tmp_path / "validation.csv"
    validation.write_text("text,label\nw1 w2,red\nw30 w31,blue\n", encoding="utf-8")
    tuned = tune_prompt(tiny_backbone, train_file, tmp_path / "x.npy", validation_file=validation, settings=QUICK)
    assert tuned.card.provenance["data"]["validation_examples"] == 2
    assert tuned.card.provenance["figures"]["validation_accuracy"] == tuned.accuracy
    assert set(tuned.outcome.accuracies) <= {0.0, 0.5, 1.0}


def test_the_file_has_the_dtype_asked_for(tiny_backbone: Path, train_file: Path, tmp_path: Path) -> None:
    tune_prompt(tiny_backbone, train_file, tmp_path / "x.npy", settings=replace(QUICK, dtype="float16"))
    assert np.load(tmp_path / "x.npy").dtype == np.float16


@pytest.mark.parametrize("dropout", [True, False])
def test_the_networks_dropout_is_on_only_where_it_is_wanted(
    dropout: bool, loaded: LoadedBackbone, examples: list[Example]
) -> None:
    seen: set[bool] = set()
    hook = loaded.module.model.register_forward_hook(lambda module, *_: seen.add(module.training))
    try:
        settings = replace(QUICK, dropout=dropout, epochs=1)
        tune_examples(loaded, halves(examples), settings)
    finally:
        hook.remove()
    assert seen == ({True, False} if dropout else {False})
