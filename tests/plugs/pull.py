"""Kill whole commands at random moments: `python -m tests.plugs.pull [--kills N] [--seed N] [COMMAND …]`.

Everything is imported once. Each command then runs in a fork, on tiny networks, and is killed at a random moment of its
run or, every other time, of the part of its run that writes files. Then its files are read, and written again.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from edge_prompt import Head, read_bundle, read_prompt, write_prompt
from edge_prompt.base.errors import AdapterError, MissingFileError
from edge_prompt.cli import COMMANDS, main
from edge_prompt.formats.manifest import LanguageManifest
from edge_prompt.storage.files import folder_written_atomically, read_json, sha256_of
from edge_prompt.untrusted.npy import read_npz, write_npz
from edge_prompt_runtime.language.compiled_files import arrays_path, card_path, read_compiled

NETWORKS = """
import sys
from pathlib import Path
from tests import conftest, tiny_language
folder = Path(sys.argv[1])
conftest.write_tiny_bert(folder / "bert", "BertModel")
conftest.write_tiny_image_network(folder / "vit", "ViTForImageClassification")
tiny_language.write_tiny_language(folder / "lm")
for name in ("bert", "vit", "lm"):
    conftest.export(folder / name, folder / f"{name}-bundle")
"""
"""Run in a process of its own: what it loads starts threads, and this process is forked."""

WORDS = [f"w{number} w{number + 1}" for number in range(40)]


SAID = Path(tempfile.gettempdir()) / f"edge-prompt-pull-{os.getpid()}.txt"
"""What the last command said."""


class Pulled(NamedTuple):
    """A command: its arguments, its output, its share of kills, and how its output is read.

    `read` returns what distinguishes one state from another, and raises if the output is incomplete. `again` is the
    action of the next writer of the same target.
    """

    arguments: list[str]
    share: float
    prepare: Callable[[], object]
    read: Callable[[], object]
    again: Callable[[], object]


def commands(networks: Path, work: Path) -> dict[str, Pulled]:  # noqa: C901 - a table, with the needs of each line
    """Return all commands that write, on these networks; their output is in `work / "out"`."""
    out = work / "out"
    prompt, bundle = out / "x.npy", out / "bundle"
    bert, vit, lm = (networks / f"{name}-bundle" for name in ("bert", "vit", "lm"))
    deep, soft = _prompt(work / "deep.npy", vit, "deep"), _prompt(work / "soft.npy", lm, "soft")
    prefix = _prompt(work / "prefix.npy", bert, "prefix", headless=True)  # PEFT has no head on the mean of tokens
    rows = [{"text": text, "label": "ab"[number % 2]} for number, text in enumerate(WORDS)]
    (work / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (work / "images").mkdir()
    _images(work / "images")
    _run(["export-adapter", str(prefix), "--bundle", str(bert), "--output", str(work / "adapter")])

    def old_prompt(of: Path, kind: str) -> Callable[[], object]:
        return lambda: _prompt(prompt, of, kind, seed=1)

    def old_compiled() -> None:
        for file in work.glob("soft*"):
            shutil.copy(file, out / file.name)
        arrays = dict(read_npz(arrays_path(work / "soft.npy", "onnxruntime"), frozenset("0123")))
        write_npz(arrays_path(out / "soft.npy", "onnxruntime"), {name: -part for name, part in arrays.items()})
        card = json.loads(card_path(out / "soft.npy", "onnxruntime").read_text())
        file = arrays_path(out / "soft.npy", "onnxruntime")
        card["sha256"] = sha256_of(file)
        card_path(out / "soft.npy", "onnxruntime").write_text(json.dumps(card))

    def compiled() -> float:
        opened = read_bundle(lm)
        digest = read_prompt(out / "soft.npy").sha256["soft.npy"]
        past = read_compiled(out / "soft.npy", digest, opened, "onnxruntime", 4)
        assert past is not None
        return round(float(past[0].sum()), 3)

    def to_bundle() -> object:
        try:
            found = read_bundle(bundle)
        except MissingFileError:
            return None
        for graph in (*found.manifest.graphs.values(), *found.manifest.fold_graphs.values()):
            found.require_unaltered(graph.sha256)
        found.require_unaltered(found.manifest.files)
        assert found.manifest.parity
        return "whole"

    def adapter() -> object:
        if not (out / "adapter").exists():
            return None
        read_json(out / "adapter" / "adapter_config.json", AdapterError)
        _run(["import", str(out / "adapter"), "--bundle", str(bert), "--output", str(work / "back.npy")])
        return "whole"

    def fill(folder: Path) -> Callable[[], object]:
        def filled() -> None:
            shutil.rmtree(folder, ignore_errors=True)
            with folder_written_atomically(folder):
                pass
            folder.rmdir()

        return filled

    def state() -> object:
        found = read_prompt(prompt)
        return found.sha256[prompt.name], found.card and found.card.labels, found.head is not None

    quantizing = ["quantize", str(vit), str(bundle), "--images", str(work / "images")]
    exporting = ["export", str(networks / "bert"), str(bundle)]
    compiling = ["compile", str(lm), str(out / "soft.npy"), "--engine", "onnxruntime"]
    if not arrays_path(soft, "onnxruntime").exists():
        _run(["compile", str(lm), str(soft), "--engine", "onnxruntime"])
    written = {name: old_prompt(of, kind) for name, of, kind in (("vit", vit, "prefix"), ("bert", bert, "soft"))}
    return {
        "fold": Pulled(["fold", str(vit), str(deep), "-o", str(prompt)], 4, written["vit"], state, written["vit"]),
        "import": Pulled(
            ["import", str(work / "adapter"), "--bundle", str(bert), "-o", str(prompt)],
            4,
            written["bert"],
            state,
            written["bert"],
        ),
        "tune": Pulled(
            [
                "tune",
                str(networks / "bert"),
                str(work / "rows.jsonl"),
                "-o",
                str(prompt),
                "--epochs",
                "1",
                "--virtual-tokens",
                "4",
            ],
            2,
            written["bert"],
            state,
            written["bert"],
        ),
        "compile": Pulled(compiling, 4, old_compiled, compiled, lambda: _run(compiling)),
        "export-adapter": Pulled(
            ["export-adapter", str(prefix), "--bundle", str(bert), "--output", str(out / "adapter")],
            3,
            lambda: None,
            adapter,
            fill(out / "adapter"),
        ),
        "export": Pulled(exporting, 1, lambda: None, to_bundle, fill(bundle)),
        "export --weights": Pulled(
            ["export", str(networks / "bert"), str(bundle), "--weights", "int8"],
            1,
            lambda: None,
            to_bundle,
            fill(bundle),
        ),
        "quantize": Pulled(
            quantizing,
            1,
            lambda: None,
            to_bundle,
            fill(bundle),
        ),
    }


def pull(name: str, command: Pulled, work: Path, kills: int, seed: int) -> str:
    """Kill a command that many times; return the findings.

    Raises:
        AssertionError: A state was neither old nor new, or the next writer left something behind.
    """
    chance = random.Random(f"{name} {seed}")
    out, scratch = work / "out", work / "scratch"
    _fresh(out, scratch)
    command.prepare()
    _fork(command.arguments, scratch)  # fills the caches
    _fresh(out, scratch)
    command.prepare()
    old, before = command.read(), time.monotonic()
    begun_s, whole_s = _watch(command.arguments, scratch, out)
    assert whole_s is not None, f"{name} fails"
    new = command.read()
    assert new != old, name
    found = {"old": 0, "new": 0, "in time": 0}
    scattered = 0
    for number in range(kills):
        _fresh(out, scratch)
        command.prepare()
        if number % 2:
            finished = _killed_after(command.arguments, scratch, chance.uniform(0, 0.98 * whole_s), None)
        else:
            finished = _killed_after(command.arguments, scratch, chance.uniform(0, 0.95 * (whole_s - begun_s)), out)
        state = command.read()
        # two trainings may differ in the last bit; reading shows that the output is complete
        found["old" if state == old else "new"] += 1
        found["in time"] += finished
        assert state in (old, new) or name == "tune", (name, number, state)
        assert not finished or state != old, (name, number)
        scattered += bool(list(scratch.iterdir()))
        command.again()
        left = [path.name for path in out.iterdir() if path.name.startswith(".")]
        assert not left, (name, number, left)
    return (
        f"{name}: {kills - found['in time']} kills in runs of {whole_s:.2f} s, {found['old']} left the old, "
        f"{found['new']} the new ({found['in time']} runs were over before); {scattered} left files in the system's "
        f"temporary folder; {time.monotonic() - before:.0f} s"
    )


def _fresh(*folders: Path) -> None:
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()


def start(arguments: list[str], scratch: Path, first: Callable[[], object] = lambda: None) -> int:
    """Start a command in a fork that calls `first` before it; return the fork's process id."""
    child = os.fork()
    if not child:
        os.environ["TMPDIR"] = tempfile.tempdir = str(scratch)
        with SAID.open("wb") as said:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
        code = 1
        try:
            first()
            main(arguments)
        except SystemExit as ended:
            code = int(ended.code or 0)
        except BaseException:  # noqa: BLE001 - as the interpreter would show it
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(code)
    return child


