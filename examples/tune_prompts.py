"""Tune the prompts in `examples/prompts/`, on all of each task's training texts.

python examples/tune_prompts.py            # most of an hour on two cores
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from edge_prompt_export.tuning.tune import TuneSettings, tune_prompt
from examples.real_data import TEXT_TASKS, minilm, text_task

PROMPTS = Path(__file__).resolve().parent / "prompts"
SETTINGS = TuneSettings(epochs=3, max_tokens=64, precision="bf16", dtype="float16")


class _Printed:
    """Tells how tuning goes, an epoch a line."""

    def step(self, step: int, steps: int, loss: float) -> None:
        pass

    def epoch(self, epoch: int, accuracy: float, *, best: bool) -> None:
        print(f"epoch {epoch}: validation accuracy {accuracy:.1%}{' (best)' if best else ''}", flush=True)


def main(names: list[str]) -> None:
    """Tune the tasks `names`, or all."""
    for name in names or TEXT_TASKS:
        with tempfile.TemporaryDirectory() as folder:
            train_file = Path(folder) / f"{name}.jsonl"
            lines = (json.dumps({"text": row.text, "label": row.label}) for row in text_task(name).train)
            train_file.write_text("\n".join(lines), encoding="utf-8")
            tuned = tune_prompt(minilm(), train_file, PROMPTS / f"{name}.npy", settings=SETTINGS, observer=_Printed())
        print(f"{name}: validation accuracy {tuned.accuracy:.1%}")


if __name__ == "__main__":
    main(sys.argv[1:])
