"""Each pass leaves an equivalent graph, and refuses a graph that it does not understand without changing it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir
import pytest
import torch
from onnx_ir.passes import PassBase

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt_export.conditioning.onnx_attention import DOMAIN, OPERATOR
from edge_prompt_export.graphs.onnx.export import onnx_model
from edge_prompt_export.graphs.onnx.passes.attention import (
    ORT_DOMAIN,
    FusedAttention,
    PlainAttention,
    ort_attentions,
)
from edge_prompt_export.graphs.onnx.passes.base import (
    FunctionPass,
    GraphPass,
    GraphPostconditionError,
    GraphPreconditionError,
    run_passes,
)
from edge_prompt_export.graphs.onnx.passes.domains import DeclareDomains
from edge_prompt_export.graphs.onnx.passes.mask import RemoveMask
from edge_prompt_export.graphs.onnx.passes.products import JoinProducts, PackedAttention
from edge_prompt_export.graphs.onnx.passes.provenance import RecordProvenance
from edge_prompt_export.graphs.onnx.passes.reshapes import RemoveReshapePairs
from edge_prompt_export.graphs.onnx.passes.rotary import FlatRotary, RotaryInAttention
from edge_prompt_export.graphs.onnx.pipeline import fused_passes, language_passes, plain_passes
from edge_prompt_export.modalities.language.backbone import LanguageBackbone
from tests.export.graphs.onnx.small_graphs import (
    Arrays,
    assert_same,
    constant,
    model_of,
    outputs_of,
    random,
    value,
)

METADATA = {"edge-prompt": "1.2.3", "source": "somewhere"}


@pytest.fixture(scope="module")
def exported(loaded_language: LanguageBackbone) -> onnx_ir.Model:
    """The graph of a tiny language model, as torch's exporter writes it; clone it before changing it."""
    module = loaded_language.module
    return onnx_model(module, module.trace_inputs(), module.dynamic_axes(), module.output_names)


@pytest.fixture(scope="module")
def row(loaded_language: LanguageBackbone) -> dict[str, torch.Tensor]:
    """Several tokens after a past; ONNX Runtime's attention takes only one row of these."""
    inputs = loaded_language.module.trace_inputs()
    return {name: tensor if name == "logits_to_keep" else tensor[:1] for name, tensor in inputs.items()}


@pytest.fixture(scope="module")
def feeds(row: dict[str, torch.Tensor]) -> Arrays:
    """The inputs of either form."""
    inputs = {name: tensor.numpy() for name, tensor in row.items()}
    length = inputs["attention_mask"].shape[1]
    lengths = {"seqlens_k": np.full(1, length - 1, np.int32), "total_sequence_length": np.array(length, np.int32)}
    return {**inputs, **lengths}


@pytest.fixture(scope="module")
def wanted(loaded_language: LanguageBackbone, row: dict[str, torch.Tensor]) -> Arrays:
    """What torch computes."""
    module = loaded_language.module
    with torch.no_grad():
        outputs = module(**row)
    return {name: output.numpy() for name, output in zip(module.output_names, outputs, strict=True)}


def test_every_pass_of_the_plain_form_keeps_the_outputs(exported: onnx_ir.Model, feeds: Arrays, wanted: Arrays) -> None:
    for joined in (False, True):
        model = exported.clone()
        if joined:
            run_passes(model, language_passes())
        for graph_pass in plain_passes(METADATA):
            graph_pass(model)
            assert_same(outputs_of(model, feeds), wanted)


def test_every_pass_of_the_fused_form_keeps_the_outputs(
    exported: onnx_ir.Model, feeds: Arrays, wanted: Arrays, loaded_language: LanguageBackbone
) -> None:
    model = exported.clone()
    run_passes(model, language_passes())
    for graph_pass in fused_passes(loaded_language.module.max_positions, METADATA):
        graph_pass(model)
        assert_same(outputs_of(model, feeds), wanted, atol=2e-5)
    assert ort_attentions(model)


def products(*, shaped: bool = True) -> onnx_ir.Model:
    """Two products of the same value, one of them with a bias."""
    x = value("x", ("batch", 4) if shaped else None)
    hidden = onnx_ir.node("Relu", [x], name="hidden")
    hidden.outputs[0].shape, hidden.outputs[0].type = x.shape, x.type
    weights = [constant(f"weight_{number}", random(4, 3 + number, seed=number)) for number in range(2)]
    bias = constant("bias", random(3))
    first = onnx_ir.node("MatMul", [hidden.outputs[0], weights[0]], name="first")
    second = onnx_ir.node("MatMul", [hidden.outputs[0], weights[1]], name="second")
    total = onnx_ir.node("Add", [first.outputs[0], bias], name="total")
    ends = [onnx_ir.node("Tanh", [end.outputs[0]], name=f"end_{end.name}") for end in (total, second)]
    for number, end in enumerate(ends):
        end.outputs[0].name = f"y_{number}"
        end.outputs[0].shape, end.outputs[0].type = onnx_ir.Shape(["batch", 3 + number]), x.type
    nodes = [hidden, first, second, total, *ends]
    return model_of([x], [end.outputs[0] for end in ends], nodes, [*weights, bias])


