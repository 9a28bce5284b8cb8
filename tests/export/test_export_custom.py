"""Modules of the user's own, exported for both engines and run on them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import edge_prompt
from edge_prompt import Bundle, Head, read_bundle, write_prompt
from edge_prompt.base.errors import FingerprintError, InputError, ParityError
from edge_prompt.formats.preprocessing import ArrayPreprocessing
from edge_prompt_export import ArrayInput, ModuleDescription, export_backbone
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE, check_reference
from tests.conftest import BuildOnce
from tests.export.modules import PromptedLinear

GUIDE = Path(edge_prompt.__file__).parents[1] / "docs" / "how_to" / "custom_modules.md"


class Reader(nn.Module):
    """Embeds token ids, attends to them with a prompt, and returns features and one vector per token."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.embedding = nn.Embedding(50, 16)
            self.projection = nn.Linear(16, 8)

    def forward(self, tokens: Tensor, seen: Tensor, soft_prompt: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.embedding(tokens)
        keys = torch.cat([soft_prompt, hidden], 1)
        ours = torch.ones(tokens.shape[0], soft_prompt.shape[1], dtype=torch.bool)
        scores = (hidden @ keys.transpose(1, 2)).masked_fill(~torch.cat([ours, seen], 1)[:, None], -1e4)
        mixed = scores.softmax(-1) @ keys
        return self.projection(mixed.mean(1)), self.projection(mixed)


LINEAR = ModuleDescription(
    inputs={"x": ArrayInput("float32", (None, 16))}, prompts={"soft": (None, 16)}, outputs=("features",), name="linear"
)
READER = ModuleDescription(
    inputs={"tokens": ArrayInput("int64", (None, None)), "seen": ArrayInput("bool", (None, None))},
    prompts={"soft": (None, 16)},
    outputs=("features", "tokens_out"),
    integers_below=50,
)


@pytest.fixture(scope="session")
def linear(build_once: BuildOnce) -> Bundle:
    return read_bundle(
        build_once("linear", lambda folder: export_backbone(PromptedLinear(), folder, description=LINEAR))
    )


@pytest.fixture(scope="session")
def reader(build_once: BuildOnce) -> Bundle:
    return read_bundle(build_once("reader", lambda folder: export_backbone(Reader(), folder, description=READER)))


def prompt_for(bundle: Bundle, path: Path, length: int, **more: Any) -> Tensor:
    """Write a random prompt for `bundle`."""
    array = np.random.default_rng(length).standard_normal((length, 16), dtype=np.float32)
    write_prompt(path, array, "soft", bundle.manifest.backbone.fingerprint, **more)
    return torch.from_numpy(array)[None]


def test_a_bundle_of_a_linear_layer(linear: Bundle, engine: str) -> None:
    manifest = linear.manifest
    assert (manifest.backbone.source, manifest.backbone.architecture) == ("linear", "PromptedLinear")
    assert (manifest.backbone.task, manifest.backbone.num_parameters) == ("custom", 16 * 4 + 4)
    assert manifest.preprocessing == ArrayPreprocessing(dict(LINEAR.inputs))
    assert manifest.kinds == {"soft": (None, 16)}
    assert manifest.parity[engine]["effect"]["soft"] > 0.1
    assert manifest.parity[engine]["torch"] <= TOLERANCE
    assert check_reference(linear, engine).keys() == {"base", "soft"}
    assert not (linear.folder / "config.json").exists()


def test_a_linear_layer_under_no_prompt_and_under_prompts(linear: Bundle, engine: str, tmp_path: Path) -> None:
    module, runtime = PromptedLinear().eval(), Runtime(linear.folder, engine)
    prompts: dict[str | None, Tensor] = {None: torch.zeros(1, 0, 16)}
    for name, length in (("one", 1), ("three", 3), ("also_three", 3)):
        prompts[name] = prompt_for(linear, tmp_path / f"{name}.npy", length)
        runtime.load(name, tmp_path / f"{name}.npy")
    x = np.random.default_rng(0).standard_normal((5, 16), dtype=np.float32)
    rows = [None, "three", "one", "also_three", "three"]
    mixed = runtime.infer({"x": x}, rows)["features"]
    for row, task in enumerate(rows):
        with torch.no_grad():
            reference = module(torch.from_numpy(x[row : row + 1]), prompts[task]).numpy()
        np.testing.assert_allclose(mixed[row : row + 1], reference, atol=1e-5)
        np.testing.assert_allclose(runtime.infer({"x": x[row : row + 1]}, task)["features"], reference, atol=1e-5)


def test_features_are_what_the_heads_of_tasks_read(linear: Bundle, engine: str, tmp_path: Path) -> None:
    runtime = Runtime(linear.folder, engine)
    head = Head(np.array([[1, 0, 0, 0], [-1, 0, 0, 0]], np.float32), np.zeros(2, np.float32))
    prompt_for(linear, tmp_path / "task.npy", 2, head=head, labels=("above", "below"))
    runtime.load("task", tmp_path / "task.npy")
    x = np.random.default_rng(0).standard_normal((6, 16), dtype=np.float32)
    answers = runtime.classify({"x": x}, "task")
    features = runtime.embed({"x": x}, "task")
    assert features.shape == (6, 4)
    assert [answer.label for answer in answers] == ["above" if row[0] > 0 else "below" for row in features]
    with pytest.raises(InputError, match="the base model has no head, and the backbone has no classification head"):
        runtime.classify({"x": x})


def test_a_prompt_of_other_weights_is_refused(linear: Bundle, reader: Bundle, tmp_path: Path) -> None:
    prompt_for(reader, tmp_path / "task.npy", 2)
    with pytest.raises(FingerprintError):
        Runtime(linear.folder, "onnxruntime").load("task", tmp_path / "task.npy")


def test_integers_and_booleans_of_any_length_and_several_outputs(reader: Bundle, engine: str, tmp_path: Path) -> None:
    module, runtime = Reader().eval(), Runtime(reader.folder, engine)
    prompt = prompt_for(reader, tmp_path / "task.npy", 4)
    runtime.load("task", tmp_path / "task.npy")
    random = np.random.default_rng(0)
    for batch, length in ((1, 1), (2, 5), (4, 13)):
        tokens = random.integers(0, 50, (batch, length))
        seen = np.arange(length) < random.integers(1, length + 1, (batch, 1))
        for task, given in ((None, prompt[:, :0]), ("task", prompt)):
            found = runtime.infer({"tokens": tokens, "seen": seen}, task)
            assert list(found) == ["features", "tokens_out"]
            with torch.no_grad():
                reference = module(torch.from_numpy(tokens), torch.from_numpy(seen), given.expand(batch, -1, -1))
            for output, expected in zip(found.values(), reference, strict=True):
                np.testing.assert_allclose(output, expected.numpy(), atol=1e-5)


def test_requests_that_do_not_fit_are_refused(reader: Bundle) -> None:
    runtime = Runtime(reader.folder, "onnxruntime")
    tokens, seen = np.ones((2, 3), np.int64), np.ones((2, 3), bool)
    for arrays in (
        {"tokens": tokens},
        {"tokens": tokens.astype(float), "seen": seen},
        {"tokens": tokens[0], "seen": seen},
    ):
        with pytest.raises(InputError, match=r"expected arrays by name: tokens int64 \[batch, free\], seen bool"):
            runtime.infer(arrays)


def test_a_module_that_ignores_its_prompt_is_not_exported(tmp_path: Path) -> None:
    class Deaf(PromptedLinear):
        def forward(self, x: Tensor, soft_prompt: Tensor) -> Any:
            return self.linear(x + 0 * soft_prompt.sum(1))

    with pytest.raises(ParityError, match="Deaf on onnxruntime: a soft prompt changes the outputs by only 0"):
        export_backbone(Deaf(), tmp_path / "bundle", description=LINEAR, formats=("onnx",))
    assert list(tmp_path.iterdir()) == []


def test_a_module_that_takes_the_first_row_of_prompts_for_all_is_not_exported(tmp_path: Path) -> None:
    class First(PromptedLinear):
        def forward(self, x: Tensor, soft_prompt: Tensor) -> Any:
            return self.linear(x + soft_prompt[:1].sum(1))

    with pytest.raises(
        ParityError, match="First on onnxruntime differs between a row of a mixed batch and that row alone"
    ):
        export_backbone(First(), tmp_path / "bundle", description=LINEAR, formats=("onnx",))


def test_a_module_and_its_description_come_together(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a module without a description; expected a module of your own with"):
        export_backbone(PromptedLinear(), tmp_path / "bundle")
    with pytest.raises(InputError, match="a description of somewhere; expected"):
        export_backbone("somewhere", tmp_path / "bundle", description=LINEAR)
    assert list(tmp_path.iterdir()) == []


def test_the_guide_runs_as_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (block,) = re.findall(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(block, str(GUIDE), "exec"), names)  # noqa: S102 - our own text
    base, (one, other), mixed = names["base"], names["swapped"], names["mixed"]
    linear, x = names["runtime"], names["x"]
    assert {path.name for path in tmp_path.iterdir()} == {"bundle", "one.npy", "other.npy"}
    assert base.shape == (2, 4)
    for answer in (one, other):
        assert np.abs(answer - base).max() > 0.01
    np.testing.assert_allclose(mixed, np.stack([one[0], other[1]]), atol=1e-6)
    np.testing.assert_allclose(one, linear.infer({"x": x + np.float32(0.3)})["features"], atol=1e-5)
