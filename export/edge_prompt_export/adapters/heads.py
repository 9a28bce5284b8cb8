"""Convert the classifiers that PEFT saves with a prompt to heads, and back.

For a text-classification network, PEFT saves its module `classifier` (or `score`). Each architecture decides how that
module is built and which feature it reads; `LAYOUTS` lists the known ones.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_prompt.base.errors import AdapterError
from edge_prompt.formats.head import Dense, Head
from edge_prompt.formats.manifest import Manifest
from edge_prompt_export.adapters.adapter_files import Adapter
from edge_prompt_export.adapters.tensors import Tensor

Float32 = NDArray[np.float32]

HEAD_PREFIX = "base_model."

_MODULE = re.compile(
    r"^base_model\.(?:model\.)?(.*?)(?:\.modules_to_save(?:\.default)?)?((?:\.(?:dense|out_proj))?\.(?:weight|bias))$"
)
"""The name of a tensor of a saved module; older versions of PEFT insert `modules_to_save.default`."""


class HeadLayout(NamedTuple):
    """The classification head of an architecture.

    Attributes:
        pooling: The feature that it reads: `pooler`, or `first`, the vector of the first position.
        linear: Name of the output layer.
        dense: Name of the layer before it; empty if there is none.
        activation: The activation between the two, a key of `edge_prompt.formats.head.ACTIVATIONS`.
    """

    pooling: str
    linear: str
    dense: str = ""
    activation: str = ""

    @property
    def tensors(self) -> tuple[str, ...]:
        """The names of its tensors."""
        layers = (self.linear, self.dense) if self.dense else (self.linear,)
        return tuple(f"{layer}.{part}" for layer in layers for part in ("weight", "bias"))


_POOLED = HeadLayout("pooler", "classifier")
_SQUASHED = HeadLayout("first", "classifier.out_proj", "classifier.dense", "tanh")

LAYOUTS: Mapping[str, HeadLayout] = {
    **dict.fromkeys(("albert", "bert", "ernie", "layoutlm", "megatron-bert", "mobilebert", "rembert"), _POOLED),
    **dict.fromkeys(("camembert", "data2vec-text", "mpnet", "roberta", "roberta-prelayernorm"), _SQUASHED),
    **dict.fromkeys(("xlm-roberta", "xlm-roberta-xl", "xmod"), _SQUASHED),
    "distilbert": HeadLayout("first", "classifier", "pre_classifier", "relu"),
    "electra": HeadLayout("first", "classifier.out_proj", "classifier.dense", "gelu"),
}
"""The head of each architecture in transformers' `…ForSequenceClassification`, by `model_type`."""

_EQUAL_POOLINGS = {("prefix", "first", "cls")}
"""Triples of kind, required feature, and available feature that is equal: with a prefix, the first position is the
first token."""

_NEAR_ZERO = 2.0**-13
"""A factor that scales features of up to 30 to where tanh is linear to within 5e-6; as a power of two, it is exact."""


def head_of(adapter: Adapter, prompt_tensors: tuple[str, ...], kind: str, manifest: Manifest) -> Head | None:
    """The head of an adapter; None if it has none.

    Args:
        adapter: The adapter.
        prompt_tensors: The names of the tensors that its prompt consists of.
        kind: The kind of its prompt.
        manifest: The manifest of the bundle.

    Raises:
        AdapterError: The adapter contains modules that are not a head, or a head that is unknown, incomplete, or reads
            a feature that the bundle does not provide.
    """
    rest = {name: tensor for name, tensor in adapter.file.tensors.items() if name not in prompt_tensors}
    if not rest:
        return None
    found = {_plain(name): tensor for name, tensor in rest.items()}
    names, model_type = ", ".join(sorted(rest)[:4])[:200], manifest.backbone.model_type
    if adapter.config.task_type != "SEQ_CLS":
        raise AdapterError(
            found=f"{adapter.file.path}: {names}, saved by a {adapter.config.task_type[:40] or 'nameless'} adapter",
            wanted="a prompt alone, or a SEQ_CLS adapter with a prompt and a text classifier",
            remedy="train a prompt that leaves the rest of the network unchanged",
        )
    layout = LAYOUTS.get(model_type)
    if layout is None:
        raise AdapterError(
            found=f"{adapter.file.path}: a classifier ({names}) of {model_type!r}",
            wanted=f"one of {', '.join(LAYOUTS)}, whose classifiers are known",
            remedy="train the prompt on such a network",
        )
    if set(found) != set(layout.tensors):
        raise AdapterError(
            found=f"{adapter.file.path}: {', '.join(sorted(found)[:6])[:200]} in addition to the prompt",
            wanted=f"{', '.join(layout.tensors)}, the classifier of {model_type!r}, and nothing else",
            remedy="train the adapter with the whole classifier, and no other module, in modules_to_save",
        )
    _require_feature(layout, kind, manifest, str(adapter.file.path))
    return _head(found, layout, manifest.backbone.feature_size)


