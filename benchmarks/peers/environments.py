"""An environment of its own for every peer, because their pinned requirements exclude one another."""

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
"""Each has a requirements file of its name."""

STAMP = "installed.txt"
"""The last file written into an environment; it records interpreter and requirements."""

QUIET = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "TRANSFORMERS_VERBOSITY": "error",
    "OPENVINO_TELEMETRY_OPT_OUT": "1",
}
"""Peers run offline and without telemetry."""


class RecipeError(RuntimeError):
    """A program that prepares something for the benchmark failed; its log has the details."""


def made_of(peer: str) -> str:
    """Return the inputs of a peer's environment, as its stamp records them."""
    return f"# {sys.version}\n" + (REQUIREMENTS / f"{peer}.txt").read_text(encoding="utf-8")


def is_installed(peer: str) -> bool:
    """Whether the environment is complete and made of the current requirements."""
    stamp = environment(peer) / STAMP
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == made_of(peer)


def install(peer: str) -> None:
    """Create the environment again unless it is complete.

    Dependencies are not resolved: only what the file names is installed.

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
    """Return the interpreter of a peer's environment, or this one if `peer` is None."""
    return Path(sys.executable) if peer is None else python_of(peer)


def surroundings(peer: str | None) -> dict[str, str]:
    """Return the variables of a program of the peer, or of ours if None: offline, with this project's files."""
    folders = (ROOT, ROOT / "export", ROOT / "runtime") if peer is None else (ROOT,)
    return {**os.environ, **QUIET, "PYTHONPATH": os.pathsep.join(map(str, folders))}


def logged(name: str, peer: str | None, arguments: Sequence[str]) -> None:
    """Run a program in a peer's environment, or in this one if None; its output goes to the log `name`.

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
        message = f"{name} failed: {lines[-1][-300:]} (full log: {log})"
        raise RecipeError(message)
