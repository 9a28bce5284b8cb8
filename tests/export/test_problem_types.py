"""What a classifier's logits mean, compared with transformers' pipelines on the same checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import (
    AutoConfig,
    AutoTokenizer,
    BertForSequenceClassification,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
    pipeline,
)

from edge_prompt import read_bundle, read_prompt
from edge_prompt.base.errors import BackboneError, ManifestError, TrainingDataError
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt_export import export_backbone, tune_prompt
from edge_prompt_export.training.settings import TuneSettings
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.engines.base import ENGINES
from tests.conftest import BuildOnce, MakePrompt

CASES = {
    "regression": (1, "regression"),
    "one_logit": (1, None),
    "several_labels": (3, "multi_label_classification"),
    "several_numbers": (2, "regression"),
    "one_of_three": (3, "single_label_classification"),
    "unnamed": (3, None),
}
TEXT = "oil prices rose after the cut"
PIXELS = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)


def write_text_classifier(folder: Path, template: Path, num_labels: int, problem_type: str | None) -> None:
    """A random BERT whose logits are far from 0, with the tokenizer of `template`."""
    shutil.copytree(template, folder)
    config = AutoConfig.from_pretrained(template, num_labels=num_labels, problem_type=problem_type)
    with torch.random.fork_rng():
        torch.manual_seed(num_labels)
        network = BertForSequenceClassification(config)
        torch.nn.init.normal_(network.classifier.weight, std=1.0)
    network.save_pretrained(folder)


def write_image_classifier(folder: Path, num_labels: int, problem_type: str | None) -> None:
    """A random ViT whose logits are far from 0."""
    config = ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, image_size=32, patch_size=8,
        num_labels=num_labels, problem_type=problem_type,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(num_labels)
        network = ViTForImageClassification(config)
        torch.nn.init.normal_(network.classifier.weight, std=1.0)
    network.save_pretrained(folder)
    ViTImageProcessorPil(size={"height": 32, "width": 32}).save_pretrained(folder)


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_texts_get_the_scores_of_the_pipeline(
    case: str, build_once: BuildOnce, tiny_classifier: Path, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "network"
    write_text_classifier(checkpoint, tiny_classifier, *CASES[case])
    bundle = build_once(f"text_{case}_bundle", lambda folder: export_backbone(checkpoint, folder))
    network = BertForSequenceClassification.from_pretrained(checkpoint).eval()
    classify = pipeline("text-classification", model=network, tokenizer=AutoTokenizer.from_pretrained(checkpoint))
    wanted = {one["label"]: one["score"] for one in classify(TEXT, top_k=None)}
    for engine in ENGINES:
        found = Runtime(bundle, engine, threads=1).classify(TEXT)
        assert found.scores == pytest.approx(wanted, abs=1e-4)
        assert found.score == max(found.scores.values())


def test_images_get_the_scores_of_the_pipeline(case: str, build_once: BuildOnce, tmp_path: Path) -> None:
    checkpoint = tmp_path / "network"
    write_image_classifier(checkpoint, *CASES[case])
    bundle = build_once(f"image_{case}_bundle", lambda folder: export_backbone(checkpoint, folder))
    network = ViTForImageClassification.from_pretrained(checkpoint).eval()
    processor = ViTImageProcessorPil.from_pretrained(checkpoint)
    classify = pipeline("image-classification", model=network, image_processor=processor)
    # before transformers 5.23, this pipeline did not look for a regression
    options = {"function_to_apply": "none"} if CASES[case][1] == "regression" else {}
    wanted = {one["label"]: one["score"] for one in classify(Image.fromarray(PIXELS), top_k=None, **options)}
    for engine in ENGINES:
        assert Runtime(bundle, engine, threads=1).classify(Image.fromarray(PIXELS)).scores == pytest.approx(
            wanted, abs=1e-4
        )


@pytest.mark.parametrize(
    ("classes", "problem_type"), [(1, None), (1, "regression"), (3, "multi_label_classification"), (3, None)]
)
def test_the_head_of_a_task_means_what_its_card_says(
    make_prompt: MakePrompt, tiny_bundle: Path, classes: int, problem_type: str | None
) -> None:
    path = make_prompt("task", classes=classes, problem_type=problem_type)
    prompt = read_prompt(path)
    assert prompt.head is not None
    runtime = Runtime(tiny_bundle, "onnxruntime", threads=1)
    runtime.load("task", path)
    features = runtime.infer({"input_ids": np.array([[2, 7, 8, 3]])}, "task")["features"][0]
    logits = torch.from_numpy(prompt.head.logits(features))
    wanted = {
        (1, None): logits.sigmoid(),
        (1, "regression"): logits,
        (3, "multi_label_classification"): logits.sigmoid(),
        (3, None): logits.softmax(0),
    }[classes, problem_type]
    found = runtime.classify({"input_ids": np.array([[2, 7, 8, 3]])}, "task")[0]
    np.testing.assert_allclose(list(found.scores.values()), wanted.numpy(), atol=1e-5)


def test_an_unknown_problem_type_is_refused(tmp_path: Path, tiny_classifier_bundle: Path) -> None:
    bundle = shutil.copytree(tiny_classifier_bundle, tmp_path / "bundle")
    manifest = json.loads((bundle / MANIFEST_NAME).read_text(encoding="utf-8"))
    manifest["backbone"]["problem_type"] = "ranking"
    (bundle / MANIFEST_NAME).write_text(json.dumps(manifest), encoding="utf-8")
    with pytest.raises(ManifestError, match="'problem_type' is 'ranking'"):
        read_bundle(bundle)


def test_an_unknown_problem_type_of_a_checkpoint_is_refused(tmp_path: Path, tiny_classifier: Path) -> None:
    checkpoint = shutil.copytree(tiny_classifier, tmp_path / "network")
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8")) | {"problem_type": "ranking"}
    (checkpoint / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(BackboneError, match="ranking"):
        export_backbone(checkpoint, tmp_path / "bundle")
    assert not (tmp_path / "bundle").exists()


def test_a_head_of_several_labels_is_not_tuned_with_one_label_per_text(tmp_path: Path, tiny_classifier: Path) -> None:
    checkpoint, rows = tmp_path / "network", tmp_path / "rows.csv"
    write_text_classifier(checkpoint, tiny_classifier, 3, "multi_label_classification")
    rows.write_text("text,label\n" + "".join(f"w{row},LABEL_{row % 3}\n" for row in range(12)), encoding="utf-8")
    with pytest.raises(TrainingDataError, match="multi_label_classification"):
        tune_prompt(checkpoint, rows, tmp_path / "task.npy", settings=TuneSettings(virtual_tokens=4, head="own"))
    assert not (tmp_path / "task.npy").exists()
