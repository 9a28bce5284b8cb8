"""Manifests of causal language models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.kv_cache_names import TOKEN_INPUTS, past_names, present_names, shared_form, stateful_form
from edge_prompt.formats.manifest import Backbone, Graph, LanguageManifest, Manifest, read_manifest, write_manifest
from edge_prompt.formats.preprocessing import LanguagePreprocessing, TextPreprocessing

DIGEST = "0123456789abcdef" * 4
TEXT = TextPreprocessing(48, 64, 200, 2, 0, "mean", normalize=True)
CACHE = ((2, 8), (2, 8))


def manifest_of(cache: tuple[tuple[int, int], ...]) -> LanguageManifest:
    inputs, outputs = (*TOKEN_INPUTS, *past_names(len(cache))), ("logits", *present_names(len(cache)))
    graphs = {
        engine: Graph(engine, "m", "fp32", *form(inputs, outputs), {"m": DIGEST})
        for engine, form in (("onnxruntime", shared_form), ("openvino", stateful_form))
    }
    kinds: dict[str, tuple[int | None, ...]] = {"soft": (None, 32)}
    if len(set(cache)) == 1:
        kinds["prefix"] = (len(cache), 2, cache[0][0], None, cache[0][1])
    return LanguageManifest(
        backbone=Backbone("tiny", None, "llama", "LlamaForCausalLM", "text-generation", 9, 32, DIGEST, ()),
        graphs=graphs,
        kinds=kinds,
        refused_kinds={},
        preprocessing=LanguagePreprocessing(128, 320),
        files={},
        parity={},
        versions={},
        kv_cache=cache,
    )


sizes = st.integers(1, 2**31 - 1)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cache=st.lists(st.tuples(sizes, sizes), min_size=1, max_size=3).map(tuple))
def test_a_written_manifest_is_read_again(tmp_path: Path, cache: tuple[tuple[int, int], ...]) -> None:
    manifest = manifest_of(cache)
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest


def without(manifest: Manifest, name: str) -> dict[str, Graph]:
    graph = manifest.graphs["onnxruntime"]
    return {"onnxruntime": replace(graph, inputs=tuple(found for found in graph.inputs if found != name))}


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"kv_cache": ()}, "only one of a cache and language preprocessing"),
        ({"preprocessing": TEXT}, "only one of a cache and language preprocessing"),
        ({"kv_cache": ((2, 8),) * 3}, "expected one of a language model with 3 layers"),
        ({"kv_cache": ((2, 8), (2, 0))}, r"'cache\[1\]\[1\]' is 0; expected a count from 1"),
        ({"kv_cache": ((2, 8), (2,))}, r"'cache\[1\]' has 1 items; expected 2"),
        ({"graphs": without(manifest_of(CACHE), "soft_prompt")}, "a graph from"),
        ({"graphs": without(manifest_of(CACHE), "past_key_values.1.value")}, "a graph from"),
        ({"kinds": {}}, "of a language model; expected soft"),
        ({"kinds": {"soft": (None, 32), "prefix": (3, 2, 2, None, 8)}}, "of a language model; expected soft"),
        ({"kinds": {"soft": (None, 32), "pixel": (3, 2, 2)}}, "of a language model; expected soft"),
    ],
)
def test_what_is_no_language_model_is_refused(tmp_path: Path, changes: dict[str, Any], found: str) -> None:
    write_manifest(tmp_path, replace(manifest_of(CACHE), **changes))
    with pytest.raises(ManifestError, match=found):
        read_manifest(tmp_path)


def test_a_prefix_for_layers_of_different_sizes_is_refused(tmp_path: Path) -> None:
    kinds = {"soft": (None, 32), "prefix": (2, 2, 2, None, 8)}
    write_manifest(tmp_path, replace(manifest_of(((2, 8), (4, 8))), kinds=kinds))
    with pytest.raises(ManifestError, match="of a language model; expected soft"):
        read_manifest(tmp_path)