def tensors_of_head(head: Head, kind: str, manifest: Manifest, name: str) -> dict[str, Float32]:
    """Convert a head to the tensors of the network's own classifier, by the names that PEFT gives them.

    If the network's classifier applies tanh, a linear head is scaled so that it passes through the linear part of tanh.

    Args:
        head: The head.
        kind: The kind of its prompt.
        manifest: The manifest of the bundle.
        name: The prompt, for messages.

    Raises:
        AdapterError: The architecture's classifier is unknown, reads another feature, or has another form.
    """
    layout = LAYOUTS.get(manifest.backbone.model_type)
    if layout is None:
        raise AdapterError(
            found=f"{name} has a head for a backbone of type {manifest.backbone.model_type!r}",
            wanted=f"one of {', '.join(LAYOUTS)}, whose classifiers are known",
            remedy="export the prompt without its head",
        )
    _require_feature(layout, kind, manifest, name)
    if head.dense is None and layout.activation == "tanh":
        identity = np.eye(head.feature_size, dtype=np.float32) * np.float32(_NEAR_ZERO)
        dense = Dense(identity, np.zeros(head.feature_size, np.float32), "tanh")
        head = Head(head.weight / np.float32(_NEAR_ZERO), head.bias, dense)
    _require_form(head, layout, manifest, name)
    arrays = [head.weight, head.bias, *(() if head.dense is None else (head.dense.weight, head.dense.bias))]
    return {HEAD_PREFIX + tensor: array for tensor, array in zip(layout.tensors, arrays, strict=True)}


def _require_form(head: Head, layout: HeadLayout, manifest: Manifest, name: str) -> None:
    """Refuse a head whose form differs from the network's own classifier."""
    activation, width = (
        ("", head.feature_size) if head.dense is None else (head.dense.activation, len(head.dense.weight))
    )
    size = manifest.backbone.feature_size
    if (activation, width, head.feature_size) != (layout.activation, size, size):
        form = f"{activation} over a dense layer of width {width}" if activation else "no dense layer"
        wanted = f"{layout.activation} over a dense layer of width {size}" if layout.activation else "no dense layer"
        raise AdapterError(
            found=f"{name} has a head with {form} for {head.feature_size} features",
            wanted=f"{wanted} for {size} features, like the classifier of {manifest.backbone.model_type!r}",
            remedy="use a head of that form",
        )


def _plain(name: str) -> str:
    """The name of a saved module's tensor inside the network; other names are returned unchanged."""
    match = _MODULE.match(name)
    return name if match is None else match.group(1) + match.group(2)


def _head(tensors: Mapping[str, Tensor], layout: HeadLayout, feature_size: int) -> Head:
    weight = tensors[f"{layout.linear}.weight"]
    classes = weight.shape[0] if len(weight.shape) == 2 and weight.shape[0] else 1
    width = feature_size
    shapes = {f"{layout.linear}.weight": (classes, width), f"{layout.linear}.bias": (classes,)}
    if layout.dense:
        shapes |= {f"{layout.dense}.weight": (width, feature_size), f"{layout.dense}.bias": (width,)}
    for name, shape in shapes.items():
        if tensors[name].shape != shape:
            raise AdapterError(
                found=f"{tensors[name].name} has shape {list(tensors[name].shape)[:9]}",
                wanted=f"{list(shape)}, for the {feature_size} features of this bundle",
                remedy="use an adapter that was trained on this bundle's backbone",
            )
    arrays = [tensors[name].array().astype(np.float32) for name in layout.tensors]
    return Head(arrays[0], arrays[1], Dense(arrays[2], arrays[3], layout.activation) if layout.dense else None)


def _require_feature(layout: HeadLayout, kind: str, manifest: Manifest, name: str) -> None:
    there: str = getattr(manifest.preprocessing, "pooling", "")
    has_feature = all("features" in graph.outputs for graph in manifest.graphs.values())
    if has_feature and (there == layout.pooling or (kind, layout.pooling, there) in _EQUAL_POOLINGS):
        return
    raise AdapterError(
        found=f"{name}: a classifier of {manifest.backbone.model_type!r}, which reads the feature {layout.pooling!r}, "
        f"and a bundle that provides {there if has_feature else 'none'}",
        wanted=f"a bundle that provides the feature {layout.pooling!r}",
        remedy=f"export the network with --pooling {layout.pooling}",
    )
