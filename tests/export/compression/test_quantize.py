from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_prompt import Bundle, read_bundle
from edge_prompt.base import extras
from edge_prompt.base.errors import (
    InputError,
    MissingExtraError,
    MissingFileError,
    ParityError,
    UnsupportedArchitectureError,
    WriteError,
)
from edge_prompt.cli import main
from edge_prompt_export.compression import quantize
from edge_prompt_export.compression.quantize import MOST_IMAGES, quantize_bundle
from edge_prompt_runtime import Runtime
from edge_prompt_runtime.reference import TOLERANCE, check_reference, difference
from edge_prompt_runtime.tasks.deep_prompts import DeepPromptFolder
from tests.conftest import BuildOnce

KINDS = ("soft", "deep", "prefix", "pixel")
DISTANCE = 0.25
"""Between features in int8 and fp32 of the tiny network, relative to the largest; 0.14 was measured."""


def pictures(count: int) -> list[NDArray[np.uint8]]:
    random = np.random.default_rng(0)
    return [random.integers(0, 256, (40, 30, 3), np.uint8) for _ in range(count)]


@pytest.fixture(scope="session")
def int8_bundle(build_once: BuildOnce, tiny_image_bundle: Path) -> Path:
    return build_once("int8_bundle", lambda folder: quantize_bundle(tiny_image_bundle, folder, pictures(24)))


@pytest.fixture
def loaded(
    tiny_image_bundle: Path, int8_bundle: Path, engine: str, make_prompt: Callable[..., Path]
) -> tuple[Runtime, Runtime]:
    """The bundle and the quantised bundle, with a prompt of each kind."""
    runtimes = Runtime(tiny_image_bundle, engine, 1), Runtime(int8_bundle, engine, 1)
    for kind in KINDS:
        path = make_prompt(kind, kind, bundle=tiny_image_bundle)
        for runtime in runtimes:
            runtime.load(kind, path)
    return runtimes


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", [None, *KINDS])
def test_features_are_close_to_fp32(loaded: tuple[Runtime, Runtime], kind: str | None, batch: int) -> None:
    wanted, found = ({"features": runtime.embed(pictures(batch), kind)} for runtime in loaded)
    assert 0 < difference(found, wanted) < DISTANCE


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_of_every_kind_have_an_effect(loaded: tuple[Runtime, Runtime], kind: str) -> None:
    found = {"features": loaded[1].embed(pictures(2), kind)}
    prompted, base = ({"features": loaded[0].embed(pictures(2), task)} for task in (kind, None))
    assert 2 * difference(found, prompted) < difference(found, base)


def test_a_batch_of_several_tasks_equals_its_rows_alone(loaded: tuple[Runtime, Runtime]) -> None:
    tasks = [None, *KINDS]
    together = loaded[1].embed(pictures(len(tasks)), tasks)
    for row, (image, task) in enumerate(zip(pictures(len(tasks)), tasks, strict=True)):
        np.testing.assert_allclose(loaded[1].embed(image, task), together[row], atol=DISTANCE / 5)


def test_prompts_of_any_length_are_taken(
    int8_bundle: Path, engine: str, make_prompt: Callable[..., Path], tiny_image_bundle: Path
) -> None:
    runtime = Runtime(int8_bundle, engine, 1)
    for kind in ("soft", "deep", "prefix"):
        for length in (1, 9, 40):
            runtime.load(kind, make_prompt(kind, kind, length=length, bundle=tiny_image_bundle))
            assert np.isfinite(runtime.embed(pictures(1), [kind])).all()


def test_a_deep_prompt_folds_as_in_fp32(int8_bundle: Path, tiny_image_bundle: Path, engine: str) -> None:
    deep = np.random.default_rng(0).standard_normal((2, 5, 32), dtype=np.float32)
    found, wanted = (DeepPromptFolder(read_bundle(folder), engine)(deep) for folder in (int8_bundle, tiny_image_bundle))
    np.testing.assert_array_equal(found, wanted)


def test_weights_are_stored_in_int8(tiny_image_bundle: Path, int8_bundle: Path) -> None:
    import onnx
    import openvino

    source, found = read_bundle(tiny_image_bundle), read_bundle(int8_bundle)
    assert {graph.weights for graph in found.manifest.graphs.values()} == {"int8"}
    assert weights_bytes(found) < 0.6 * weights_bytes(source)  # much of such a small network is not in linear layers
    graph = onnx.load(int8_bundle / found.graph("onnxruntime").file).graph
    assert sum(constant.data_type == onnx.TensorProto.INT8 for constant in graph.initializer) >= 12
    model = openvino.Core().read_model(int8_bundle / found.graph("openvino").file)
    types = [node.get_element_type().get_type_name() for node in model.get_ops() if node.get_type_name() == "Constant"]
    assert types.count("i8") >= 12


def weights_bytes(bundle: Bundle) -> int:
    name = "openvino_model.bin" if "openvino_model.bin" in bundle.graph("openvino").sha256 else "openvino_int8.bin"
    return (bundle.folder / name).stat().st_size


