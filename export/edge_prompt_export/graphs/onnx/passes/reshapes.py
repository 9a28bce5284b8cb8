"""Remove pairs of reshapes that split heads and join them again, which are no-ops between two fused operators."""

from __future__ import annotations

from typing import Any

import onnx_ir
from onnxscript.rewriter import pattern

from edge_prompt_export.graphs.onnx.passes.base import GraphPass, broken


class RemoveReshapePairs(GraphPass):
    """Replaces two reshapes that give a value its own shape by the value."""

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        rule = pattern.RewriteRule(_two_reshapes, _identity, _keeps_shape)
        return pattern.RewriteRuleSet([rule]).apply_to_model(model) > 0

    def ensures(self, model: onnx_ir.Model) -> None:
        """No such pair is left.

        Raises:
            GraphPostconditionError: One is left.
        """
        left = [str(node.name) for node in model.graph if _is_pair(node)]
        if left:
            raise broken(self, f"the reshapes {', '.join(left)}", "none")


def _is_pair(second: onnx_ir.Node) -> bool:
    first = second.inputs[0].producer() if second.op_type == "Reshape" and second.inputs[0] is not None else None
    if first is None or first.op_type != "Reshape" or len(first.outputs[0].uses()) > 1 or first.inputs[0] is None:
        return False
    own = first.inputs[0].shape
    return own is not None and own == second.outputs[0].shape


def _two_reshapes(op: Any, x: Any, first: Any, second: Any) -> Any:
    return op.Reshape(op.Reshape(x, first), second, _outputs=["back"])


def _keeps_shape(_context: Any, x: onnx_ir.Value, back: onnx_ir.Value, **_: Any) -> bool:
    return x.shape is not None and x.shape == back.shape


def _identity(op: Any, x: Any, **_: Any) -> Any:
    return op.Identity(x)
