"""The bundle of SmolLM2, and how much a task gets right on it."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from edge_prompt import read_bundle
from edge_prompt.base.errors import ManifestError, MissingFileError
from edge_prompt_export import export_backbone
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.generation.results import Generation
from examples.real_data import CACHE
from examples.real_language import TEMPLATE, LanguageTask, Question, smollm2

PROMPTS = Path(__file__).resolve().parent / "prompts" / "language"
BATCH_SIZE = 10
MAX_NEW_TOKENS = 48
SMOLLM2_BUNDLE = CACHE / "smollm2-bundle"


def smollm2_bundle() -> Path:
    """The bundle of SmolLM2 for both engines, exported if it is not there yet, or was by an older edge-prompt."""
    try:
        read_bundle(SMOLLM2_BUNDLE)
    except (MissingFileError, ManifestError):
        shutil.rmtree(SMOLLM2_BUNDLE, ignore_errors=True)
        export_backbone(smollm2(), SMOLLM2_BUNDLE)
    return SMOLLM2_BUNDLE


def right_share(runtime: Runtime, name: str, task: LanguageTask) -> float:
    """The share of held-out rows that are answered right under the prompt loaded as `name`, 0 to 1."""
    return _right_share(runtime, name, task, task.held)


def right_share_if_told(runtime: Runtime, task: LanguageTask) -> float:
    """The same without a prompt: the base model is told in words what to do, in its chat template."""
    told = [
        Question(TEMPLATE.replace("{text}", f"{task.instruction}\n\n{question.text}"), question.answer)
        for question in task.held
    ]
    return _right_share(runtime, None, task, told)


def _right_share(runtime: Runtime, name: str | None, task: LanguageTask, questions: Sequence[Question]) -> float:
    right = 0
    for batch in _batches(questions):
        texts = [question.text for question in batch]
        said = _classified(runtime, name, texts, task.labels) if task.labels else _said(runtime, name, texts)
        right += sum(task.is_right(text, question.answer) for text, question in zip(said, batch, strict=True))
    return right / len(questions)


def _batches(questions: Sequence[Question]) -> Iterable[list[Question]]:
    ordered = sorted(questions, key=lambda question: len(question.text))
    return (ordered[start : start + BATCH_SIZE] for start in range(0, len(ordered), BATCH_SIZE))


def _classified(runtime: Runtime, task: str | None, texts: list[str], labels: Sequence[str]) -> list[str]:
    return [answer.label for answer in runtime.classify(texts, task=task, labels=labels)]


def _said(runtime: Runtime, task: str | None, texts: list[str]) -> list[str]:
    answers = runtime.generate(texts, task=task, max_new_tokens=MAX_NEW_TOKENS)
    return [answers.text] if isinstance(answers, Generation) else [answer.text for answer in answers]
