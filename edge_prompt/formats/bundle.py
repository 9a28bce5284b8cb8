"""A bundle: the folder that holds one frozen backbone, exported for the engines, with all it needs on a device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_prompt.base.errors import ManifestError, MissingFileError, UnknownEngineError
from edge_prompt.formats.graph_files import require_known_graph
from edge_prompt.formats.manifest import MANIFEST_NAME, Graph, Manifest, read_hashed_manifest
from edge_prompt.formats.signed_files import Signatures
from edge_prompt.storage.files import resolve_inside, sha256_of

TOKENIZER_NAME = "tokenizer.json"
REFERENCE_NAME = "reference.npz"
PROMPTS_FOLDER = "prompts"


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk.

    Attributes:
        folder: The folder.
        manifest: What its manifest says.
        manifest_sha256: SHA-256 of the very bytes that the manifest was read from; empty if it was not read.
        signatures: What must have signed it and every prompt that is loaded for it; None if nothing must be signed.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str = ""
    signatures: Signatures | None = None

    @property
    def sha256(self) -> dict[str, str]:
        """SHA-256 by name of every file of the bundle: of the manifest, and of all that it names."""
        digests = dict(self.manifest.files)
        for graph in (*self.manifest.graphs.values(), *self.manifest.fold_graphs.values()):
            digests |= graph.sha256
        return digests | {MANIFEST_NAME: self.manifest_sha256}

    def graph(self, engine: str) -> Graph:
        """The graph for `engine`.

        Raises:
            UnknownEngineError: The bundle has none.
        """
        return self._graph_for(
            engine,
            self.manifest.graphs,
            lacks="no graph",
            remedy="choose such an engine, or export the backbone with another --format",
        )

    def fold_graph(self, engine: str) -> Graph:
        """The graph that folds deep prompts, for `engine`.

        Raises:
            UnknownEngineError: The bundle has none.
        """
        return self._graph_for(
            engine,
            self.manifest.fold_graphs,
            lacks="no graph that folds deep prompts",
            remedy="use another kind of prompt, or export the backbone again",
        )

    def _graph_for(self, engine: str, graphs: Mapping[str, Graph], lacks: str, remedy: str) -> Graph:
        if engine not in graphs:
            raise UnknownEngineError(
                found=f"{self.folder} has {lacks} for the engine {engine!r}",
                wanted=f"one of {', '.join(graphs)}" if graphs else "one",
                remedy=remedy,
            )
        return graphs[engine]

    def files_of(self, graph: Graph) -> tuple[Path, Path | None]:
        """The paths of a graph and of its weights file, if it has one apart, once all it needs was found unaltered.

        Raises:
            ManifestError: A file is missing or altered, or the graph has custom operators, or weights in other files.
        """
        self.require_unaltered(graph.sha256)
        require_known_graph(self.folder, graph)
        return self.paths_of(graph)

    def paths_of(self, graph: Graph) -> tuple[Path, Path | None]:
        """The paths of a graph and of its weights file, if it has one apart; nothing is checked."""
        weights_file = None if graph.weights_file is None else resolve_inside(self.folder, graph.weights_file)
        return resolve_inside(self.folder, graph.file), weights_file

    def file(self, name: str) -> Path | None:
        """The path of a file beside the graphs, once it was found unaltered; None if the bundle has no such file.

        Raises:
            ManifestError: The file is missing or altered.
        """
        if name not in self.manifest.files:
            return None
        self.require_unaltered({name: self.manifest.files[name]})
        return resolve_inside(self.folder, name)

    def require_unaltered(self, digests: Mapping[str, str]) -> None:
        """Check files of the bundle against their digests.

        Args:
            digests: SHA-256 by file name.

        Raises:
            ManifestError: A file is missing or altered.
        """
        for name, sha256 in digests.items():
            path = resolve_inside(self.folder, name)
            state = "missing" if not path.is_file() else "altered" if sha256_of(path) != sha256 else ""
            if state:
                raise ManifestError(
                    found=f"{path} is {state}",
                    wanted=f"the file that {MANIFEST_NAME} describes, SHA-256 {sha256[:12]}…",
                    remedy="export the backbone again or restore the file",
                )


def read_bundle(folder: Path) -> Bundle:
    """Read the bundle in `folder`; its manifest is checked now, each other file when it is used.

    Raises:
        MissingFileError: There is no such folder, or no manifest in it.
        ManifestError: The manifest is malformed or from a newer format.
    """
    if not (folder / MANIFEST_NAME).is_file():
        raise MissingFileError(
            found=f"{folder}: {'no ' + MANIFEST_NAME + ' in it' if folder.is_dir() else 'no such folder'}",
            wanted="a bundle",
            remedy="make one with 'edge-prompt export MODEL BUNDLE'",
        )
    return Bundle(folder, *read_hashed_manifest(folder))
