"""Coverage-guided fuzzing of one target or all, with atheris: `python tests/fuzzing/fuzz.py TARGET --seconds 600`.

The corpus is kept in `.cache/fuzz/TARGET` and used by the next run; a failing input is written next to it. Prints one
line of JSON per target: inputs, seconds, edges and features.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from random import Random

ROOT = Path(__file__).resolve().parents[2]
REGRESSIONS = Path(__file__).parent / "corpus"

INSTRUMENTED = ("edge_prompt", "edge_prompt_runtime", "edge_prompt_export.adapters", "zipfile", "PIL")
"""What coverage is measured of: the readers, and those of others that are in Python."""

SLOWEST_SECONDS = 10
"""Of a single input; more is a hang."""

MOST_MEGABYTES = 2048
"""Of the whole process. An image may rightly take 89 million pixels of 3 or 4 bytes."""


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", help="a key of tests.fuzzing.targets.TARGETS, or all of them, one after the other")
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--runs", type=int, default=-1, help="inputs at most; -1 for no bound")
    parser.add_argument("--corpus", type=Path, default=ROOT / ".cache" / "fuzz")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    for folder in ("", "export", "runtime"):
        sys.path.insert(0, str(ROOT / folder))
    corpus = options.corpus / options.target
    if options.inside:
        fuzz(options.target, corpus, options.seconds, options.runs)
        return
    if find_spec("atheris") is None:
        sys.exit("atheris is missing; run: pip install --group fuzz (Linux on x86-64)")
    names = importlib.import_module("tests.fuzzing.targets").TARGETS if options.target == "all" else [options.target]
    failed = [name for name in names if not ran(name, options.corpus, options.seconds, options.runs)]
    if failed:
        sys.exit(f"failed: {', '.join(failed)}")


def ran(name: str, corpus: Path, seconds: int, runs: int) -> bool:
    """Run one target in a process of its own and print the outcome; return whether nothing was found."""
    (corpus / name).mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    command = [
        sys.executable,
        __file__,
        name,
        f"--seconds={seconds}",
        f"--runs={runs}",
        f"--corpus={corpus}",
        "--inside",
    ]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True, errors="replace", check=False)
    said = {"target": name, **figures(result.stderr), "seconds": round(time.monotonic() - began)}
    sys.stdout.write(json.dumps(said) + "\n")
    sys.stdout.flush()
    if result.returncode:
        sys.stderr.write(result.stderr[-6000:])
    return not result.returncode


def figures(log: str) -> dict[str, int]:
    """Parse inputs, edges and features from libFuzzer's output."""
    runs = [int(found) for found in re.findall(r"^#(\d+)", log, re.MULTILINE)]
    runs += [int(found) for found in re.findall(r"Done (\d+) runs", log)]
    last = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", log)
    edges, features, kept = map(int, last[-1]) if last else (0, 0, 0)
    return {"inputs": max(runs, default=0), "edges": edges, "features": features, "kept": kept}


def fuzz(name: str, corpus: Path, seconds: int, runs: int) -> None:
    """Run a target until it fails or the time is over; never returns."""
    import atheris

    with atheris.instrument_imports(include=list(INSTRUMENTED)):
        targets = importlib.import_module("tests.fuzzing.targets")
        errors = importlib.import_module("edge_prompt.base.errors")
        target = targets.TARGETS[name]
        for seed in target.seeds():  # late imports of readers happen here, so that they are instrumented
            folder = Path(tempfile.mkdtemp())
            target.read(seed, folder)
            shutil.rmtree(folder)
    for index, seed in enumerate(target.seeds()):
        (corpus / f"seed-{index}").write_bytes(seed)
    memory = Path("/dev/shm")  # noqa: S108 - a file that exists for an instant
    folder = Path(tempfile.mkdtemp(dir=memory if os.access(memory, os.W_OK) else None))

    def one(content: bytes) -> None:
        try:
            target.read(content, folder)
        except errors.EdgePromptError:
            return

    def mutated(content: bytes, most: int, seed: int) -> bytes:
        random = Random(seed)
        if random.random() < 0.3:
            return bytes(atheris.Mutate(content, most))
        for _ in range(random.choice((1, 1, 2, 3))):
            content = target.mutate(content, random)
        return content[:most]

    arguments = [sys.argv[0], str(corpus), f"-max_total_time={seconds}", f"-runs={runs}", "-max_len=65536"]
    arguments += [f"-timeout={SLOWEST_SECONDS}", f"-rss_limit_mb={MOST_MEGABYTES}", "-print_final_stats=1"]
    arguments += [f"-artifact_prefix={corpus.parent}/{name}-", "-len_control=0"]
    arguments += [str(path) for path in [REGRESSIONS / name] if path.is_dir()]
    atheris.Setup(arguments, one, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
