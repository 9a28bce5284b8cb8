from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir
import pytest
from onnx_ir.passes.common import RemoveUnusedNodesPass

from edge_prompt_export.compression.onnx.blocks import BLOCKS, OUTER_BLOCKS, StoreInBlocks
from edge_prompt_export.compression.onnx.float16 import StoreInFloat16
from edge_prompt_export.graphs.onnx.passes.base import GraphPass, GraphPreconditionError, run_passes
from tests.export.graphs.onnx.small_graphs import Arrays, assert_same, constant, model_of, outputs_of, random, value

FEEDS: Arrays = {"ids": np.array([[0, 5, 31]], np.int64)}


def tied() -> onnx_ir.Model:
    """An embedding, a linear layer, and an output layer that is tied to the embedding."""
    ids = value("ids", ("batch", "sequence"), onnx_ir.DataType.INT64)
    table, weight = constant("table", random(32, 64)), constant("weight", random(64, 64, seed=1))
    embedding = onnx_ir.node("Gather", [table, ids], {"axis": 0}, name="embedding")
    linear = onnx_ir.node("MatMul", [embedding.outputs[0], weight], name="linear")
    transposed = onnx_ir.node("Transpose", [table], {"perm": [1, 0]}, name="transposed")
    logits = onnx_ir.node("MatMul", [linear.outputs[0], transposed.outputs[0]], name="logits")
    logits.outputs[0].name, logits.outputs[0].type = "logits", onnx_ir.TensorType(onnx_ir.DataType.FLOAT)
    return model_of([ids], logits.outputs, [embedding, linear, transposed, logits], [table, weight])


@pytest.mark.parametrize(
    ("build", "share"),
    [
        (StoreInFloat16, 1e-3),
        (lambda: StoreInBlocks(BLOCKS["int8"]), 0.03),
        (lambda: StoreInBlocks(BLOCKS["int4"]), 0.3),
    ],
)
def test_what_is_stored_with_fewer_bits_computes_nearly_the_same(build: Callable[[], GraphPass], share: float) -> None:
    model = tied()
    before = outputs_of(model, FEEDS)
    assert build()(model).modified
    RemoveUnusedNodesPass()(model)
    assert_same(outputs_of(model, FEEDS), before, atol=share * float(np.abs(before["logits"]).max()))
    assert not any(
        tensor.dtype == onnx_ir.DataType.FLOAT and len(tensor.shape) == 2 and tensor.size >= 512
        for initializer in model.graph.initializers.values()
        if (tensor := initializer.const_value) is not None and initializer.uses()
    )


def test_tied_matrices_are_the_same_bytes() -> None:
    store = StoreInBlocks(BLOCKS["int4"])
    model = tied()
    run_passes(model, [store])
    ((name, same),) = store.same.items()
    stored = model.graph.initializers
    first, second = stored[name].const_value, stored[same.other].const_value
    assert first is not None
    assert second is not None
    assert first.tobytes() == second.tobytes()
    assert same.shape == (32, OUTER_BLOCKS.block_size)


@pytest.mark.parametrize("again", [StoreInBlocks(BLOCKS["int8"]), StoreInBlocks(BLOCKS["int4"])])
def test_a_graph_in_blocks_is_not_stored_in_blocks_again(again: GraphPass) -> None:
    model = tied()
    run_passes(model, [StoreInBlocks(BLOCKS["int8"])])
    before = onnx_ir.serde.serialize_model(model)
    with pytest.raises(GraphPreconditionError, match="3 matrices that are stored in blocks already"):
        run_passes(model, [again])
    assert onnx_ir.serde.serialize_model(model) == before


def empty() -> onnx_ir.Model:
    return model_of([], [], [])


def unfilled() -> onnx_ir.Model:
    model = tied()
    model.graph.initializers["table"].const_value = None
    return model


@pytest.mark.parametrize(
    ("model", "found"),
    [
        (empty, "a graph without nodes"),
        (unfilled, "the initializer table without numbers"),
    ],
)
def test_halves_are_of_numbers_in_a_network(model: Callable[[], onnx_ir.Model], found: str) -> None:
    with pytest.raises(GraphPreconditionError, match=found):
        run_passes(model(), [StoreInFloat16()])