def reshapes(last: tuple[int, ...] = (0, 8)) -> onnx_ir.Model:
    """Two reshapes, which cancel each other if the last shape is the first."""
    x = value("x", ("batch", 8))
    shapes = [constant(f"shape_{n}", np.array(s, np.int64)) for n, s in enumerate(((0, 2, 4), last))]
    first = onnx_ir.node("Reshape", [x, shapes[0]], name="apart")
    second = onnx_ir.node("Reshape", [first.outputs[0], shapes[1]], name="together")
    second.outputs[0].shape, second.outputs[0].type = onnx_ir.Shape(["batch", *last[1:]]), x.type
    end = onnx_ir.node("Relu", [second.outputs[0]], name="end")
    end.outputs[0].name, end.outputs[0].shape, end.outputs[0].type = "y", second.outputs[0].shape, x.type
    return model_of([x], [end.outputs[0]], [first, second, end], shapes)


def test_products_of_one_value_become_one() -> None:
    model, feeds = products(), {"x": random(5, 4)}
    before = outputs_of(model, feeds)
    assert JoinProducts()(model).modified
    assert_same(outputs_of(model, feeds), before)
    assert [node.op_type for node in model.graph] == ["Relu", "MatMul", "Split", "Add", "Tanh", "Tanh"]
    assert not JoinProducts()(model).modified


@pytest.mark.parametrize(("last", "removed"), [((0, 8), True), ((0, 4, 2), False)])
def test_reshapes_that_cancel_each_other_are_removed(last: tuple[int, ...], removed: bool) -> None:
    model, feeds = reshapes(last), {"x": random(3, 8)}
    before = outputs_of(model, feeds)
    assert RemoveReshapePairs()(model).modified is removed
    assert_same(outputs_of(model, feeds), before)


def placeholder(**changed: object) -> onnx_ir.Model:
    """A placeholder of attention with other attributes; None removes one."""
    heads, head_dim = 2, 8
    attributes = {
        "num_heads": heads,
        "kv_num_heads": heads,
        "head_dim": head_dim,
        "scale": 0.3,
        "softcap": 0.0,
        "local_window_size": -1,
    } | changed
    parts = [value(name, ("batch", heads, "new", head_dim)) for name in ("query", "key", "value")]
    past = [value(name, ("batch", heads, "past", head_dim)) for name in ("past_key", "past_value")]
    bias = value("bias", ("batch", 1, "new", "length"))
    given = {name: number for name, number in attributes.items() if number is not None}
    inputs = [*parts, *past, bias]
    node = onnx_ir.node(OPERATOR, inputs, given, domain=DOMAIN, num_outputs=3, name="attention")  # type: ignore[arg-type]
    for output, name in zip(node.outputs, ("y", "present_key", "present_value"), strict=True):
        output.name, output.type, output.shape = name, parts[0].type, parts[0].shape
    return model_of(inputs, node.outputs, [node])


def ort_attention(past_key: tuple[int | str, ...] | None = ("batch", 2, "past", 8), axis: int = -1) -> onnx_ir.Model:
    """ONNX Runtime's attention over the parts of a joined product."""
    joined = value("joined", ("batch", "new", 48))
    past = [value("past_key", past_key), value("past_value", past_key)]
    lengths = [value("seqlens_k", ("batch",), onnx_ir.DataType.INT32), value("total", (), onnx_ir.DataType.INT32)]
    positions = value("position_ids", ("batch", "new"), onnx_ir.DataType.INT64)
    sizes = constant("sizes", np.array([16, 16, 16], np.int64))
    split = onnx_ir.node("Split", [joined, sizes], {"axis": axis}, num_outputs=3, name="split")
    for part in split.outputs:
        part.shape, part.type = onnx_ir.Shape(["batch", "new", 16]), joined.type
    node = onnx_ir.node(
        "GroupQueryAttention",
        [*split.outputs, *past, *lengths],
        {"num_heads": 2, "kv_num_heads": 2},
        domain=ORT_DOMAIN,
        num_outputs=3,
        name="attention",
    )
    for output, name in zip(node.outputs, ("y", "present_key", "present_value"), strict=True):
        output.name, output.type = name, joined.type
    return model_of([joined, *past, *lengths, positions], node.outputs, [split, node], [sizes])


