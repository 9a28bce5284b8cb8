"""Networks other than BERT, exported for both engines; the export itself compares them with torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_prompt.base.errors import PromptShapeError
from edge_prompt.formats.bundle import TOKENIZER_NAME, Bundle
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt.untrusted.npy import write_npy
from edge_prompt_export import export_backbone
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE, check_reference

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(115)))

Checkpoint = Callable[..., Path]


def exported(checkpoint: Path, folder: Path) -> Bundle:
    bundle = export_backbone(checkpoint, folder / "bundle")
    assert bundle.manifest.parity.keys() == {"tolerance", "onnxruntime", "openvino"}
    for engine in ("onnxruntime", "openvino"):
        figures = dict(bundle.manifest.parity[engine])
        effect = figures.pop("effect")
        assert all(figures[name] <= TOLERANCE for name in ("torch", "length_0", "mixed_batch"))
        assert effect.keys() == bundle.manifest.kinds.keys()
        assert all(value > 1e-3 for value in effect.values())
        assert check_reference(bundle, engine).keys() == {"base", *bundle.manifest.kinds}
    return bundle


def test_albert_takes_virtual_tokens_of_its_embedding_size(checkpoint: Checkpoint, tmp_path: Path) -> None:
    manifest = exported(checkpoint("albert"), tmp_path).manifest
    assert manifest.kinds == {"soft": (None, 16), "prefix": (2, 2, 4, None, 8)}
    assert manifest.backbone.feature_size == 32


def test_modernbert_with_sliding_windows(checkpoint: Checkpoint, tmp_path: Path) -> None:
    manifest = exported(checkpoint("modernbert"), tmp_path).manifest
    assert isinstance(manifest.preprocessing, TextPreprocessing)
    assert manifest.preprocessing.max_positions is None
    assert manifest.refused_kinds == {}


def test_roberta_with_its_own_classifier(checkpoint: Checkpoint, tmp_path: Path) -> None:
    labels = {0: "bad", 1: "good"}
    bundle = exported(checkpoint("roberta", "text-classification", id2label=labels), tmp_path)
    assert bundle.manifest.backbone.labels == ("bad", "good")
    assert bundle.manifest.backbone.task == "text-classification"
    assert isinstance(bundle.manifest.preprocessing, TextPreprocessing)
    assert bundle.manifest.preprocessing.pad_token_id == 1
    assert bundle.manifest.preprocessing.max_positions == 510
    tokens = {"input_ids": np.array([[5, 6, 7]])}
    answers = [Runtime(bundle.folder, engine).classify(tokens)[0] for engine in ("onnxruntime", "openvino")]
    assert answers[0].label == answers[1].label
    assert answers[0].score == pytest.approx(answers[1].score, abs=1e-4)


def test_distilbert_with_its_own_token_classifier_and_a_vocabulary_of_the_older_form(
    checkpoint: Checkpoint, tmp_path: Path
) -> None:
    folder = checkpoint("distilbert", "token-classification", id2label={0: "red", 1: "green"})
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY))
    bundle = exported(folder, tmp_path)
    assert TOKENIZER_NAME in bundle.manifest.files
    for engine in ("onnxruntime", "openvino"):
        labels = Runtime(bundle.folder, engine).label_tokens("w3 w1 w4")
        assert len(labels) == 3
        assert {token.label for token in labels} <= {"red", "green"}


def test_mpnet_takes_soft_prompts_and_says_why_no_prefix(checkpoint: Checkpoint, tmp_path: Path) -> None:
    bundle = exported(checkpoint("mpnet"), tmp_path)
    assert bundle.manifest.kinds == {"soft": (None, 32)}
    assert bundle.manifest.refused_kinds == {"prefix": "MPNetModel does not dispatch its attention"}
    assert all("prefix" not in graph.inputs for graph in bundle.manifest.graphs.values())
    write_npy(tmp_path / "task.npy", np.ones((2, 2, 4, 3, 8), np.float32))
    with pytest.raises(PromptShapeError):
        Runtime(bundle.folder, "onnxruntime").load("task", tmp_path / "task.npy")
