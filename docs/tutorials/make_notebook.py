"""Turns the first tutorial's page into its notebook: `python docs/tutorials/make_notebook.py`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parent / "peft_to_device.md"
NOTEBOOK = PAGE.with_suffix(".ipynb")

_FENCE = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ON_THE_DEVICE = ("scp", "ssh")


def notebook_of(page: str) -> str:
    """Return the notebook of a page: its prose as Markdown cells, its code as cells that run.

    Shell commands run with `!`; commands that copy to a device or run there stay text, as a notebook has no device.
    """
    cells: list[dict[str, Any]] = []
    end = 0
    for fence in _FENCE.finditer(page):
        _add(cells, "markdown", page[end : fence.start()])
        language, code = fence[1], fence[2]
        if language == "python":
            _add(cells, "code", code)
        elif code.startswith(_ON_THE_DEVICE):
            _add(cells, "markdown", fence[0])
        else:
            _add(cells, "code", "".join(f"!{line}" for line in code.splitlines(keepends=True)))
        end = fence.end()
    _add(cells, "markdown", page[end:])
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _add(cells: list[dict[str, Any]], kind: str, text: str) -> None:
    if not text.strip():
        return
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{len(cells)}", "metadata": {}}
    if kind == "code":
        cell |= {"execution_count": None, "outputs": []}
    cells.append(cell | {"source": text.strip("\n").splitlines(keepends=True)})


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook_of(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
