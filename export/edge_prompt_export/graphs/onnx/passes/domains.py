"""Declare the operator sets that a graph uses."""

from __future__ import annotations

import onnx_ir

from edge_prompt_export.graphs.onnx.passes.attention import ORT_DOMAIN
from edge_prompt_export.graphs.onnx.passes.base import GraphPass, refused

_KNOWN = {ORT_DOMAIN: 1}
"""The versions of operator sets that rewriters use without declaring them."""


class DeclareDomains(GraphPass):
    """Adds the operator sets of all nodes to the model's imports."""

    def requires(self, model: onnx_ir.Model) -> None:
        """Every operator is in a declared operator set, or in one whose version is known.

        Raises:
            GraphPreconditionError: One is in another.
        """
        unknown = sorted(_undeclared(model) - _KNOWN.keys())
        if unknown:
            raise refused(self, f"operators of {', '.join(unknown)}", f"operators of ONNX or {', '.join(_KNOWN)}")

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        missing = _undeclared(model)
        model.opset_imports.update({domain: _KNOWN[domain] for domain in missing})
        return bool(missing)


def _undeclared(model: onnx_ir.Model) -> set[str]:
    return {node.domain for node in model.graph} - model.opset_imports.keys()
