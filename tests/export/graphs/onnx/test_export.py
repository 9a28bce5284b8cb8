from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor

import edge_prompt_export
from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt.base.version import __version__
from edge_prompt.formats.bundle import read_bundle
from edge_prompt_export.graphs.fold import GraphFiles
from edge_prompt_export.graphs.onnx import export as onnx_graph
from edge_prompt_export.graphs.onnx.export import ONNX_DATA_FILE, ONNX_FILE, write_onnx
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder

METADATA = {"edge-prompt": "1.2.3", "fingerprint": "f" * 64, "source": "somewhere"}


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> onnx.ModelProto:
    return onnx.load(tiny_bundle / ONNX_FILE)


def axes_of(values: Any) -> dict[str, list[str | int]]:
    return {
        value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values
    }


def test_the_graph_is_valid_and_of_an_opset_of_today(model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model, full_check=True)
    opsets = {opset.domain: opset.version for opset in model.opset_import}
    assert opsets[""] >= 20
    assert {node.domain for node in model.graph.node} <= {"", "ai.onnx"}


def test_the_file_says_what_made_it_and_from_what(model: onnx.ModelProto, tiny_bundle: Path) -> None:
    backbone = read_bundle(tiny_bundle).manifest.backbone
    assert (model.producer_name, model.producer_version) == ("edge-prompt", __version__)
    assert {prop.key: prop.value for prop in model.metadata_props} == {
        "edge-prompt": __version__,
        "fingerprint": backbone.fingerprint,
        "source": backbone.source,
    }


def test_inputs_have_names_and_every_dynamic_axis_too(model: onnx.ModelProto) -> None:
    together = "prefix_length + num_virtual_tokens + sequence"
    assert axes_of(model.graph.input) == {
        "input_ids": ["batch", "sequence"],
        "attention_mask": ["batch", together],
        "token_type_ids": ["batch", "sequence"],
        "soft_prompt": ["soft_prompt_batch", "num_virtual_tokens", 32],
        "prefix": [2, 2, "prefix_batch", 4, "prefix_length", 8],
    }
    assert axes_of(model.graph.output) == {"features": ["batch", 32], "last_hidden_state": ["batch", "sequence", 32]}


def test_no_path_of_the_machine_is_in_the_file(tiny_bundle: Path) -> None:
    content = (tiny_bundle / ONNX_FILE).read_bytes()
    sources = Path(edge_prompt_export.__file__).resolve().parent
    for path in (Path.cwd(), tiny_bundle.parent, sources, Path.home(), Path("/site-packages")):
        assert str(path).encode() not in content


def test_small_weights_are_in_the_file(tiny_bundle: Path) -> None:
    assert not (tiny_bundle / ONNX_DATA_FILE).exists()
    assert tuple(read_bundle(tiny_bundle).graph("onnxruntime").sha256) == (ONNX_FILE,)


def test_weights_above_the_bound_lie_beside_the_file_and_are_found_there(
    conditioned: Callable[..., ConditionedTextEncoder], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = conditioned("electra")
    monkeypatch.setattr(onnx_graph, "EXTERNAL_DATA_ABOVE_BYTES", 1000)
    assert write_onnx(module, tmp_path, METADATA) == GraphFiles((ONNX_FILE, ONNX_DATA_FILE))
    assert sorted(path.name for path in tmp_path.iterdir()) == [ONNX_FILE, ONNX_DATA_FILE]
    assert (tmp_path / ONNX_DATA_FILE).stat().st_size > 20_000
    moved = tmp_path.rename(tmp_path.with_name("moved"))
    session = onnxruntime.InferenceSession(moved / ONNX_FILE, providers=["CPUExecutionProvider"])
    inputs = module.example_inputs(batch=3, sequence=7, virtual_tokens=2, prefix_length=1)
    with torch.no_grad():
        wanted, _ = module(**inputs)
    found = session.run(["features"], {name: tensor.numpy() for name, tensor in inputs.items()})[0]
    torch.testing.assert_close(torch.from_numpy(found), wanted, rtol=1e-4, atol=1e-4)


class DataDependent(ConditionedTextEncoder):
    """A network with data-dependent control flow, which no exporter supports."""

    def forward(self, *args: Any, **kwargs: Any) -> tuple[Tensor, ...]:
        outputs = super().forward(*args, **kwargs)
        return outputs if float(outputs[0].sum()) > 0 else tuple(-output for output in outputs)


def test_a_network_that_the_exporter_cannot_follow_is_refused(tiny_network: Callable[..., Any], tmp_path: Path) -> None:
    module = DataDependent(tiny_network("bert", num_hidden_layers=1), "feature-extraction", "mean")
    with pytest.raises(UnsupportedArchitectureError, match=r"BertModel cannot be exported to ONNX \(.+--format openv"):
        write_onnx(module, tmp_path, METADATA)
    assert list(tmp_path.iterdir()) == []
