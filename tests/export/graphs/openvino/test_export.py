from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openvino
import pytest
from torch import Tensor

import edge_prompt_export
from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt.base.version import __version__
from edge_prompt.formats.bundle import read_bundle
from edge_prompt_export.graphs.openvino.export import OPENVINO_DATA_FILE, OPENVINO_FILE, write_openvino
from edge_prompt_export.modalities.text.network import ConditionedTextEncoder

METADATA = {"edge-prompt": "1.2.3", "fingerprint": "f" * 64, "source": "somewhere"}


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> openvino.Model:
    return openvino.Core().read_model(tiny_bundle / OPENVINO_FILE)


def test_inputs_and_outputs_have_one_name_each_and_every_size_is_dynamic(model: openvino.Model) -> None:
    shapes = {tuple(port.get_names()): port.get_partial_shape().to_string() for port in (*model.inputs, *model.outputs)}
    assert shapes == {
        ("input_ids",): "[?,?]",
        ("attention_mask",): "[?,?]",
        ("token_type_ids",): "[?,?]",
        ("soft_prompt",): "[?,?,32]",
        ("prefix",): "[2,2,?,4,?,8]",
        ("features",): "[?,32]",
        ("last_hidden_state",): "[?,?,32]",
    }


def test_weights_keep_their_precision(model: openvino.Model) -> None:
    types = {
        op.get_output_element_type(0).get_type_name() for op in model.get_ops() if op.get_type_name() == "Constant"
    }
    assert "f32" in types
    assert not types & {"f16", "bf16"}


def test_attention_stays_one_operation_per_layer(model: openvino.Model) -> None:
    names = [op.get_type_name() for op in model.get_ops()]
    assert names.count("ScaledDotProductAttention") == 2


def test_the_file_says_what_made_it_and_from_what(model: openvino.Model, tiny_bundle: Path) -> None:
    backbone = read_bundle(tiny_bundle).manifest.backbone
    said = {key: model.get_rt_info(["edge_prompt", key]).astype(str) for key in METADATA}
    assert said == {"edge-prompt": __version__, "fingerprint": backbone.fingerprint, "source": backbone.source}


def test_no_path_of_the_machine_is_in_the_files(tiny_bundle: Path) -> None:
    sources = Path(edge_prompt_export.__file__).resolve().parent
    for name in (OPENVINO_FILE, OPENVINO_DATA_FILE):
        content = (tiny_bundle / name).read_bytes()
        for path in (Path.cwd(), tiny_bundle.parent, sources, Path.home(), Path("/site-packages")):
            assert str(path).encode() not in content


def test_the_manifest_names_both_files(tiny_bundle: Path) -> None:
    graph = read_bundle(tiny_bundle).graph("openvino")
    assert graph.file == OPENVINO_FILE
    assert set(graph.sha256) == {OPENVINO_FILE, OPENVINO_DATA_FILE}
    assert ET.parse(tiny_bundle / OPENVINO_FILE).getroot().tag == "net"  # noqa: S314 - our own file


class Failing(ConditionedTextEncoder):
    """A network that the tracer cannot run."""

    def forward(self, *_args: Any, **_kwargs: Any) -> tuple[Tensor, ...]:
        raise NotImplementedError("no such operation")


def test_a_network_that_the_converter_cannot_follow_is_refused(
    tiny_network: Callable[..., Any], tmp_path: Path
) -> None:
    module = Failing(tiny_network("bert"), "feature-extraction", "mean")
    with pytest.raises(
        UnsupportedArchitectureError, match=r"BertModel cannot be converted to OpenVINO \(.+--format onnx"
    ):
        write_openvino(module, tmp_path, METADATA)
    assert list(tmp_path.iterdir()) == []
