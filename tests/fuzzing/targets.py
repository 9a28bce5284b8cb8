"""Fuzz targets: every reader of untrusted files, as a function of bytes.

A target may raise `EdgePromptError` and nothing else.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from edge_prompt.base.errors import ManifestError
from edge_prompt.formats.bundle import Bundle, read_bundle
from edge_prompt.formats.card import read_card
from edge_prompt.formats.head import read_head, require_head
from edge_prompt.formats.manifest import MANIFEST_NAME
from edge_prompt.formats.prompt import read_prompt
from edge_prompt.storage.files import json_object
from edge_prompt.untrusted.npy import read_npy
from edge_prompt.untrusted.onnx_file import require_known_onnx
from edge_prompt.untrusted.openvino_file import require_known_ir
from tests.fuzzing import mutations, seeds
from tests.fuzzing.json_trees import mutate_json
from tests.fuzzing.mutations import Mutation, folder_mutation, unpack, zip_mutation


@dataclass(frozen=True)
class Target:
    """A reader to fuzz.

    Attributes:
        feeds: What the bytes are.
        seeds: Valid files.
        read: The reader, given the bytes and a folder of its own.
        mutate: The mutation for the format.
    """

    feeds: str
    seeds: Callable[[], list[bytes]]
    read: Callable[[bytes, Path], object]
    mutate: Mutation


def _laid(content: bytes, path: Path) -> Path:
    path.write_bytes(content)
    return path


def _npy(content: bytes, folder: Path) -> object:
    return read_npy(_laid(content, folder / "x.npy"))


def _head(content: bytes, folder: Path) -> None:
    path = _laid(content, folder / "x.npz")
    dense = b"dense_weight" in content
    require_head(read_head(path, "gelu" if dense else None), ("a", "b"), path)


def _card(content: bytes, folder: Path) -> object:
    return read_card(_laid(content, folder / "x.json"))


def _prompt(content: bytes, folder: Path) -> object:
    array, head, card = unpack(content, 3)
    path = _laid(array, folder / "x.npy")
    _laid(head, folder / "x.head.npz")
    _laid(_with_digests(card, array, head), folder / "x.json")
    return read_prompt(path)


def _with_digests(card: bytes, *files: bytes) -> bytes:
    for index, file in enumerate(files):
        card = card.replace(b"$%d" % index, hashlib.sha256(file).hexdigest().encode())
    return card


def _manifest(content: bytes, folder: Path) -> None:
    _laid(content, folder / MANIFEST_NAME)
    bundle = read_bundle(folder)
    for graph in (*bundle.manifest.graphs.values(), *bundle.manifest.fold_graphs.values()):
        for files in (graph.sha256, bundle.manifest.files):
            try:
                bundle.require_unaltered(files)
            except ManifestError:  # a path that leaves the folder is an UnsafePathError, which is raised on
                continue


def _safetensors(content: bytes, folder: Path) -> None:
    from edge_prompt_export.adapters.safetensors_file import read_safetensors

    for tensor in read_safetensors(_laid(content, folder / "x.safetensors")).tensors.values():
        tensor.array()


def _torch(content: bytes, folder: Path) -> None:
    from edge_prompt_export.adapters.torch_file import read_bin

    for tensor in read_bin(_laid(content, folder / "x.bin")).tensors.values():
        tensor.array()


def _adapter(content: bytes, folder: Path) -> None:
    from edge_prompt_export.adapters.adapter_files import CONFIG_NAME, TENSORS_NAME, read_adapter
    from edge_prompt_export.adapters.heads import head_of
    from edge_prompt_export.adapters.prompts import FORMS, prompts_of

    config, tensors = unpack(content, 2)
    _laid(config, folder / CONFIG_NAME)
    _laid(tensors, folder / TENSORS_NAME)
    adapter, manifest = read_adapter(folder), seeds.text_manifest()
    prompts_of(adapter, manifest)
    form = FORMS[adapter.config.peft_type]
    head_of(adapter, form.tensors, form.kind, manifest)


def _image(content: bytes, _folder: Path) -> object:
    from edge_prompt_runtime.inputs.image.files import read_image

    return read_image(content)


def _compiled(content: bytes, folder: Path) -> object:
    from edge_prompt_runtime.language.compiled_files import arrays_path, card_path, read_compiled

    arrays, card = unpack(content, 2)
    prompt, bundle = _laid(b"x", folder / "x.npy"), Bundle(folder, seeds.language_manifest())
    graph = hashlib.sha256(f"{seeds.DIGEST}  m.xml".encode()).hexdigest().encode()
    card = card.replace(b"$prompt", hashlib.sha256(b"x").hexdigest().encode()).replace(b"$graph", graph)
    _laid(arrays, arrays_path(prompt, "openvino"))
    _laid(_with_digests(card, arrays), card_path(prompt, "openvino"))
    return read_compiled(prompt, hashlib.sha256(b"x").hexdigest(), bundle, "openvino", seeds.LENGTH)


def _tokenizer_config(content: bytes, folder: Path) -> object:
    from edge_prompt_runtime.inputs.chat.template_files import chat_template_of

    return chat_template_of(None, _laid(content, folder / "x.json"))


def _template(content: bytes, folder: Path) -> object:
    from edge_prompt_runtime.inputs.chat.template_files import chat_template_of

    template = chat_template_of(_laid(content, folder / "x.jinja"), None)
    assert template is not None
    return template.render([{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}])


def _generation_config(content: bytes, _folder: Path) -> object:
    from edge_prompt_runtime.generation.model_defaults import settings_from

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about settings that are not implemented
        return settings_from(json_object(content, "x", ManifestError))


def _onnx(content: bytes, folder: Path) -> None:
    require_known_onnx(_laid(content, folder / "x.onnx"), "x.onnx", {"x.onnx": len(content), "w.bin": 16})


def _openvino(content: bytes, folder: Path) -> None:
    require_known_ir(_laid(content, folder / "x.xml"), 16)


def _results(content: bytes, folder: Path) -> None:
    """Read results, compare them with themselves as `--compare` does, and show them."""
    from edge_prompt_runtime.bench.comparison import compare
    from edge_prompt_runtime.bench.comparison_table import comparison_tables
    from edge_prompt_runtime.bench.results import read_results
    from edge_prompt_runtime.bench.tables import tables

    results = read_results(_laid(content, folder / "x.json"))
    assert list(tables(results))
    assert list(comparison_tables(compare(results, results)))


TARGETS = {
    "npy": Target("a prompt's array", seeds.npys, _npy, mutations.mutate_npy),
    "head": Target("the arrays of a head", seeds.npzs, _head, zip_mutation(mutations.mutate_npy)),
    "card": Target("a prompt's card", seeds.cards, _card, mutate_json),
    "prompt": Target(
        "a prompt with its head and card, whose digests are right",
        seeds.prompts,
        _prompt,
        folder_mutation(mutations.mutate_npy, zip_mutation(mutations.mutate_npy), mutate_json),
    ),
    "manifest": Target("the manifest of a bundle", seeds.manifests, _manifest, mutate_json),
    "safetensors": Target("an adapter's tensors", seeds.safetensors_files, _safetensors, mutations.mutate_safetensors),
    "torch": Target("the same in torch's format", seeds.torch_files, _torch, zip_mutation(mutations.mutate_bytes)),
    "adapter": Target(
        "an adapter of PEFT",
        seeds.adapters,
        _adapter,
        folder_mutation(mutate_json, mutations.mutate_safetensors),
    ),
    "image": Target("an image", seeds.images, _image, mutations.mutate_png),
    "compiled": Target(
        "a compiled prompt with its card, whose digests are right",
        seeds.compiled,
        _compiled,
        folder_mutation(zip_mutation(mutations.mutate_npy), mutate_json),
    ),
    "tokenizer_config": Target("a tokenizer's configuration", seeds.tokenizer_configs, _tokenizer_config, mutate_json),
    "template": Target("a chat template", seeds.templates, _template, mutations.mutate_template),
    "generation_config": Target(
        "how a model's authors generate", seeds.generation_configs, _generation_config, mutate_json
    ),
    "results": Target("what a benchmark found", seeds.results, _results, mutate_json),
    "onnx": Target("a graph for ONNX Runtime", seeds.onnx_models, _onnx, mutations.mutate_wire),
    "openvino": Target("a graph for OpenVINO", seeds.openvino_nets, _openvino, mutations.mutate_xml),
}
"""By the name that `fuzz.py` takes."""
