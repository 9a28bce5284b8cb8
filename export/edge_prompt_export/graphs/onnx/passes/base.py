"""The interface of graph passes: onnx_ir's, with errors that an export can report, and checked access to a graph."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable

import onnx_ir
from onnx_ir.passes import InPlacePass, PassBase, PassResult, PostconditionError, PreconditionError

from edge_prompt.base.errors import UnsupportedArchitectureError

_REMEDY = "try --format openvino, or another backbone"


class GraphPreconditionError(UnsupportedArchitectureError, PreconditionError):
    """A graph has a form that a pass does not understand; the pass has not changed it."""


class GraphPostconditionError(UnsupportedArchitectureError, PostconditionError):
    """A pass has not left the graph in the form that it promises."""


class GraphPass(InPlacePass):
    """A pass that changes a graph in place and keeps the names of its outputs.

    Subclasses check in `requires` what they rely on, and in `ensures` what they promise; both raise the errors of this
    module. Apart from rounding, the outputs of the graph stay the same.
    """

    def call(self, model: onnx_ir.Model) -> PassResult:
        """Rewrite the graph, and check that its outputs still have their names."""
        before = [value.name for value in model.graph.outputs]
        modified = self.rewrite(model)
        after = [value.name for value in model.graph.outputs]
        if after != before:
            raise broken(self, f"the outputs {after}", f"the outputs {before}")
        return PassResult(model, modified)

    @abstractmethod
    def rewrite(self, model: onnx_ir.Model) -> bool:
        """Change the graph in place, and return whether anything changed."""


class FunctionPass(GraphPass):
    """A function of a library that rewrites a model in place.

    Args:
        function: The function; what it returns is ignored.
    """

    def __init__(self, function: Callable[[onnx_ir.Model], object]) -> None:
        super().__init__()
        self._function = function

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`; whether the graph changed is unknown, so the answer is yes."""
        self._function(model)
        return True


def run_passes(model: onnx_ir.Model, passes: Iterable[PassBase]) -> None:
    """Run passes in order, in place. `onnx_ir.passes.Sequential` would hide our errors inside its own.

    Raises:
        UnsupportedArchitectureError: A pass does not understand the graph, or does not keep its promise.
    """
    for graph_pass in passes:
        graph_pass(model)


def refused(graph_pass: PassBase, found: str, wanted: str) -> GraphPreconditionError:
    """The error of a pass that does not understand a graph."""
    return GraphPreconditionError(found=f"{type(graph_pass).__name__} found {found}", wanted=wanted, remedy=_REMEDY)


def broken(graph_pass: PassBase, found: str, wanted: str) -> GraphPostconditionError:
    """The error of a pass that does not keep its promise."""
    return GraphPostconditionError(found=f"{type(graph_pass).__name__} left {found}", wanted=wanted, remedy=_REMEDY)


def input_of(node: onnx_ir.Node, place: int) -> onnx_ir.Value:
    """An input of a node that the node's operator requires.

    Raises:
        GraphPreconditionError: The node lacks this input.
    """
    value = node.inputs[place] if place < len(node.inputs) else None
    if value is None:
        raise GraphPreconditionError(
            found=f"{node.op_type} {node.name} without input {place}", wanted="all its inputs", remedy=_REMEDY
        )
    return value


def shape_of(value: onnx_ir.Value) -> onnx_ir.Shape:
    """The shape of a value, which torch's exporter gives to every value.

    Raises:
        GraphPreconditionError: The value has no shape.
    """
    if value.shape is None:
        raise GraphPreconditionError(
            found=f"the value {value.name} without a shape", wanted="a graph with shapes", remedy=_REMEDY
        )
    return value.shape


def constant_tensor(value: onnx_ir.Value) -> onnx_ir.TensorProtocol:
    """The numbers of an initializer.

    Raises:
        GraphPreconditionError: The value has none.
    """
    if value.const_value is None:
        raise GraphPreconditionError(
            found=f"the initializer {value.name} without numbers", wanted="its numbers", remedy=_REMEDY
        )
    return value.const_value


def graph_of(node: onnx_ir.Node) -> onnx_ir.Graph:
    """The graph that a node is in.

    Raises:
        GraphPreconditionError: The node is in no graph, or in a function.
    """
    if not isinstance(node.graph, onnx_ir.Graph):
        raise GraphPreconditionError(
            found=f"{node.op_type} {node.name} outside of a graph", wanted="a node of a graph", remedy=_REMEDY
        )
    return node.graph


def graph_input(model: onnx_ir.Model, name: str) -> onnx_ir.Value | None:
    """The input of the graph with this name, or None."""
    return next((value for value in model.graph.inputs if value.name == name), None)
