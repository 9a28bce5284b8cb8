"""Causal language models: decoders that transformers loads for text generation and whose attention it dispatches."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt.formats.kv_cache_names import TOKEN_INPUTS, past_names, present_names
from edge_prompt_export.backbone.conditioned_module import PARITY_VIRTUAL_TOKENS, ConditionedModule, Tensors
from edge_prompt_export.base.private_names import attention_implementation
from edge_prompt_export.conditioning.attention import rows_of
from edge_prompt_export.conditioning.cached_attention import CACHED_ATTENTION_NAME, CachePass, KeyValue, cache_pass

PARITY_SIZES = ((1, 2), (3, 17), (2, 40))
"""Batch sizes and sequence lengths of the parity checks; lengths are reduced to the backbone's maximum."""

_POSITIONS_FALLBACK = 2048
"""Number of positions if the configuration does not limit the context."""


class ConditionedCausalLM(ConditionedModule):
    """A frozen causal language model that takes prompts as arguments; the same module is tuned and exported.

    Both kinds of prompt enter through the key-value cache. A prefix consists of past keys and values. A soft prompt
    consists of embeddings before the tokens; running the graph on them alone converts them to keys and values.

    Args:
        model: The network, from `AutoModelForCausalLM`.

    Attributes:
        layer_shapes: `(num_kv_heads, head_dim)` of each layer.
        layer_limits: Sliding window and soft cap of each layer, or None; see `CachePass`.
    """

    model: PreTrainedModel
    embedding: nn.Embedding
    task = "text-generation"

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__()
        self.model = model
        self._original_attention: str = attention_implementation(model)
        layers_found = _conditioned_layers(model)
        self.layer_shapes, self.layer_limits = layers_found.layer_shapes, layers_found.limits
        self._logits_to_keep: Tensor | None = None
        model.get_output_embeddings().register_forward_pre_hook(self._select_positions)
        self.embedding = model.get_input_embeddings()
        layers = len(self.layer_shapes)
        self.cache_names = past_names(layers)
        self.input_names = (*TOKEN_INPUTS, *self.cache_names)
        self.output_names = ("logits", *present_names(layers))
        self.kinds = {"soft": (None, self.embedding_size)}
        self.refused_kinds = {}
        if len(set(self.layer_shapes)) == 1:
            heads, head_dim = self.layer_shapes[0]
            self.kinds["prefix"] = (layers, 2, heads, None, head_dim)
        else:
            self.refused_kinds["prefix"] = f"{type(model).__name__} has layers of different key and value sizes"

    @property
    def embedding_size(self) -> int:
        """Width of a virtual token, which is that of the embedding layer."""
        return int(self.embedding.weight.shape[1])

    @property
    def feature_size(self) -> int:
        """Width of the hidden state that the output layer reads."""
        return int(self.model.get_output_embeddings().weight.shape[1])

    @property
    def max_positions(self) -> int:
        """The number of positions, virtual tokens included."""
        config = self.model.config.get_text_config()
        return int(getattr(config, "max_position_embeddings", None) or _POSITIONS_FALLBACK)

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """See `ConditionedModule.dynamic_axes`."""
        return {
            "input_ids": {0: "batch", 1: "sequence"},
            "attention_mask": {0: "batch", 1: "past_length + num_virtual_tokens + sequence"},
            "position_ids": {0: "batch", 1: "num_virtual_tokens + sequence"},
            "logits_to_keep": {0: "num_logits"},
            "soft_prompt": {0: "soft_prompt_batch", 1: "num_virtual_tokens"},
            **{name: {0: "batch", 2: "past_length"} for name in self.cache_names},
        }

    def trace_inputs(self) -> Tensors:
        """See `ConditionedModule.trace_inputs`."""
        batch, sequence, virtual_tokens, past_length = 2, 5, 3, 4
        random = torch.Generator().manual_seed(0)
        new = virtual_tokens + sequence
        inputs = {
            "input_ids": self._random_tokens((batch, sequence), random),
            "attention_mask": torch.ones(batch, past_length + new, dtype=torch.long),
            "position_ids": torch.arange(past_length, past_length + new)[None].repeat(batch, 1),
            "logits_to_keep": torch.tensor([new - 2, new - 1]),
            "soft_prompt": self.example_prompt("soft", virtual_tokens, 0)[None],
        }
        return inputs | self._past([torch.randn(2, batch, h, past_length, d) for h, d in self.layer_shapes])

    def parity_requests(self) -> list[Tensors]:
        """Batches of several lengths, as far as they fit next to the longest prompt; rows differ in length."""
        room = self.max_positions - PARITY_VIRTUAL_TOKENS[-1]
        return [self._tokens(batch, min(tokens, room), seed) for seed, (batch, tokens) in enumerate(PARITY_SIZES)]

    def example_prompt(self, kind: str, virtual_tokens: int, seed: int) -> Tensor:
        """A random prompt scaled like the network's own values; a prefix is the keys and values of random tokens.

        With entirely random keys and values, the rounding errors of a trained network exceed the parity tolerance.
        """
        if kind == "soft":
            return super().example_prompt(kind, virtual_tokens, seed) * self.embedding.weight.std()
        if virtual_tokens == 0:
            return super().example_prompt(kind, virtual_tokens, seed)
        tokens = self._random_tokens((1, virtual_tokens), torch.Generator().manual_seed(seed))
        request = {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}
        with torch.no_grad():
            present = self(**self.graph_inputs(request, {}))[1:]
        parts = torch.stack(present)[:, 0]
        return parts.reshape(-1, 2, *parts.shape[1:])

    def graph_inputs(self, request: Tensors, prompts: Mapping[str, Tensor]) -> Tensors:
        """The graph's inputs for `request` (tokens and their mask) with `prompts`, requesting all logits."""
        inputs = {**self.empty_prompts(), **prompts}
        mask = request["attention_mask"]
        batch, sequence = mask.shape
        inputs |= {name: inputs[name].expand(batch, -1, -1, -1) for name in self.cache_names}
        virtual_tokens, past_length = inputs["soft_prompt"].shape[1], inputs[self.cache_names[0]].shape[2]
        inputs["input_ids"] = request["input_ids"]
        inputs["attention_mask"] = torch.cat([mask.new_ones(batch, past_length + virtual_tokens), mask], 1)
        positions = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        inputs["position_ids"] = positions[:, past_length:]
        inputs["logits_to_keep"] = torch.arange(virtual_tokens, virtual_tokens + sequence)
        return {name: inputs[name] for name in self.input_names}

    def single_row(self, request: Tensors, row: int) -> Tensors:
        """One row without its padding."""
        length = int(request["attention_mask"][row].sum())
        return {name: tensor[row : row + 1, :length] for name, tensor in request.items()}

    def without_padding(self, outputs: Mapping[str, Any], request: Tensors) -> dict[str, Any]:
        """The logits at real tokens, without the cache."""
        return {"logits": outputs["logits"][request["attention_mask"].numpy() > 0]}

    def as_input(self, kind: str, array: Tensor) -> Tensors:
        """Convert a prompt from the axes of its file to the graph's inputs: embeddings, or past keys and values."""
        return {"soft_prompt": array[None]} if kind == "soft" else self._past(list(array[:, :, None]))

    def empty_prompts(self) -> Tensors:
        """Inputs for no prompt: no virtual tokens and an empty past."""
        if self._empty_prompts is None:
            none = self.example_prompt("soft", 0, 0)[None]
            self._empty_prompts = {"soft_prompt": none} | self._past(
                [torch.zeros(2, 1, heads, 0, head_dim) for heads, head_dim in self.layer_shapes]
            )
        return self._empty_prompts

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        position_ids: Tensor,
        logits_to_keep: Tensor,
        soft_prompt: Tensor,
        **cache: Tensor,
    ) -> tuple[Tensor, ...]:
        """Run the network on new virtual tokens and tokens, after the past.

        Args:
            input_ids: `[batch, sequence]` int64.
            attention_mask: `[batch, past_length + virtual_tokens + sequence]` int64, 0 for padding and 1 otherwise.
            position_ids: `[batch, virtual_tokens + sequence]` int64.
            logits_to_keep: `[num_logits]` int64, the indices among the new virtual tokens and tokens to return logits
                for.
            soft_prompt: `[batch|1, virtual_tokens, embedding_size]`.
            **cache: `past_key_values.{layer}.key` and `.value`, `[batch, num_kv_heads, past_length, head_dim]`.

        Returns:
            `[batch, num_logits, vocab_size]`, and `present.{layer}.key` and `.value`: past and new.
        """
        rows = rows_of(soft_prompt.shape[0], input_ids)
        embeddings = self.embedding(input_ids)
        embeddings = torch.cat([soft_prompt.index_select(0, rows).to(embeddings.dtype), embeddings], 1)
        past: list[KeyValue] = [
            (cache[key], cache[value]) for key, value in zip(self.cache_names[::2], self.cache_names[1::2], strict=True)
        ]
        self._logits_to_keep = logits_to_keep
        try:
            with cache_pass(past, attention_mask) as current:
                logits = self.model(
                    inputs_embeds=embeddings, position_ids=position_ids, use_cache=False, return_dict=True
                ).logits
        finally:
            self._logits_to_keep = None
        return logits, *(tensor for layer in current.present for tensor in layer)

    def _select_positions(self, _layer: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        """Pass only the requested positions to the output layer, because its vocabulary is large."""
        if self._logits_to_keep is None:
            return arguments
        return arguments[0].index_select(1, self._logits_to_keep), *arguments[1:]

    def original_outputs(self, request: Tensors) -> Tensors:
        """The logits of the original network, with its own attention and masks."""
        self.model.set_attn_implementation(self._original_attention)
        mask = request["attention_mask"]
        try:
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            logits = self.model(input_ids=request["input_ids"], attention_mask=mask, position_ids=positions).logits
        finally:
            self.model.set_attn_implementation(CACHED_ATTENTION_NAME)
        return {"logits": logits}

    def _past(self, layers: list[Tensor]) -> Tensors:
        """Keys and values, `[2, batch, num_kv_heads, length, head_dim]` for each layer, by the cache's input names."""
        return dict(zip(self.cache_names, (part for layer in layers for part in layer), strict=True))

    def _tokens(self, batch: int, sequence: int, seed: int) -> Tensors:
        mask = torch.ones(batch, sequence, dtype=torch.long)
        for row in range(1, batch):
            mask[row, max(1, sequence - row) :] = 0
        return {
            "input_ids": self._random_tokens((batch, sequence), torch.Generator().manual_seed(seed)),
            "attention_mask": mask,
        }

    def _random_tokens(self, shape: tuple[int, int], random: torch.Generator) -> Tensor:
        return torch.randint(0, int(self.embedding.weight.shape[0]), shape, generator=random)


def _conditioned_layers(model: PreTrainedModel) -> CachePass:
    """Replace the network's attention by `cached_attention`, and return its recorded calls in one forward pass."""
    name = type(model).__name__
    for argument in ("inputs_embeds", "position_ids"):
        if argument not in inspect.signature(model.forward).parameters:
            raise UnsupportedArchitectureError(
                found=f"{name} takes no {argument!r}",
                wanted="a causal language model that takes embeddings and positions",
                remedy="export another backbone",
            )
    try:
        model.set_attn_implementation(CACHED_ATTENTION_NAME)
    except (ValueError, KeyError):
        probe = CachePass()
    else:
        with torch.no_grad(), cache_pass((), None) as probe:
            model(inputs_embeds=model.get_input_embeddings()(torch.full((1, 3), 1)), use_cache=False)
    if not probe.layer_shapes:
        raise UnsupportedArchitectureError(
            found=f"{name} does not dispatch its attention",
            wanted="a causal language model that does, like nearly all in transformers",
            remedy="export another backbone",
        )
    return probe