def _fork(arguments: list[str], scratch: Path) -> None:
    _, status = os.waitpid(start(arguments, scratch), 0)
    assert status == 0, f"{arguments} fails: {SAID.read_text()}"


def _watch(arguments: list[str], scratch: Path, out: Path) -> tuple[float, float]:
    """Return the seconds until a run begins to write, and until it ends."""
    child, started, begun_s = start(arguments, scratch), time.monotonic(), None
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, f"{arguments} fails: {SAID.read_text()}"
            whole_s = time.monotonic() - started
            return whole_s if begun_s is None else begun_s, whole_s
        if begun_s is None and _writes(out):
            begun_s = time.monotonic() - started
        time.sleep(0.0002)


def _killed_after(arguments: list[str], scratch: Path, delay_s: float, out: Path | None) -> bool:
    """Kill a run that long after its start, or after its first write into `out`; return whether it had ended."""
    child, since = start(arguments, scratch), time.monotonic()
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            assert status == 0, f"{arguments} fails: {SAID.read_text()}"
            return True
        if out is not None:
            if not _writes(out):
                since = time.monotonic()
            else:
                out = None
        if out is None and time.monotonic() - since >= delay_s:
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            return not os.WIFSIGNALED(status)
        time.sleep(0.0002)


def _writes(out: Path) -> bool:
    return any(path.name.startswith(".") for path in out.iterdir())


