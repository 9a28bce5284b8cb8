"""Tune the prompts in `examples/prompts/`, on all of each task's training texts.

python examples/tune_prompts.py            # most of an hour on two cores
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from edge_prompt_export import TuneSettings, tune_prompt
from examples.real_data import TEXT_TASKS, minilm, text_task

PROMPTS = Path(__file__).resolve().parent / "prompts"
SETTINGS = TuneSettings(
    virtual_tokens=16,  # a quarter of the default: these lie in the repository
    epochs=3,
    learning_rate=3e-2,
    head_learning_rate=3e-3,
    max_tokens=64,
    dropout=False,
    precision="bf16",
)


def main(names: list[str]) -> None:
    """Tune the tasks `names`, or all."""
    for name in names or TEXT_TASKS:
        with tempfile.TemporaryDirectory() as folder:
            train_file = Path(folder) / f"{name}.jsonl"
            lines = (json.dumps({"text": row.text, "label": row.label}) for row in text_task(name).train)
            train_file.write_text("\n".join(lines), encoding="utf-8")
            tuned = tune_prompt(minilm(), train_file, PROMPTS / f"{name}.npy", settings=SETTINGS)
        print(f"{tuned.path}: {tuned.path.stat().st_size:,} bytes", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
