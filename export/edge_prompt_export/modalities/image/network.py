"""Image backbones: networks that transformers loads for features, classification, detection or segmentation."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig, PreTrainedModel

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt.formats.kinds import PROMPT_INPUTS, KindShape
from edge_prompt_export.backbone.conditioned_module import ConditionedModule, Tensors
from edge_prompt_export.base.private_names import attention_implementation
from edge_prompt_export.conditioning.attention import (
    UNMASKED_ATTENTION_NAME,
    capture_keys_and_values,
    prefix_pass,
    rows_of,
)
from edge_prompt_export.conditioning.position_embeddings import keep_interpolated_positions
from edge_prompt_export.conditioning.virtual_layers import LayerCall, condition_layers, fold, layers_of, layers_pass
from edge_prompt_export.modalities.image.pooling import IMAGE_POOLINGS, PoolingInput, default_pooling, require_pooling

IMAGE_TASK_OUTPUTS: dict[str, tuple[str, ...]] = {
    "image-feature-extraction": ("features", "last_hidden_state"),
    "image-classification": ("features", "logits"),
    "object-detection": ("features", "logits", "pred_boxes"),
    "semantic-segmentation": ("features", "logits"),
}
"""The outputs of each task's graph: `features [batch, feature_size]` for task heads, and the network's own output."""

IMAGE_KINDS = ("soft", "deep", "prefix", "pixel")

_DYNAMIC_AXES = {
    "pixel_values": {0: "batch"},
    "soft_prompt": {0: "soft_prompt_batch", 1: "num_virtual_tokens"},
    "prefix": {2: "prefix_batch", 4: "prefix_length"},
    "pixel_prompt": {0: "pixel_prompt_batch"},
}
_FREE_SIZE = {2: "height", 3: "width"}
_LEAST_PATCH = 8


class ConditionedVision(ConditionedModule):
    """A frozen image backbone that takes prompts as arguments.

    Args:
        model: The network, from one of transformers' auto classes.
        task: A key of `IMAGE_TASK_OUTPUTS`.
        pooling: A key of `IMAGE_POOLINGS`; None uses the one that suits the network.
        image_size: `(height, width)` in pixels of all images, or None if they vary in size.

    Attributes:
        pooling: How token vectors are pooled into the feature vector.
        image_size: As given.
        num_channels: Number of channels of an image.
        hidden_size: Width of a virtual token; 0 if no layer takes virtual tokens.
        layer_shapes: `(num_kv_heads, head_dim)` of each layer; empty if the architecture does not dispatch its
            attention.

    Raises:
        BackboneError: The network does not support this pooling.
        UnsupportedArchitectureError: The network takes no prompt, or does not run on images of that size.
    """

    model: PreTrainedModel

    def __init__(
        self, model: PreTrainedModel, task: str, pooling: str | None, image_size: tuple[int, int] | None
    ) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.image_size = image_size
        self.num_channels = int(getattr(image_config(model.config), "num_channels", 3))
        self.output_names = IMAGE_TASK_OUTPUTS[task]
        self._original_attention: str = attention_implementation(model)
        self._probe()
        if image_size is not None:
            keep_interpolated_positions(model)
        with torch.no_grad():
            pooled, _ = self._run(self._example_images(1, 0))
        self.pooling = pooling or default_pooling(pooled)
        require_pooling(self.pooling, pooled)
        self.kinds = self._kinds()
        if not self.kinds:
            reasons = "; ".join(dict.fromkeys(self.refused_kinds.values()))
            raise UnsupportedArchitectureError(
                found=f"{type(model).__name__} takes no prompt ({reasons})",
                wanted="a backbone that takes prompts",
                remedy="export another backbone",
            )
        inputs = [PROMPT_INPUTS[kind] for kind in ("soft", "prefix", "pixel") if kind in self.kinds]
        self.input_names = ("pixel_values", *inputs)

    def _probe(self) -> None:
        """Replace the network's attention, if the architecture allows it, and record its calls and layers."""
        model, name = self.model, type(self.model).__name__
        self.layer_shapes: list[tuple[int, int]] = []
        self.refused_kinds: dict[str, str] = {}
        self.hidden_size = 0
        self._layer_forwards: list[Any] = []
        self._layer_calls: list[LayerCall] = []
        refusal = ""
        try:
            model.set_attn_implementation(UNMASKED_ATTENTION_NAME)
            with torch.no_grad(), prefix_pass(None) as seen:
                self._run(self._example_images(2, 0))
        except (ValueError, KeyError) as error:
            refusal = error.found if isinstance(error, UnsupportedArchitectureError) else ""
            if isinstance(error, ValueError) and not refusal and "attn_implementation" not in str(error):
                raise
        else:
            refusal = _refusal(name, seen.layer_shapes, seen.batches)
        refusal = refusal or ("" if attention_implementation(model) == UNMASKED_ATTENTION_NAME else _undispatched(name))
        if refusal:
            self.refused_kinds = dict.fromkeys(("soft", "deep", "prefix"), refusal)
            model.set_attn_implementation(self._original_attention)
            return
        self.layer_shapes = seen.layer_shapes
        layers = layers_of(model, seen.modules)
        if not layers:
            self.refused_kinds = dict.fromkeys(
                ("soft", "deep"), f"{name} does not keep its attention in a list of layers"
            )
            return
        self._layer_forwards = condition_layers(layers)
        with torch.no_grad(), prefix_pass(None), layers_pass() as passed:
            self._run(self._example_images(1, 0))
        self._layer_calls, self.hidden_size = passed.calls, passed.hidden_size
        try:
            with torch.no_grad():
                self.fold(torch.zeros(len(layers), 1, self.hidden_size))
        except Exception as error:  # noqa: BLE001 - a layer may depend on the number of its own tokens in any way
            self.refused_kinds["deep"] = f"{name} has layers that do not run on virtual tokens alone ({error})"[:200]

    def _kinds(self) -> dict[str, KindShape]:
        shapes: dict[str, KindShape] = {"soft": (None, self.hidden_size)}
        if self.layer_shapes:
            heads, head_dim = self.layer_shapes[0]
            shapes["deep"] = (len(self.layer_shapes), None, self.hidden_size)
            shapes["prefix"] = (len(self.layer_shapes), 2, heads, None, head_dim)
        if self.image_size is None:
            self.refused_kinds["pixel"] = "its images vary in size"
        else:
            shapes["pixel"] = (self.num_channels, *self.image_size)
        return {kind: shapes[kind] for kind in IMAGE_KINDS if kind not in self.refused_kinds}

    @property
    def feature_size(self) -> int:
        """Width of the feature that heads read."""
        with torch.no_grad():
            inputs = self.graph_inputs({"pixel_values": self._example_images(1, 0)}, {})
            return int(self(**inputs)[0].shape[1])

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """See `ConditionedModule.dynamic_axes`."""
        axes = {name: dict(_DYNAMIC_AXES[name]) for name in self.input_names}
        if self.image_size is None:
            axes["pixel_values"] |= _FREE_SIZE
        return axes

    def trace_inputs(self) -> Tensors:
        """See `ConditionedModule.trace_inputs`."""
        return self.graph_inputs({"pixel_values": self._example_images(2, 0)}, self.example_prompts())

    def parity_requests(self) -> list[Tensors]:
        """Requests of several sizes, without prompts, to compare a bundle with the network on."""
        return [{"pixel_values": self._example_images(batch, seed)} for seed, batch in enumerate((1, 2))]

    def as_input(self, kind: str, array: Tensor) -> dict[str, Tensor]:
        """Convert a prompt from the axes of its file to the graph's input; a deep prompt is folded to a prefix."""
        return {PROMPT_INPUTS["prefix"]: self.fold(array)} if kind == "deep" else super().as_input(kind, array)

    def fold(self, deep_prompt: Tensor) -> Tensor:
        """Convert a deep prompt to the prefix `[num_layers, 2, 1, num_kv_heads, num_virtual_tokens, head_dim]`.

        Args:
            deep_prompt: `[num_layers, num_virtual_tokens, hidden_size]`.
        """
        return fold(self._layer_forwards, self._layer_calls, deep_prompt)

    def forward(
        self,
        pixel_values: Tensor,
        soft_prompt: Tensor | None = None,
        prefix: Tensor | None = None,
        pixel_prompt: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Run the network with prompts.

        Args:
            pixel_values: `[batch, channels, height, width]` float32, preprocessed.
            soft_prompt: `[batch|1, virtual_tokens, hidden_size]`.
            prefix: `[num_layers, 2, batch|1, num_kv_heads, prefix_length, head_dim]`.
            pixel_prompt: `[batch|1, channels, height, width]`, added to `pixel_values` (Bahng et al. 2022,
                https://arxiv.org/abs/2203.17274); zeros mean no prompt.

        Returns:
            The outputs that `output_names` lists.
        """
        if pixel_prompt is not None:
            pixel_values = pixel_values + pixel_prompt.index_select(0, rows_of(pixel_prompt.shape[0], pixel_values))
        with prefix_pass(prefix, widens=True), layers_pass(soft_prompt):
            return self._outputs(pixel_values)

    def naive_deep(self, pixel_values: Tensor, deep_prompt: Tensor) -> tuple[Tensor, ...]:
        """VPT-deep as published, with `deep_prompt` inserted before every layer: the slower reference for folding."""
        with prefix_pass(None, widens=True), layers_pass(fresh_tokens=deep_prompt):
            return self._outputs(pixel_values)

    @torch.no_grad()
    def layer_states(self, pixel_values: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """The states of the layers on images: hidden states before each layer, and keys and values.

        Returns:
            `[batch, sequence, hidden_size]` and `[2, batch, num_kv_heads, sequence, head_dim]` for each layer.
        """
        with prefix_pass(None), capture_keys_and_values() as captured, layers_pass(keeps=True) as passed:
            self._run(pixel_values)
        return passed.kept, captured

    @torch.no_grad()
    def original_outputs(self, request: Tensors) -> Tensors:
        """The outputs of the original network, with its own attention."""
        if self.layer_shapes:
            self.model.set_attn_implementation(self._original_attention)
        try:
            return dict(zip(self.output_names, self._outputs(request["pixel_values"]), strict=True))
        finally:
            if self.layer_shapes:
                self.model.set_attn_implementation(UNMASKED_ATTENTION_NAME)

    def _example_images(self, batch: int, seed: int) -> Tensor:
        height, width = self.image_size or _small_size(self.model, seed)
        random = torch.Generator().manual_seed(seed)
        return torch.randn(batch, self.num_channels, height, width, generator=random)

    def _outputs(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        pooled, output = self._run(pixel_values)
        features = IMAGE_POOLINGS[self.pooling](pooled)
        own = {"last_hidden_state": pooled.hidden} | {
            name: getattr(output, name) for name in self.output_names if hasattr(output, name)
        }
        return features, *(own[name] for name in self.output_names[1:])

    def _run(self, pixel_values: Tensor) -> tuple[PoolingInput, Any]:
        """The input of the pooling, and the network's whole output.

        If the output has no last hidden state, like that of a head, the last hidden state of the base network is used.
        """
        caught: list[Any] = []
        hook = _backbone_of(self.model).register_forward_hook(lambda _module, _args, output: caught.append(output))
        try:
            output = self.model(pixel_values, return_dict=True)
        finally:
            hook.remove()
        own = output if hasattr(output, "last_hidden_state") else caught[0]
        hidden = getattr(own, "last_hidden_state", None)
        if hidden is None:
            raise UnsupportedArchitectureError(
                found=f"{type(self.model).__name__} returns no last hidden state",
                wanted="an image backbone with a last hidden state",
                remedy="export another backbone",
            )
        return PoolingInput(hidden, getattr(own, "pooler_output", None), self.model), output


def _backbone_of(model: PreTrainedModel) -> nn.Module:
    """The network without its head; for a head on the vision tower of CLIP or SigLIP, that tower."""
    tower = getattr(model, "vision_model", None)
    backbone: nn.Module = tower if model.base_model is model and isinstance(tower, nn.Module) else model.base_model
    return backbone


def _refusal(name: str, shapes: list[tuple[int, int]], batches: list[int]) -> str:
    """Why the recorded layers take no virtual tokens; empty if they do."""
    if not shapes:
        return _undispatched(name)
    if len(set(shapes)) > 1:
        return f"{name} has layers of different key and value sizes"
    return f"{name} attends within windows of an image" if set(batches) != {2} else ""


def _undispatched(name: str) -> str:
    return f"{name} does not dispatch its attention"


def image_config(config: PreTrainedConfig) -> PreTrainedConfig:
    """The vision part of a network's configuration, or the whole configuration of a pure vision network."""
    return getattr(config, "vision_config", None) or config


def _small_size(model: PreTrainedModel, seed: int) -> tuple[int, int]:
    """The size of a small image, which depends on `seed`, for networks that take any size."""
    patch = getattr(image_config(model.config), "patch_size", 16)
    patch = patch[0] if isinstance(patch, (list, tuple)) else patch
    patch *= -(-_LEAST_PATCH // patch)  # networks with small patches merge them, and too few would remain
    return patch * (4 + seed), patch * (6 - seed)
