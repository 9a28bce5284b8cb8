"""A folder of results of benchmarks, and the records of the runs that made them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

from edge_prompt.base.errors import EdgePromptError
from edge_prompt.storage.files import written_atomically
from edge_prompt_runtime.bench.results import Results, read_results

LOGS = "logs"
RUNS = f"{LOGS}/runs.json"


@dataclass(frozen=True)
class Run:
    """One run of a script.

    Attributes:
        name: The script's name without its suffix.
        begun: Start, ISO 8601 in UTC.
        seconds: Duration.
        failed: Why it failed, as a sentence; empty if it did not.
        quick: Whether it was a quick run.
    """

    name: str
    begun: str
    seconds: float
    failed: str = ""
    quick: bool = False


class Folder(NamedTuple):
    """The contents of a folder.

    Attributes:
        results: Results by benchmark, in the order of the report.
        files: The bytes of each file of results, by the same names.
        unreadable: Files that are not results, and why.
        runs: Records of runs, by name.
    """

    results: dict[str, Results]
    files: dict[str, bytes]
    unreadable: dict[str, str]
    runs: dict[str, Run]


def read_folder(folder: Path, order: tuple[str, ...] = ()) -> Folder:
    """Read all files of results, those named in `order` first.

    Args:
        folder: Folder of `NAME.json`, and of `logs/runs.json` if there is one.
        order: Names of benchmarks.
    """
    results: dict[str, Results] = {}
    files: dict[str, bytes] = {}
    unreadable: dict[str, str] = {}
    places = {name: place for place, name in enumerate(order)}
    for path in sorted(folder.glob("*.json"), key=lambda one: (places.get(one.stem, len(places)), one.name)):
        try:
            found = read_results(path)
            results[path.stem], files[path.stem] = found, path.read_bytes()
        except (EdgePromptError, OSError) as error:
            unreadable[path.name] = str(error)
    return Folder(results, files, unreadable, read_runs(folder))


def read_runs(folder: Path) -> dict[str, Run]:
    """Read the record of the last run of each script; empty if there is none that this version can read."""
    try:
        rows = json.loads((folder / RUNS).read_text(encoding="utf-8"))
        return {str(row["name"]): Run(**row) for row in rows}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def write_runs(folder: Path, runs: Mapping[str, Run]) -> None:
    """Record runs.

    Raises:
        WriteError: The record cannot be written.
    """
    (folder / LOGS).mkdir(parents=True, exist_ok=True)
    with written_atomically(folder / RUNS) as stream:
        stream.write(json.dumps([asdict(run) for run in runs.values()], indent=1).encode())
