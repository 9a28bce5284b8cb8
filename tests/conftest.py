"""Fixtures of many tests: a tiny random backbone, its bundle for both engines, and prompts for it."""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from hypothesis import settings
from numpy.typing import NDArray

from edge_prompt import Head, read_bundle, write_prompt
from edge_prompt_runtime.engines.base import ENGINES
from tests.deprecations import our_deprecations_are_errors
from tests.tiny.language import write_tiny_language

settings.register_profile("untimed", deadline=None)  # a failure on a busy machine would mean nothing
settings.load_profile("untimed")

WORDS = tuple(f"w{number}" for number in range(195))
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
HIDDEN_SIZE, LAYERS, HEADS, POSITIONS, MAX_TOKENS = 32, 2, 4, 64, 48

BuildOnce = Callable[[str, Callable[[Path], object]], Path]
MakePrompt = Callable[..., Path]
MakeImage = Callable[..., Path]
AssertClose = Callable[[NDArray[Any], NDArray[Any]], None]


@pytest.fixture(scope="session", autouse=True)
def _no_deprecated_calls() -> Iterator[None]:
    with our_deprecations_are_errors():
        yield


@pytest.fixture(autouse=True)
def _loggers_as_they_were() -> Iterator[None]:
    """Restore our loggers, which a command changes to show progress."""
    loggers = [logging.getLogger(name) for name in ("edge_prompt", "edge_prompt_export")]
    before = [(logger.level, logger.propagate, list(logger.handlers)) for logger in loggers]
    yield
    for logger, (level, propagate, handlers) in zip(loggers, before, strict=True):
        logger.setLevel(level)
        logger.propagate, logger.handlers[:] = propagate, handlers


