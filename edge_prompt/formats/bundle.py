"""A bundle: the folder with one frozen backbone, exported for the engines, and everything it needs on a device."""

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
        manifest: The manifest.
        manifest_sha256: The SHA-256 of the bytes from which the manifest was read; empty if it was not read.
        signatures: Checks the signatures of the bundle and of all prompts loaded for it; None requires no signatures.
    """

    folder: Path
    manifest: Manifest
    manifest_sha256: str = ""
    signatures: Signatures | None = None

    @property
    def sha256(self) -> dict[str, str]:
        """The SHA-256 by name of the manifest and of every file that it lists."""
        digests = dict(self.manifest.files)
        for graph in (*self.manifest.graphs.values(), *self.manifest.fold_graphs.values()):
            digests |= graph.sha256
        return digests | {MANIFEST_NAME: self.manifest_sha256}

    def graph(self, engine: str) -> Graph:
        """Return the graph for `engine`.

        Raises:
            UnknownEngineError: The bundle has no graph for it.
        """
        return self._graph_for(
            engine,
            self.manifest.graphs,
            lacks="no graph",
            remedy="choose another engine, or export the backbone with another --format",
        )

    def fold_graph(self, engine: str) -> Graph:
        """Return the graph that folds deep prompts for `engine`.

        Raises:
            UnknownEngineError: The bundle has no such graph.
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
                wanted=f"one of {', '.join(graphs)}" if graphs else "one graph for it",
                remedy=remedy,
            )
        return graphs[engine]

    def files_of(self, graph: Graph) -> tuple[Path, Path | None]:
        """Check all files of a graph, and return the paths of the graph and of its separate weights file, if any.

        Raises:
            ManifestError: A file is missing or altered, or the graph has custom operators or weights in other files.
        """
        self.require_unaltered(graph.sha256)
        require_known_graph(self.folder, graph)
        return self.paths_of(graph)

    def paths_of(self, graph: Graph) -> tuple[Path, Path | None]:
        """Return the paths of a graph and of its separate weights file, if any, without checking them."""
        weights_file = None if graph.weights_file is None else resolve_inside(self.folder, graph.weights_file)
        return resolve_inside(self.folder, graph.file), weights_file

    def file(self, name: str) -> Path | None:
        """Check a file other than a graph, and return its path; None if the bundle has no such file.

        Raises:
            ManifestError: The file is missing or altered.
        """
        if name not in self.manifest.files:
            return None
        self.require_unaltered({name: self.manifest.files[name]})
        return resolve_inside(self.folder, name)

    def require_unaltered(self, digests: Mapping[str, str]) -> None:
        """Compare files of the bundle with their digests.

        Args:
            digests: The SHA-256 of each file by name.

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
    """Read the bundle in `folder`. The manifest is checked now; each other file is checked when it is used.

    Raises:
        MissingFileError: The folder does not exist, or contains no manifest.
        ManifestError: The manifest is malformed or has a newer format version.
    """
    if not (folder / MANIFEST_NAME).is_file():
        raise MissingFileError(
            found=f"{folder}: {'no ' + MANIFEST_NAME + ' in it' if folder.is_dir() else 'no such folder'}",
            wanted="a bundle",
            remedy="create one with 'edge-prompt export MODEL BUNDLE'",
        )
    return Bundle(folder, *read_hashed_manifest(folder))
