from __future__ import annotations

from pathlib import Path

import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper

from edge_prompt.base.errors import ManifestError
from edge_prompt.untrusted.onnx_file import MAX_DEPTH, MICROSOFT_OPERATORS, require_known_model, require_known_onnx
from tests.fuzzing.seeds import onnx_models

SIZES = {"w.bin": 16, "sub/w.bin": 16}


def check(model: ModelProto, file: str = "x.onnx") -> None:
    require_known_model(model.SerializeToString(), "x.onnx", file, SIZES)


def model_of(*nodes: NodeProto) -> ModelProto:
    return helper.make_model(helper.make_graph(nodes, "g", [], []))


def external(**entries: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[4], data_location=TensorProto.EXTERNAL)
    for key, value in entries.items():
        tensor.external_data.add(key=key, value=value)
    return tensor


@pytest.mark.parametrize("model", onnx_models(), ids=["plain", "with a function"])
def test_a_model_as_export_writes_it_is_taken(model: bytes, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(model)
    require_known_onnx(tmp_path / "x.onnx", "x.onnx", SIZES)  # raises nothing


@pytest.mark.parametrize(
    "domain", ["custom", "com.microsoft.nchwc", "ai.onnx.contrib", "ai.onnx.preview.training", "\0"]
)
def test_an_operator_of_another_domain_is_refused(domain: str) -> None:
    with pytest.raises(ManifestError, match="the operator 'Run' of"):
        check(model_of(helper.make_node("Run", ["x"], ["y"], domain=domain)))


@pytest.mark.parametrize("operator", ["EPContext", "ExpandDims", "matmulnbits", ""])
def test_an_operator_that_export_does_not_write_is_refused(operator: str) -> None:
    with pytest.raises(ManifestError, match=f"the operator '{operator}' of 'com.microsoft'"):
        check(model_of(helper.make_node(operator, ["x"], ["y"], domain="com.microsoft")))


@pytest.mark.parametrize("operator", sorted(MICROSOFT_OPERATORS))
def test_an_operator_that_export_writes_is_taken(operator: str) -> None:
    check(model_of(helper.make_node(operator, ["x"], ["y"], domain="com.microsoft")))


def hidden(node: NodeProto) -> dict[str, ModelProto]:
    graph = helper.make_graph([node], "inner", [], [])
    function = helper.make_function("", "F", [], [], [node], [helper.make_opsetid("", 20)])
    trained = model_of()
    trained.training_info.add().algorithm.CopyFrom(graph)
    return {
        "a branch": model_of(helper.make_node("If", ["c"], ["y"], then_branch=graph, else_branch=graph)),
        "one of several graphs": model_of(helper.make_node("X", [], [], bodies=[graph, graph])),
        "a branch of a branch": model_of(
            helper.make_node(
                "If", [], [], then_branch=model_of(helper.make_node("If", [], [], then_branch=graph)).graph
            )
        ),
        "a function": helper.make_model(GraphProto(name="g"), functions=[function]),
        "training": trained,
    }


@pytest.mark.parametrize("place", hidden(NodeProto()))
def test_operators_are_found_everywhere(place: str) -> None:
    with pytest.raises(ManifestError, match="the operator 'Run' of 'custom'"):
        check(hidden(helper.make_node("Run", [], [], domain="custom"))[place])


@pytest.mark.parametrize("place", hidden(NodeProto()))
def test_weights_are_found_everywhere(place: str) -> None:
    with pytest.raises(ManifestError, match="weights in '/etc/passwd'"):
        check(hidden(helper.make_node("Constant", [], ["w"], value=external(location="/etc/passwd")))[place])


PLACES: dict[str, tuple[dict[str, str], str]] = {
    "climbing": ({"location": "../w.bin"}, "weights in '../w.bin'"),
    "absolute": ({"location": "/w.bin"}, "weights in '/w.bin'"),
    "not named": ({"location": "other.bin"}, "weights in 'other.bin'; expected files that the manifest lists"),
    "another form of a name": ({"location": "sub/../w.bin"}, "weights in"),
    "memory": ({"location": "*/_ORT_MEM_ADDR_/*", "offset": "140737488355328"}, "weights in"),
    "nothing": ({"location": ""}, "weights in ''"),
    "no location": ({"offset": "0"}, "weights in ''"),
    "beyond": (
        {"location": "w.bin", "offset": "8", "length": "9"},
        "weights at 8 of 'w.bin'; expected weights within its 16",
    ),
    "begins beyond": ({"location": "w.bin", "offset": "17"}, "weights at 17"),
    "negative": ({"location": "w.bin", "offset": "-1"}, "weights at '-1 and 0'"),
    "in words": ({"location": "w.bin", "length": "four"}, "weights at"),
    "other digits": ({"location": "w.bin", "length": "٣"}, "weights at"),
    "beyond 64 bits": ({"location": "w.bin", "offset": "18446744073709551616"}, "weights at"),
    "unknown key": ({"location": "w.bin", "basepath": "/etc"}, "external data with the key 'basepath'"),
}


@pytest.mark.parametrize("name", PLACES)
def test_weights_elsewhere_than_in_known_files_are_refused(name: str) -> None:
    entries, message = PLACES[name]
    with pytest.raises(ManifestError, match=message):
        check(helper.make_model(helper.make_graph([], "g", [], [], [external(**entries)])))


def test_a_repeated_key_is_refused() -> None:
    tensor = external(location="w.bin")
    tensor.external_data.add(key="location", value="w.bin")
    with pytest.raises(ManifestError, match="each once"):
        check(helper.make_model(helper.make_graph([], "g", [], [], [tensor])))


def test_weights_must_be_next_to_their_graph() -> None:
    model = helper.make_model(helper.make_graph([], "g", [], [], [external(location="w.bin", length="16")]))
    check(model, "sub/x.onnx")
    with pytest.raises(ManifestError):
        check(model, "other/x.onnx")


def test_an_overridden_location_of_weights_is_ignored() -> None:
    tensor = external(location="/etc/passwd")
    tensor.data_location = TensorProto.DEFAULT
    check(helper.make_model(helper.make_graph([], "g", [], [], [tensor])))


def nested(depth: int) -> ModelProto:
    model = model_of(helper.make_node("Neg", [], []))
    for _ in range(depth):
        model = model_of(helper.make_node("If", [], [], then_branch=model.graph))
    return model


def test_nesting_of_graphs_is_limited() -> None:
    check(nested(MAX_DEPTH - 1))
    with pytest.raises(ManifestError, match="graphs nested more than 16 deep"):
        check(nested(MAX_DEPTH))


MALFORMED: dict[str, bytes] = {
    "a length beyond the end": b"\x3a\x05\x0a",
    "a length of ten bytes": b"\x3a" + b"\x80" * 9 + b"\x01",
    "a length that does not end": b"\x3a\xff",
    "a number that does not end": b"\x08" + b"\xff" * 11,
    "field 0": b"\x02\x00",
    "a field beyond 32 bits": b"\xba\x80\x80\x80\x10\x00",
    "a group": b"\x0b\x0c",
    "an end of a group": b"\x0c",
    "an unknown wire type": b"\x0e",
    "half a fixed number": b"\x0d\x00",
}


@pytest.mark.parametrize("name", MALFORMED)
def test_what_is_no_message_is_refused(name: str) -> None:
    with pytest.raises(ManifestError, match="a malformed ONNX file"):
        require_known_model(MALFORMED[name], "x.onnx", "x.onnx", SIZES)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.onnx").touch()
    with pytest.raises(ManifestError, match="an empty file; expected an ONNX model"):
        require_known_onnx(tmp_path / "x.onnx", "x.onnx", SIZES)


def test_a_name_without_end_is_refused() -> None:
    with pytest.raises(ManifestError, match="a name of 1000 bytes"):
        check(model_of(helper.make_node("x" * 1000, [], [])))


def test_fields_without_end_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_prompt.untrusted.onnx_file.MOST_FIELDS", 5)
    with pytest.raises(ManifestError, match="a malformed ONNX file"):
        check(model_of(helper.make_node("Neg", ["x"], ["y"])))
