"""An environment of its own for every peer: what they pin excludes one another."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

from benchmarks.peers.places import LOGS, REQUIREMENTS, ROOT, environment, python_of

PEERS = (
    "openvino_genai",
    "onnxruntime_genai",
    "peft",
    "optimum_onnx",
    "edge_prompt_onnxruntime",
    "edge_prompt_openvino",
)
"""Each has a file of requirements of its name."""

STAMP = "installed.txt"
"""Written last, into the environment: the interpreter and the requirements it was made of."""

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "OPENVINO_TELEMETRY_OPT_OUT": "1",
}
"""No peer asks the network for anything, nor tells it anything."""


class RecipeError(RuntimeError):
    """A program that makes something for the benchmark failed; its log says why."""


def made_of(peer: str) -> str:
    """What a peer's environment is made of, as its stamp says it."""
    return f"# {sys.version}\n" + (REQUIREMENTS / f"{peer}.txt").read_text(encoding="utf-8")


def is_installed(peer: str) -> bool:
    """Whether the environment is whole and of the present requirements."""
    stamp = environment(peer) / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == made_of(peer)


def install(peer: str) -> None:
    """Make the environment anew, unless it is whole.

    Nothing is looked up but what the file names, so nothing else can come with it.

    Raises:
        RecipeError: pip failed.
    """
    if is_installed(peer):
        return
    folder = environment(peer)
    venv.create(folder, clear=True, with_pip=True)
    pip = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps")
    logged(f"install-{peer}", peer, (*pip, "-r", str(REQUIREMENTS / f"{peer}.txt")))
    (folder / STAMP).write_text(made_of(peer), encoding="utf-8")


def interpreter_of(peer: str | None) -> Path:
    """The interpreter of a peer's environment, or this one's if None."""
    return Path(sys.executable) if peer is None else python_of(peer)


def surroundings(peer: str | None) -> dict[str, str]:
    """The variables that a program of the peer, or of ours if None, runs with: offline, with this project's files."""
    folders = (ROOT, ROOT / "export", ROOT / "runtime") if peer is None else (ROOT,)
    return {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join(map(str, folders))}


def logged(name: str, peer: str | None, arguments: Sequence[str]) -> None:
    """Run a program in a peer's environment, or in this one if None; what it prints goes to the log `name`.

    Raises:
        RecipeError: It failed.
    """
    LOGS.mkdir(parents=True, exist_ok=True)
    log = LOGS / f"{name}.log"
    with log.open("w", encoding="utf-8") as output:
        ended = subprocess.run(
            [interpreter_of(peer), *arguments],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=surroundings(peer),
            cwd=ROOT,
            check=False,
        )
    if ended.returncode:
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["(no output)"]
        message = f"{name} failed: {lines[-1][-300:]} (all of it in {log})"
        raise RecipeError(message)
