"""The code of the tutorials and of the README runs, on tiny random networks in place of the real ones."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import torch

from edge_prompt.cli import main
from tests.conftest import HEADS, HIDDEN_SIZE, LAYERS, BuildOnce, MakePrompt, write_tiny_bert

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(python|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORTER = {
    " --epochs 4": " --epochs 1",
    " --epochs 6": " --epochs 1",
    "range(80)": "range(3)",
    "edge-prompt bench bundle": "edge-prompt bench bundle --rounds 10 --seconds 1 --starts 1 --lengths ''",
}
"""What takes long and teaches a random network nothing."""

torch.set_num_threads(1)


def run_page(page: Path, names: Mapping[str, str]) -> dict[str, Any]:
    """Run a page's Python blocks in one namespace, and its `edge-prompt` commands, in order; return the namespace."""
    text = page.read_text(encoding="utf-8")
    for real, tiny in names.items():
        assert real in text, f"{page.name} no longer has {real}"
        text = text.replace(real, tiny)
    for long, short in SHORTER.items():
        text = text.replace(long, short)
    namespace: dict[str, Any] = {"__name__": "tutorial"}
    for block in BLOCK.finditer(text):
        language, code = block[1], block[2]
        if language == "python":
            line = text[: block.start()].count("\n") + 1
            exec(compile("\n" * line + code, str(page), "exec"), namespace)  # noqa: S102 - our own pages
        else:
            run_commands(code)
    return namespace


def run_commands(code: str) -> None:
    """Run the lines of a shell block that call `edge-prompt`; pip, scp and ssh are skipped."""
    for line in code.replace("\\\n", " ").splitlines():
        command = shlex.split(line, comments=True)
        if command[:1] == ["edge-prompt"]:
            with pytest.raises(SystemExit) as ended:
                main(command[1:])
            assert not ended.value.code, line


@pytest.fixture
def tiny_dinov2(build_once: BuildOnce) -> Path:
    """The folder of a random DINOv2 for images of 32 x 32."""
    return build_once("tiny_dinov2", write_tiny_dinov2)


def write_tiny_dinov2(folder: Path) -> None:
    import transformers

    processors = import_module("transformers.models.bit.image_processing_pil_bit")  # DINOv2's is BiT's
    config = transformers.Dinov2Config(
        image_size=32,
        patch_size=8,
        hidden_size=HIDDEN_SIZE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        initializer_range=0.2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.Dinov2Model(config).save_pretrained(folder)
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    processors.BitImageProcessorPil(**sizes).save_pretrained(folder)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")  # caused by PEFT's training
def test_the_peft_tutorial_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_tiny_bert(tmp_path / "network", "BertModel")
    monkeypatch.chdir(tmp_path)
    found = run_page(
        ROOT / "docs" / "tutorials" / "peft_to_device.md", {"sentence-transformers/all-MiniLM-L6-v2": "network"}
    )
    assert found["answer"].label in {"kitchen", "garden"}
    assert {path.name for path in (tmp_path / "prompts").glob("*.npy")} == {"topics.npy", "products.npy"}


def test_the_camera_tutorial_runs(tmp_path: Path, tiny_dinov2: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = run_page(
        ROOT / "docs" / "tutorials" / "camera_second_job.md", {"facebook/dinov2-small": tiny_dinov2.as_posix()}
    )
    assert found["color"].label in {"green", "brown"}
    assert found["refreshed"].replaced == ("caps",)


def test_the_readmes_python_runs(tmp_path: Path, make_prompt: MakePrompt, tiny_bundle: Path) -> None:
    for name in ("reuters", "newsgroups"):
        make_prompt(name, "prefix", classes=3)
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    [code] = [block[2] for block in BLOCK.finditer(readme) if block[1] == "python"]
    code = code.replace('"bundle"', repr(str(tiny_bundle))).replace("examples/prompts", str(tmp_path / "prompts"))
    namespace: dict[str, Any] = {}
    exec(code, namespace)  # noqa: S102 - our own page
    assert namespace["answer"].label.startswith("newsgroups_")
