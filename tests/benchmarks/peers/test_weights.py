from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers.weights import bytes_read
from tests.tiny.language import HIDDEN_SIZE, VOCAB_SIZE

TABLE = np.zeros((10, 4), np.float32)


def write_graph(path: Path, nodes: list[onnx.NodeProto], constants: list[onnx.TensorProto]) -> None:
    inputs = [helper.make_tensor_value_info("ids", TensorProto.INT64, [1])]
    outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    onnx.save(helper.make_model(helper.make_graph(nodes, "graph", inputs, outputs, constants)), path)


def test_a_table_that_rows_are_gathered_from_does_not_count(tmp_path: Path) -> None:
    lookup = helper.make_node("Gather", ["table", "ids"], ["rows"])
    head = helper.make_node("MatMul", ["rows", "head"], ["out"])
    constants = [numpy_helper.from_array(TABLE, "table"), numpy_helper.from_array(TABLE.T.copy(), "head")]
    write_graph(tmp_path / "model.onnx", [lookup, head], constants)
    assert bytes_read(tmp_path / "model.onnx") == TABLE.nbytes


def test_a_table_shared_with_the_output_layer_counts_once(tmp_path: Path) -> None:
    lookup = helper.make_node("Gather", ["table", "ids"], ["rows"])
    turned = helper.make_node("Transpose", ["table"], ["head"])
    head = helper.make_node("MatMul", ["rows", "head"], ["out"])
    write_graph(tmp_path / "model.onnx", [lookup, turned, head], [numpy_helper.from_array(TABLE, "table")])
    assert bytes_read(tmp_path / "model.onnx") == TABLE.nbytes


def test_a_packed_table_that_is_only_gathered_from_does_not_count(tmp_path: Path) -> None:
    packed = helper.make_tensor("packed", TensorProto.UINT4, [10, 4], np.zeros(20, np.uint8).tobytes(), raw=True)
    used = helper.make_tensor("used", TensorProto.UINT4, [3, 3], np.zeros(5, np.uint8).tobytes(), raw=True)
    nodes = [
        helper.make_node("Cast", ["packed"], ["table"], to=TensorProto.FLOAT),
        helper.make_node("Gather", ["table", "ids"], ["rows"]),
        helper.make_node("Cast", ["used"], ["out"], to=TensorProto.FLOAT),
    ]
    write_graph(tmp_path / "model.onnx", nodes, [packed, used])
    assert bytes_read(tmp_path / "model.onnx") == 5


@pytest.mark.parametrize("file", ["model.onnx", "openvino_model.xml"])
def test_a_language_model_reads_all_weights_except_the_embedding_table(
    tiny_language_bundle: Path, tiny_language: Path, file: str
) -> None:
    from safetensors.numpy import load_file

    weights = load_file(tiny_language / "model.safetensors")
    table = VOCAB_SIZE * HIDDEN_SIZE * 4
    needed = sum(array.nbytes for array in weights.values()) - (table if "lm_head.weight" in weights else 0)
    assert bytes_read(tiny_language_bundle / file) == pytest.approx(needed, rel=0.02)
