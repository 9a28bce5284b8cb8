"""The bundle of SmolLM2, and the accuracy of its tasks."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

import edge_prompt_export
from edge_prompt import read_bundle
from edge_prompt.base.errors import ManifestError, MissingFileError
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.generation.results import Generation
from examples.real_data import CACHE
from examples.real_language import TEMPLATE, LanguageTask, Question, smollm2

PROMPTS = Path(__file__).resolve().parent / "prompts" / "language"
BATCH_SIZE = 10
MAX_NEW_TOKENS = 48
SMOLLM2_BUNDLE = CACHE / "smollm2-bundle"


def smollm2_bundle() -> Path:
    """The bundle of SmolLM2 for both engines; exported if there is none, or one of an older edge-prompt."""
    if not is_bundle(SMOLLM2_BUNDLE):
        export_smollm2(SMOLLM2_BUNDLE)
    return SMOLLM2_BUNDLE


def is_bundle(folder: Path) -> bool:
    """Whether there is a bundle in `folder` that this version reads."""
    try:
        read_bundle(folder)
    except (MissingFileError, ManifestError):
        return False
    return True


def export_smollm2(folder: Path, formats: Sequence[str] = ("onnx", "openvino")) -> None:
    """Export SmolLM2 to `folder`, replacing what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    edge_prompt_export.export_backbone(smollm2(), folder, formats=formats)


def right_share(runtime: Runtime, name: str, task: LanguageTask) -> float:
    """The share of held-out rows that are answered correctly under the prompt loaded as `name`, 0 to 1."""
    return right_rows(runtime, name, task, task.held) / len(task.held)


def right_share_if_told(runtime: Runtime, task: LanguageTask) -> float:
    """The same without a prompt: the base model is asked in words, in its chat template."""
    told = [Question(in_words(task, question.text), question.answer) for question in task.held]
    return right_rows(runtime, None, task, told) / len(told)


def in_words(task: LanguageTask, text: str) -> str:
    """The request to the base model: the task's instruction and `text`, in the model's chat template."""
    return TEMPLATE.replace("{text}", f"{task.instruction}\n\n{text}")


def right_rows(runtime: Runtime, name: str | None, task: LanguageTask, questions: Sequence[Question]) -> int:
    """The number of `questions` answered correctly under the prompt loaded as `name`; None is the base model."""
    right = 0
    for batch in _batches(questions):
        texts = [question.text for question in batch]
        said = _classified(runtime, name, texts, task.labels) if task.labels else _said(runtime, name, texts)
        right += sum(task.is_right(text, question.answer) for text, question in zip(said, batch, strict=True))
    return right


def _batches(questions: Sequence[Question]) -> Iterable[list[Question]]:
    ordered = sorted(questions, key=lambda question: len(question.text))
    return (ordered[start : start + BATCH_SIZE] for start in range(0, len(ordered), BATCH_SIZE))


def _classified(runtime: Runtime, task: str | None, texts: list[str], labels: Sequence[str]) -> list[str]:
    return [answer.label for answer in runtime.classify(texts, task=task, labels=labels)]


def _said(runtime: Runtime, task: str | None, texts: list[str]) -> list[str]:
    answers = runtime.generate(texts, task=task, max_new_tokens=MAX_NEW_TOKENS)
    return [answers.text] if isinstance(answers, Generation) else [answer.text for answer in answers]