@pytest.mark.parametrize("axis", [-1, 2])
def test_attention_reads_what_was_joined(axis: int) -> None:
    model = ort_attention(axis=axis)
    feeds: Arrays = {
        "joined": random(1, 3, 48),
        "past_key": random(1, 2, 4, 8, seed=1),
        "past_value": random(1, 2, 4, 8, seed=2),
        "seqlens_k": np.full(1, 6, np.int32),
        "total": np.array(7, np.int32),
        "position_ids": np.zeros((1, 3), np.int64),
    }
    before = outputs_of(model, feeds)
    assert PackedAttention()(model).modified
    onnx_ir.passes.common.RemoveUnusedNodesPass()(model)
    assert [node.op_type for node in model.graph] == ["GroupQueryAttention"]
    assert_same(outputs_of(model, feeds), before)


def with_input(model: onnx_ir.Model, *names: str) -> onnx_ir.Model:
    model.graph.inputs.extend(value(name, ("batch",)) for name in names)
    return model


def of_another_domain() -> onnx_ir.Model:
    x = value("x", ("batch",))
    node = onnx_ir.node("Secret", [x], domain="org.secret", name="secret")
    node.outputs[0].name = "y"
    return model_of([x], node.outputs, [node])


def masked() -> onnx_ir.Model:
    """A graph that itself reads its mask."""
    mask = value("attention_mask", ("batch",))
    node = onnx_ir.node("Relu", [mask], name="reader")
    node.outputs[0].name = "y"
    return model_of([mask], node.outputs, [node])


@pytest.mark.parametrize(
    ("graph_pass", "build", "found"),
    [
        (JoinProducts(), lambda: products(shaped=False), "without a shape"),
        (PlainAttention(), lambda: placeholder(softcap=None), "CachedAttention with 6 inputs and the attributes"),
        (PlainAttention(), lambda: placeholder(qk_norm=1), "CachedAttention with 6 inputs and the attributes"),
        (FusedAttention(), lambda: placeholder(scale=None), "CachedAttention with 6 inputs and the attributes"),
        (FusedAttention(), lambda: with_input(placeholder(), "seqlens_k"), "the inputs seqlens_k"),
        (FlatRotary(), products, r"the inputs \['x'\]; expected position_ids"),
        (RotaryInAttention(16), products, r"the inputs \['x'\]; expected position_ids"),
        (RotaryInAttention(16), lambda: ort_attention(None), "past_key without a shape"),
        (RotaryInAttention(16), lambda: ort_attention(("batch", 2, "past", "size")), "the head size size"),
        (RotaryInAttention(0), ort_attention, "0 positions"),
        (PackedAttention(), lambda: ort_attention(axis=1), "split along another axis"),
        (RemoveMask(), products, r"the inputs \['x'\]; expected the input attention_mask"),
        (RemoveMask(), masked, r"itself reads attention_mask \(Relu\)"),
        (DeclareDomains(), of_another_domain, "operators of org.secret"),
        (RecordProvenance({"source": "somewhere"}), products, "the metadata"),
    ],
)
def test_what_a_pass_does_not_understand_is_refused_and_stays(
    graph_pass: PassBase, build: Callable[[], onnx_ir.Model], found: str
) -> None:
    model = build()
    before = onnx_ir.serde.serialize_model(model)
    with pytest.raises(GraphPreconditionError, match=rf"{found}.*Try --format openvino") as raised:
        run_passes(model, [graph_pass])
    assert isinstance(raised.value, UnsupportedArchitectureError)
    assert onnx_ir.serde.serialize_model(model) == before


class _Forgetful(PlainAttention):
    def rewrite(self, model: onnx_ir.Model) -> bool:
        return False


class _Renaming(GraphPass):
    def rewrite(self, model: onnx_ir.Model) -> bool:
        model.graph.outputs[0].name = "other"
        return True


@pytest.mark.parametrize(
    ("graph_pass", "build", "left"),
    [
        (_Forgetful(), placeholder, "_Forgetful left CachedAttention attention; expected none"),
        (_Renaming(), products, r"_Renaming left the outputs \['other', 'y_1'\]"),
        (FunctionPass(lambda model: model.graph.outputs.pop()), products, r"FunctionPass left the outputs \['y_0'\]"),
    ],
)
def test_a_pass_that_does_not_keep_its_promise_is_found(
    graph_pass: PassBase, build: Callable[[], onnx_ir.Model], left: str
) -> None:
    with pytest.raises(GraphPostconditionError, match=left):
        run_passes(build(), [graph_pass])


def test_provenance_replaces_all_other_metadata() -> None:
    model, feeds = products(), {"x": random(5, 4)}
    before = outputs_of(model, feeds)
    for node in model.graph:
        node.metadata_props["file"] = "/home/someone/network.py"
        node.doc_string = "line 7"
    RecordProvenance(METADATA)(model)
    assert dict(model.metadata_props) == METADATA
    assert not any(node.metadata_props or node.doc_string for node in model.graph)
    assert_same(outputs_of(model, feeds), before)


def test_operator_sets_are_declared() -> None:
    model = ort_attention()
    del model.opset_imports[ORT_DOMAIN]
    assert DeclareDomains()(model).modified
    assert model.opset_imports[ORT_DOMAIN] == 1
    assert not DeclareDomains()(model).modified