def test_the_rest_of_the_manifest_stays(tiny_image_bundle: Path, int8_bundle: Path) -> None:
    source, found = read_bundle(tiny_image_bundle).manifest, read_bundle(int8_bundle).manifest
    assert found.backbone == source.backbone
    assert (found.kinds, found.files, found.fold_graphs) == (source.kinds, source.files, source.fold_graphs)
    for engine in found.graphs:
        assert found.graphs[engine].inputs == source.graphs[engine].inputs
        assert found.parity[engine]["fp32_by_prompt"].keys() == {"base", *KINDS}
        assert 0 < found.parity[engine]["fp32"] < DISTANCE


def test_the_reference_is_as_far_from_torch_as_when_it_was_quantised(int8_bundle: Path, engine: str) -> None:
    bundle = read_bundle(int8_bundle)
    figures = check_reference(bundle, engine)
    assert TOLERANCE < max(figures.values()) < 1
    assert bundle.manifest.parity[engine]["reference"] == pytest.approx(figures, rel=0.1)


def test_the_command_takes_a_folder_and_prompts(
    tiny_image_bundle: Path,
    tmp_path: Path,
    make_image: Callable[..., Path],
    make_prompt: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    calls: list[Any] = []

    files = {".onnx": ("model.onnx", "model.onnx_data"), ".xml": ("openvino_model.xml", "openvino_model.bin")}

    def quantize_graph(graph: Path, _weights: Path | None, folder: Path, feeds: Any) -> tuple[str, ...]:
        calls.append([{name: array.shape for name, array in batch.items()} for batch in feeds])
        for name in files[graph.suffix]:
            shutil.copyfile(tiny_image_bundle / name, folder / name)
        return files[graph.suffix]

    monkeypatch.setattr(quantize, "_quantize_of", lambda _engine: quantize_graph)
    monkeypatch.setattr(quantize, "_compare", lambda *_: {"base": 0.01})
    for name in "abcdefghijkl":
        make_image(name)
    prompt = make_prompt("tone", "prefix", length=7, bundle=tiny_image_bundle)
    with pytest.raises(SystemExit) as ended:
        main(["quantize", *map(str, (tiny_image_bundle, tmp_path / "out", "--images", tmp_path, "--prompt", prompt))])
    assert ended.value.code == 0
    assert [batch["prefix"][4] for batch in calls[0]] == [0, 7, 0]
    assert [batch["pixel_values"] for batch in calls[0]] == [(4, 3, 32, 32)] * 3
    assert "differ from fp32 by at most 1.0e-02" in capsys.readouterr().out


def test_images_beyond_what_is_needed_are_thinned_out_evenly() -> None:
    kept = quantize._sampled(list(range(10 * MOST_IMAGES)))
    assert len(set(kept)) == MOST_IMAGES
    assert max(np.diff(sorted(kept))) <= 11
    assert sorted(quantize._sampled([1, 2, 3])) == [1, 2, 3]


def test_a_bundle_of_texts_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArchitectureError, match="reads text; expected a backbone that reads images"):
        quantize_bundle(tiny_bundle, tmp_path / "out", pictures(1))
    assert not (tmp_path / "out").exists()


def test_a_bundle_in_int8_is_refused(int8_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has graphs in int8; expected a bundle in fp32"):
        quantize_bundle(int8_bundle, tmp_path / "out", pictures(1))


def test_no_images_are_refused(tiny_image_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no image; expected 100 to 300"):
        quantize_bundle(tiny_image_bundle, tmp_path / "out", [])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no image in .*empty"):
        quantize_bundle(tiny_image_bundle, tmp_path / "out", tmp_path / "empty")
    with pytest.raises(MissingFileError, match="no such folder"):
        quantize_bundle(tiny_image_bundle, tmp_path / "out", tmp_path / "nothing")


def test_an_existing_folder_is_refused(tiny_image_bundle: Path, int8_bundle: Path) -> None:
    with pytest.raises(WriteError, match="already exists"):
        quantize_bundle(tiny_image_bundle, int8_bundle, pictures(1))


def test_too_inaccurate_a_bundle_is_removed(
    tiny_image_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "TOLERANCE", 1e-6)
    monkeypatch.setattr(quantize, "_quantize_of", lambda _engine: _as_it_was)
    monkeypatch.setattr(quantize, "difference", lambda *_: 1e-3)
    with pytest.raises(ParityError, match=r"base: int8 features differ from fp32 by 1.0e-03"):
        quantize_bundle(tiny_image_bundle, tmp_path / "out", pictures(1))
    assert not list(tmp_path.iterdir())


def _as_it_was(graph_file: Path, _weights: Path | None, folder: Path, _feeds: Any) -> tuple[str, ...]:
    names = [path.name for path in graph_file.parent.iterdir() if path.stem == graph_file.stem]
    for name in names:
        (folder / name).write_bytes((graph_file.parent / name).read_bytes())
    return (graph_file.name, *(name for name in names if name != graph_file.name))


def test_missing_packages_are_reported_with_the_pip_command(
    tiny_image_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "nncf" else name)
    with pytest.raises(MissingExtraError, match=r"needs nncf, .*pip install 'edge-prompt\[quantize\]'"):
        quantize_bundle(tiny_image_bundle, tmp_path / "out", pictures(1))