@pytest.fixture(scope="session")
def build_once(tmp_path_factory: pytest.TempPathFactory) -> BuildOnce:
    """Build a folder once for all workers: `build_once(name, build)` calls `build(folder)` if the folder is missing."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def built(name: str, build: Callable[[Path], object]) -> Path:
        folder, done = shared / name, shared / f"{name}.done"
        with FileLock(shared / f"{name}.lock"):
            if not done.exists():
                build(folder)
                done.touch()
        return folder

    return built


@pytest.fixture(scope="session")
def tiny_backbone(build_once: BuildOnce) -> Path:
    """The folder of a random BERT without a head of its own."""
    return build_once("tiny_backbone", lambda folder: write_tiny_bert(folder, "BertModel"))


@pytest.fixture(scope="session")
def tiny_classifier(build_once: BuildOnce) -> Path:
    """The folder of a random BERT with its own head for three classes of texts."""
    return build_once("tiny_classifier", lambda folder: write_tiny_bert(folder, "BertForSequenceClassification"))


@pytest.fixture(scope="session")
def tiny_tagger(build_once: BuildOnce) -> Path:
    """The folder of a random BERT with its own head for three classes of tokens."""
    return build_once("tiny_tagger", lambda folder: write_tiny_bert(folder, "BertForTokenClassification"))


@pytest.fixture(scope="session")
def tiny_bundle(build_once: BuildOnce, tiny_backbone: Path) -> Path:
    """The bundle of `tiny_backbone` for both engines; do not modify it."""
    return build_once("tiny_bundle", lambda folder: export(tiny_backbone, folder))


@pytest.fixture(scope="session")
def tiny_classifier_bundle(build_once: BuildOnce, tiny_classifier: Path) -> Path:
    """The bundle of `tiny_classifier` for both engines; do not modify it."""
    return build_once("tiny_classifier_bundle", lambda folder: export(tiny_classifier, folder))


@pytest.fixture(scope="session")
def tiny_tagger_bundle(build_once: BuildOnce, tiny_tagger: Path) -> Path:
    """The bundle of `tiny_tagger` for both engines; do not modify it."""
    return build_once("tiny_tagger_bundle", lambda folder: export(tiny_tagger, folder))


@pytest.fixture(scope="session")
def tiny_image_bundle(build_once: BuildOnce) -> Path:
    """The bundle of a random ViT that classifies images of 32 x 32 into three classes; do not modify it."""
    return build_once("tiny_image_bundle", lambda folder: export_image_network(folder, "ViTForImageClassification"))


@pytest.fixture(scope="session")
def tiny_detector_bundle(build_once: BuildOnce) -> Path:
    """The bundle of a random YOLOS that detects three classes in images of any size; do not modify it."""
    return build_once("tiny_detector_bundle", lambda folder: export_image_network(folder, "YolosForObjectDetection"))


@pytest.fixture(scope="session")
def tiny_segmenter_bundle(build_once: BuildOnce) -> Path:
    """The bundle of a random SegFormer that labels pixels with three classes; do not modify it."""
    return build_once(
        "tiny_segmenter_bundle", lambda folder: export_image_network(folder, "SegformerForSemanticSegmentation")
    )


@pytest.fixture(scope="session")
def tiny_language(build_once: BuildOnce) -> Path:
    """The folder of a random causal language model with grouped-query attention."""
    return build_once("tiny_language", write_tiny_language)


@pytest.fixture(scope="session")
def tiny_language_bundle(build_once: BuildOnce, tiny_language: Path) -> Path:
    """The bundle of `tiny_language` for both engines; do not modify it."""
    return build_once("tiny_language_bundle", lambda folder: export(tiny_language, folder))


@pytest.fixture
def make_image(tmp_path: Path) -> MakeImage:
    """Write a picture: `make_image("cat", 40, 30)` returns the path of a PNG of that height and width."""
    from PIL import Image

    def made(name: str, height: int = 40, width: int = 30) -> Path:
        random = np.random.default_rng(sum(name.encode()))
        path = tmp_path / f"{name}.png"
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).save(path)
        return path

    return made


@pytest.fixture
def bundle_copy(tmp_path: Path, tiny_bundle: Path) -> Path:
    """A copy of `tiny_bundle` to tamper with."""
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture(params=tuple(ENGINES))
def engine(request: pytest.FixtureRequest) -> str:
    """The name of each engine in turn."""
    return str(request.param)


@pytest.fixture
def make_prompt(tmp_path: Path, tiny_bundle: Path) -> MakePrompt:
    """Write a random prompt with its card: `make_prompt("spam", "prefix", length=4, classes=3)` returns its path."""

    def made(
        name: str, kind: str = "soft", *, length: int = 5, classes: int = 0, bundle: Path = tiny_bundle, **card: Any
    ) -> Path:
        manifest = read_bundle(bundle).manifest
        shape = tuple(length if axis is None else axis for axis in manifest.kinds[kind])
        random = np.random.default_rng(sum(name.encode()))
        if classes:
            card.setdefault("labels", tuple(f"{name}_{index}" for index in range(classes)))
            card["head"] = Head(
                floats(random, classes, manifest.backbone.feature_size),
                floats(random, classes),
            )
        path = tmp_path / "prompts" / f"{name}.npy"
        write_prompt(path, floats(random, *shape), kind, manifest.backbone.fingerprint, **card)
        return path

    return made


def floats(random: np.random.Generator, *shape: int) -> NDArray[np.float32]:
    """Normally distributed numbers."""
    return random.standard_normal(shape, dtype=np.float32)


def export(backbone: Path, bundle: Path) -> None:
    """Export a backbone for both engines."""
    from edge_prompt_export import export_backbone

    export_backbone(backbone, bundle)


IMAGE_NETWORKS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "ViTForImageClassification": ({"image_size": 32, "patch_size": 8}, {"size": {"height": 32, "width": 32}}),
    "YolosForObjectDetection": (
        {"image_size": [32, 48], "patch_size": 16, "num_detection_tokens": 7},
        {"size": {"shortest_edge": 32, "longest_edge": 96}},
    ),
    "SegformerForSemanticSegmentation": (
        {"depths": [1, 1], "num_encoder_blocks": 2, "sr_ratios": [2, 1], "hidden_sizes": [16, 32]}
        | {"patch_sizes": [7, 3], "strides": [4, 2], "mlp_ratios": [2, 2], "num_attention_heads": [2, 4]}
        | {"decoder_hidden_size": 16},
        {"size": {"height": 32, "width": 48}},
    ),
}
"""What a tiny network of each class and its image processor are made of, beside the sizes that all share."""


def export_image_network(bundle: Path, architecture: str) -> None:
    """Export a random image network of the class `architecture`, with the image processor of its family."""
    backbone = bundle.with_name(f"{bundle.name}_backbone")
    write_tiny_image_network(backbone, architecture)
    export(backbone, bundle)


def write_tiny_image_network(folder: Path, architecture: str) -> None:
    """Write a random image network of the given class, with the image processor of its family."""
    from importlib import import_module

    import torch
    import transformers

    family = architecture.partition("For")[0]
    network, processor = IMAGE_NETWORKS[architecture]
    if family != "Segformer":
        network = network | {"hidden_size": HIDDEN_SIZE, "num_hidden_layers": LAYERS, "intermediate_size": 64}
        network |= {"num_attention_heads": HEADS}
    labels = {0: "red", 1: "green", 2: "blue"}
    config = getattr(transformers, f"{family}Config")(
        **network, initializer_range=0.2, id2label=labels, label2id={label: index for index, label in labels.items()}
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, architecture)(config).save_pretrained(folder)
    module = import_module(f"transformers.models.{family.lower()}.image_processing_pil_{family.lower()}")
    getattr(module, f"{family}ImageProcessorPil")(**processor).save_pretrained(folder)


def write_tiny_bert(folder: Path, architecture: str) -> None:
    """Write a random BERT of the given class, with a tokenizer whose words are `w0`, `w1`, …"""
    import torch
    import transformers

    vocabulary = [*SPECIAL_TOKENS, *WORDS]
    config = transformers.BertConfig(
        vocab_size=len(vocabulary),
        hidden_size=HIDDEN_SIZE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=2 * HIDDEN_SIZE,
        max_position_embeddings=POSITIONS,
        initializer_range=0.2,
        id2label={0: "red", 1: "green", 2: "blue"},
        label2id={"red": 0, "green": 1, "blue": 2},
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        getattr(transformers, architecture)(config).save_pretrained(folder)
    write_tiny_tokenizer(folder, vocabulary)


def write_tiny_tokenizer(folder: Path, vocabulary: list[str]) -> None:
    """Write a tokenizer of whole words, in the files that transformers and the runtime read."""
    import tokenizers

    numbers = {token: number for number, token in enumerate(vocabulary)}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(numbers, unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.Lowercase()
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(token, numbers[token]) for token in ("[CLS]", "[SEP]")],
    )
    tokenizer.add_special_tokens(list(SPECIAL_TOKENS))
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {
        "tokenizer_class": "BertTokenizerFast",
        "model_max_length": MAX_TOKENS,
        "pad_token": "[PAD]",
        "unk_token": "[UNK]",
        "cls_token": "[CLS]",
        "sep_token": "[SEP]",
        "mask_token": "[MASK]",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
