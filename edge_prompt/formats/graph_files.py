"""Checks of the files of a graph before an engine, which trusts its input, opens them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.manifest import Graph
from edge_prompt.storage.files import resolve_inside


def require_known_graph(folder: Path, graph: Graph) -> None:
    """Check that a graph has no custom operators, and weights only in files that the manifest lists for it.

    Args:
        folder: The folder of the bundle, whose files have been checked against their digests.
        graph: One of its graphs.

    Raises:
        ManifestError: The graph is malformed or fails a check.
    """
    if graph.engine not in _CHECKS:
        return
    suffix, check = _CHECKS[graph.engine]
    if not graph.file.endswith(suffix):  # engines choose the format by the suffix
        raise ManifestError(
            found=f"{folder}: the {graph.engine} graph is named {graph.file[:80]!r}",
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
    """Check an IR. Without an explicit weights file, OpenVINO opens the file of the same name next to the IR."""
    from edge_prompt.untrusted.openvino_file import require_known_ir  # noqa: PLC0415 - as above

    weights = graph.weights_file or graph.file.removesuffix(".xml") + ".bin"
    if weights not in sizes and resolve_inside(folder, weights).exists():
        raise ManifestError(
            found=f"{folder}: {weights[:80]!r}, next to {graph.file[:80]!r}, is not listed in the manifest",
            wanted="only weights that the manifest lists for this graph",
            remedy="do not use this bundle, or export the backbone yourself",
        )
    require_known_ir(resolve_inside(folder, graph.file), sizes.get(weights, 0))


_CHECKS: Mapping[str, tuple[str, Callable[[Path, Graph, Mapping[str, int]], None]]] = {
    "onnxruntime": (".onnx", _require_onnx),
    "openvino": (".xml", _require_openvino),
}
"""The suffix of the file of a graph, and its check, by engine."""
