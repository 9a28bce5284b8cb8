"""Record where a graph comes from, and remove the exporter's notes, which contain paths of the local machine."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir

from edge_prompt_export.graphs.onnx.passes.base import GraphPass, broken, refused

_PRODUCER = "edge-prompt"


class RecordProvenance(GraphPass):
    """Writes metadata about the export, and removes all other metadata.

    Args:
        metadata: The provenance; `edge-prompt` is the version that writes the file.
    """

    def __init__(self, metadata: Mapping[str, str]) -> None:
        super().__init__()
        self._metadata = metadata

    def requires(self, model: onnx_ir.Model) -> None:  # noqa: ARG002 - any model will do
        """The version that writes the file is known.

        Raises:
            GraphPreconditionError: It is not.
        """
        if _PRODUCER not in self._metadata:
            raise refused(self, f"the metadata {sorted(self._metadata)}", f"the version of {_PRODUCER}")

    def rewrite(self, model: onnx_ir.Model) -> bool:
        """See `GraphPass.rewrite`."""
        model.producer_name, model.producer_version = _PRODUCER, self._metadata[_PRODUCER]
        model.metadata_props.clear()
        model.metadata_props.update(self._metadata)
        model.graph.metadata_props.clear()
        for node in model.graph.all_nodes():
            node.metadata_props.clear()
            node.doc_string = None
            for value in node.outputs:
                value.metadata_props.clear()
        for value in [*model.graph.inputs, *model.graph.initializers.values()]:
            value.metadata_props.clear()
        return True

    def ensures(self, model: onnx_ir.Model) -> None:
        """The model has this metadata and no notes on nodes.

        Raises:
            GraphPostconditionError: It has others.
        """
        noted = [str(node.name) for node in model.graph.all_nodes() if node.metadata_props or node.doc_string]
        if noted or dict(model.metadata_props) != dict(self._metadata):
            raise broken(self, f"notes on {', '.join(noted[:5]) or 'the model'}", "only the provenance")