def _run(arguments: list[str]) -> None:
    """Run a command in a fork, so that none of its threads stays here."""
    with tempfile.TemporaryDirectory() as scratch:
        _fork(arguments, Path(scratch))


def _prompt(path: Path, bundle: Path, kind: str, seed: int = 0, *, headless: bool = False) -> Path:
    manifest = read_bundle(bundle).manifest
    shape = tuple(4 if axis is None else axis for axis in manifest.kinds[kind])
    numbers = np.random.default_rng(seed)
    head: Head | None = None
    labels: tuple[str, ...] = ()
    if not isinstance(manifest, LanguageManifest) and not headless:
        weight = numbers.standard_normal((2, manifest.backbone.feature_size), dtype=np.float32)
        head, labels = Head(weight, np.zeros(2, np.float32)), (f"yes{seed}", f"no{seed}")
    array = numbers.standard_normal(shape, dtype=np.float32)
    write_prompt(path, array, kind, manifest.backbone.fingerprint, head=head, labels=labels)
    return path


def _images(folder: Path) -> None:
    from PIL import Image

    for number in range(8):
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


def import_all() -> None:
    """Import what commands import late, so that forks find it loaded."""
    modules = [lazy.module for lazy in COMMANDS.values()]
    modules += ["torch", "transformers", "onnx", "onnx_ir", "onnxruntime", "openvino", "nncf", "onnxscript"]
    modules += [f"edge_prompt_export.{name}" for name in ("quantize_onnx", "quantize_openvino", "weights.onnx")]
    modules += ["edge_prompt_export.compression.openvino.weights", "edge_prompt_runtime.engines.onnxruntime.engine"]
    modules += ["edge_prompt_runtime.engines.openvino.engine", "transformers.models.bert.modeling_bert"]
    with contextlib.redirect_stdout(io.StringIO()):
        for module in modules:
            importlib.import_module(module)


@contextlib.contextmanager
def prepared(networks: Path | None) -> Iterator[tuple[dict[str, Pulled], Path]]:
    """Return the commands on tiny networks, which are made if `networks` has none, and a folder to work in."""
    with tempfile.TemporaryDirectory() as name:
        networks, work = networks or Path(name) / "networks", Path(name) / "work"
        if not networks.exists():
            subprocess.run([sys.executable, "-c", NETWORKS, networks], check=True, capture_output=True)
        work.mkdir()
        import_all()
        yield commands(networks, work), work


def run() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("commands", nargs="*")
    parser.add_argument("--kills", type=int, default=25, help="of the slowest; of others up to four times as many")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--networks", type=Path, help="where the tiny networks lie, or will")
    given = parser.parse_args()
    with prepared(given.networks) as (table, work):
        for command in given.commands or table:
            kills = round(given.kills * table[command].share)
            print(pull(command, table[command], work, kills, given.seed), flush=True)  # noqa: T201 - a script


if __name__ == "__main__":
    run()
