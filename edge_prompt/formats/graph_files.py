"""The files of a graph, looked at before an engine opens them: an engine trusts what it is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.manifest import Graph
from edge_prompt.storage.files import resolve_inside


def require_known_graph(folder: Path, graph: Graph) -> None:
    """Refuse a graph with custom operators, or with weights in files that the manifest does not name for it.

    Args:
        folder: The bundle's folder, whose files were found unaltered.
        graph: One of its graphs.

    Raises:
        ManifestError: It is such a graph, or malformed.
    """
    if graph.engine not in _CHECKS:
        return
    suffix, check = _CHECKS[graph.engine]
    if not graph.file.endswith(suffix):  # by other endings engines take files for those of other formats
        raise ManifestError(
            found=f"{folder}: the graph {graph.file[:80]!r} for {graph.engine}",
            wanted=f"a name that ends in {suffix}",
            remedy="do not use this bundle, or export the backbone yourself",
        )
    paths = {name: resolve_inside(folder, name) for name in graph.sha256}
    sizes = {name: path.stat().st_size if path.is_file() else 0 for name, path in paths.items()}
    check(folder, graph, sizes)


def _require_onnx(folder: Path, graph: Graph, sizes: Mapping[str, int]) -> None:
    from edge_prompt.untrusted.onnx_file import require_known_onnx  # noqa: PLC0415 - a device has one engine

    require_known_onnx(resolve_inside(folder, graph.file), graph.file, sizes)


def _require_openvino(folder: Path, graph: Graph, sizes: Mapping[str, int]) -> None:
    """OpenVINO takes the weights beside an IR, by its name, where it is told of no others."""
    from edge_prompt.untrusted.openvino_file import require_known_ir  # noqa: PLC0415 - as above

    weights = graph.weights_file or graph.file.removesuffix(".xml") + ".bin"
    if weights not in sizes and resolve_inside(folder, weights).exists():
        raise ManifestError(
            found=f"{folder}: {weights[:80]!r}, of which the manifest says nothing, beside {graph.file[:80]!r}",
            wanted="weights that the manifest names for this graph",
            remedy="do not use this bundle, or export the backbone yourself",
        )
    require_known_ir(resolve_inside(folder, graph.file), sizes.get(weights, 0))


_CHECKS: Mapping[str, tuple[str, Callable[[Path, Graph, Mapping[str, int]], None]]] = {
    "onnxruntime": (".onnx", _require_onnx),
    "openvino": (".xml", _require_openvino),
}
"""By engine: how its file ends, and what looks at it."""
