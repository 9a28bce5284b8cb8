"""How light is the device side? Beside the engine alone, for each engine.

    python benchmarks/device_install.py

Builds the wheel, makes two fresh environments an engine (the engine alone, and `edge-prompt[engine]`), and prints what
the second has more in bytes and packages, how many modules `import edge_prompt_runtime` loads, and how long that import
takes beside the engine's own; the imports take turns, each in a process of its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from edge_prompt_runtime.engines import ENGINES

ROOT = Path(__file__).resolve().parent.parent

_IMPORT = """
import sys, time
before = set(sys.modules)
start = time.perf_counter()
import {module}
elapsed = time.perf_counter() - start
import json
loaded = set(sys.modules) - before
packages = {name.partition(".")[0] for name in loaded if not name.startswith("_")}
print(json.dumps([elapsed, len(loaded), sorted(packages)]))
"""


def make_environment(folder: Path, requirement: str) -> Path:
    """A fresh environment with `requirement`; gives its Python."""
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", requirement], check=True)
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "setuptools"], check=True)
    return python


def size_bytes(python: Path) -> int:
    """The bytes of all files in the environment's site-packages but pip's and compiled caches."""
    packages = next((python.parent.parent / "lib").glob("python*/site-packages"))
    files = (path for path in packages.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in files if not path.relative_to(packages).parts[0].startswith("pip"))


def packages_of(python: Path) -> set[str]:
    """The names of the installed distributions."""
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"], check=True, capture_output=True)
    return {row["name"] for row in json.loads(listed.stdout)} - {"pip"}


def import_once(python: Path, module: str) -> tuple[float, int, list[str]]:
    """Seconds of the import, how many modules it loaded, and the packages they belong to."""
    code = _IMPORT.replace("{module}", module)
    ended = subprocess.run([python, "-c", code], check=True, capture_output=True)
    seconds, modules, packages = json.loads(ended.stdout)
    return seconds, modules, packages


def measure(engine: str, wheel: Path, folder: Path, rounds: int) -> dict[str, str]:
    """The figures of one engine, ready to print."""
    alone = make_environment(folder / f"{engine}-alone", engine)
    ours = make_environment(folder / f"{engine}-ours", f"{wheel}[{engine}]")
    times: dict[str, list[float]] = {"edge_prompt_runtime": [], engine: []}
    for _ in range(rounds):
        for module, seconds in times.items():
            seconds.append(import_once(ours, module)[0])
    medians = {module: 1000 * statistics.median(seconds) for module, seconds in times.items()}
    _, modules, packages = import_once(ours, "edge_prompt_runtime")
    standard = sys.stdlib_module_names
    return {
        "engine alone, bytes": f"{size_bytes(alone):,}",
        "more with edge-prompt, bytes": f"{size_bytes(ours) - size_bytes(alone):,}",
        "edge-prompt itself, bytes": f"{wheel.stat().st_size:,} (wheel)",
        "more packages": ", ".join(sorted(packages_of(ours) - packages_of(alone))),
        "modules loaded by the import": str(modules),
        "packages loaded by the import": ", ".join(name for name in packages if name not in standard),
        "import edge_prompt_runtime, ms": f"{medians['edge_prompt_runtime']:.0f}",
        "import of the engine alone, ms": f"{medians[engine]:.0f}",
        "ratio": f"{medians['edge_prompt_runtime'] / medians[engine]:.2f}",
    }


@click.command()
@click.option("--rounds", default=15, show_default=True, help="Imports that are timed.")
def main(rounds: int) -> None:
    """Print a table of sizes and import times."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)]
        subprocess.run(build, check=True)
        wheel = next(folder.glob("*.whl"))
        columns = {engine: measure(engine, wheel, folder, rounds) for engine in ENGINES}
    table = Table("figure", *columns)
    for row in next(iter(columns.values())):
        table.add_row(row, *(figures[row] for figures in columns.values()))
    Console().print(table)


if __name__ == "__main__":
    main()
