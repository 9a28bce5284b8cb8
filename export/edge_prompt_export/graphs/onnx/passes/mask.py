"""Remove the mask of a graph whose attention takes lengths instead."""

from __future__ import annotations

import onnx_ir

from edge_prompt_export.graphs.onnx.passes.base import GraphPass, broken, graph_input, refused

MASK = "attention_mask"


class RemoveMask(GraphPass):
    """Removes the input `attention_mask`, which nothing reads any more."""

    def requires(self, model: onnx_ir.Model) -> None:
        """The graph has the input, and nothing reads it.

        Raises:
            GraphPreconditionError: It has not, or something reads it.
        """
        mask = graph_input(model, MASK)
        if mask is None:
            raise refused(self, f"the inputs {[value.name for value in model.graph.inputs]}", f"the input {MASK}")
        readers = [use.node.op_type for use in mask.uses()]
        if readers:
            raise refused(self, f"a network that itself reads {MASK} ({', '.join(readers)})", "attention that masks")

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        mask = graph_input(model, MASK)
        if mask is None:
            return False
        model.graph.inputs.remove(mask)
        return True

    def ensures(self, model: onnx_ir.Model) -> None:
        """The graph takes no mask.

        Raises:
            GraphPostconditionError: It does.
        """
        if graph_input(model, MASK) is not None:
            raise broken(self, f"the input {MASK}", "no mask")
