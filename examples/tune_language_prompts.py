"""Tune the prompts in `examples/prompts/language/`, and write on their cards what they do on held-out rows.

python examples/tune_language_prompts.py            # some ten minutes on two cores that do nothing else
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from edge_prompt.formats.card import card_path, read_card, write_card
from edge_prompt_export import TuneSettings, tune_prompt
from edge_prompt_export.training.metrics import Metrics
from edge_prompt_runtime import Runtime
from examples.language_scores import PROMPTS, right_share, right_share_if_told, smollm2_bundle
from examples.real_language import LANGUAGE_TASKS, TEMPLATE, language_task, smollm2

SETTINGS = TuneSettings(
    kind="soft", virtual_tokens=16, epochs=2, batch_size=8, template=TEMPLATE, precision="bf16", dtype="float16"
)


class _Printed:
    """Tells how tuning goes, a line every ten steps."""

    def step(self, step: int, steps: int, loss: float) -> None:
        if step % 10 == 0:
            print(f"step {step} of {steps}: loss {loss:.3f}", flush=True)

    def epoch(self, epoch: int, figures: Metrics, *, best: bool) -> None:
        pass


def main(names: list[str]) -> None:
    """Tune and measure the tasks `names`, or all."""
    for name in names or LANGUAGE_TASKS:
        tune(name)
        measure(name)


def tune(name: str) -> None:
    """Tune the prompt of a task."""
    task = language_task(name)
    fields = ("text", "label") if task.labels else ("prompt", "completion")
    with tempfile.TemporaryDirectory() as folder:
        train_file = Path(folder) / f"{name}.jsonl"
        lines = (json.dumps(dict(zip(fields, question, strict=True))) for question in task.train)
        train_file.write_text("\n".join(lines), encoding="utf-8")
        tune_prompt(smollm2(), train_file, PROMPTS / f"{name}.npy", settings=SETTINGS, observer=_Printed())


def measure(name: str) -> None:
    """Write on the card of a task what it does on the device on held-out rows, and what the base model does if told."""
    runtime = Runtime(smollm2_bundle(), "onnxruntime")
    path, task = PROMPTS / f"{name}.npy", language_task(name)
    runtime.load(name, path)
    card = read_card(card_path(path))
    held = {
        "rows": len(task.held),
        "right": round(right_share(runtime, name, task), 3),
        "right_without_prompt_but_told": round(right_share_if_told(runtime, task), 3),
        "right_means": task.means,
        "network": "SmolLM2-135M-Instruct, de-quantised from 4 bits",
    }
    print(f"{name}: {held}", flush=True)
    write_card(card_path(path), replace(card, provenance={**card.provenance, "held_out": held}))


if __name__ == "__main__":
    main(sys.argv[1:])
