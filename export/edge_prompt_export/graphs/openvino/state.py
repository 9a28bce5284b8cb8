"""Store a causal language model's cache as state of an OpenVINO graph, in the form that the CPU plugin fuses.

The plugin fuses ReadValue, Gather by `beam_idx`, Concat and ScaledDotProductAttention into one operation that appends
to its own memory, so the cache is not copied at every step.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import openvino
from openvino import opset13 as ops
from openvino._offline_transformations import apply_make_stateful_transformation

from edge_prompt.formats.kv_cache_names import SLIDING_WINDOWS, STATEFUL_INPUT, past_names, present_names


def make_stateful(model: openvino.Model, layer_shapes: Sequence[tuple[int, int]]) -> None:
    """Convert the cache of `model` from inputs and outputs to state, in place.

    The state starts empty. It is gathered by `beam_idx [batch]`, so rows can be selected, dropped or repeated between
    two steps.

    Args:
        model: A graph with the inputs and outputs of `edge_prompt.formats.kv_cache_names`.
        layer_shapes: `(num_kv_heads, head_dim)` of each layer.
    """
    past = past_names(len(layer_shapes))
    beam_idx = ops.parameter([-1], dtype=np.int32, name=STATEFUL_INPUT)
    beam_idx.output(0).get_tensor().add_names({STATEFUL_INPUT})
    model.add_parameters([beam_idx])
    for name in past:
        port = model.input(name)
        consumers = list(port.get_target_inputs())
        gathered = ops.gather(port.node, beam_idx, ops.constant(0))
        for consumer in consumers:
            consumer.replace_source_output(gathered.output(0))
    model.validate_nodes_and_infer_types()
    shapes = {name: layer_shapes[index // 2] for index, name in enumerate(past)}
    apply_make_stateful_transformation(model, dict(zip(past, present_names(len(layer_shapes)), strict=True)))
    input_ids = model.input("input_ids")
    batch = ops.gather(ops.shape_of(input_ids, output_type="i64"), ops.constant([0]), ops.constant(0))
    for operation in model.get_ops():
        if operation.get_type_name() == "ReadValue":
            heads, head_dim = shapes[_past_of(operation.get_variable_id(), past)]
            empty = ops.concat([batch, ops.constant(np.array([heads, 0, head_dim], np.int64))], 0)
            operation.set_arguments([ops.broadcast(ops.constant(0.0, dtype=np.float32), empty)])
    model.validate_nodes_and_infer_types()


def record_limits(model: openvino.Model, limits: Sequence[tuple[int | None, float | None]]) -> None:
    """Record each layer's sliding window in the runtime information; a device needs it to page the cache.

    Nothing is recorded for a network with a soft cap on its attention scores, which paged attention does not support.

    Args:
        model: The graph, changed in place.
        limits: Sliding window and soft cap of each layer, or None.
    """
    if not any(softcap for _, softcap in limits):
        windows = " ".join(str(window or 0) for window, _ in limits)
        model.set_rt_info(windows, ["edge_prompt", SLIDING_WINDOWS])


def _past_of(variable: str, past: Sequence[str]) -> str:
    """The past input of a state variable, whose name OpenVINO joins from the names of past and present."""
    return next(name for name in past if variable.startswith(f"{name}p"))
