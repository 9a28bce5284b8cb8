"""Text encoders: networks that transformers loads for features, text or token classification, or masked tokens."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from edge_prompt.base.errors import UnsupportedArchitectureError
from edge_prompt.formats.kinds import PROMPT_INPUTS
from edge_prompt.formats.preprocessing import TextPreprocessing
from edge_prompt_export.backbone.conditioned_module import PARITY_VIRTUAL_TOKENS, ConditionedModule, Tensors
from edge_prompt_export.base.private_names import attention_implementation
from edge_prompt_export.conditioning.attention import ATTENTION_NAME, prefix_pass
from edge_prompt_export.conditioning.virtual_tokens import JoinedSequence, join, take_slots
from edge_prompt_export.modalities.text.pooling import FROM_TOKENS, POOLER

TASK_OUTPUTS: dict[str, tuple[str, ...]] = {
    "feature-extraction": ("features", "last_hidden_state"),
    "text-classification": ("features", "logits"),
    "token-classification": ("features", "logits"),
    "fill-mask": ("features", "logits"),
}
"""The outputs of each task's graph: `features [batch, hidden_size]` for task heads, and the model's own output."""

TOKEN_TASKS = frozenset({"token-classification", "fill-mask"})
"""Tasks whose `logits` are `[batch, sequence, classes]`."""

PARITY_SIZES = ((1, 2), (3, 17), (2, 40))
"""Batch sizes and sequence lengths of the parity checks; lengths are reduced to the backbone's maximum."""

_DYNAMIC_AXES = {
    "input_ids": {0: "batch", 1: "sequence"},
    "attention_mask": {0: "batch", 1: "prefix_length + num_virtual_tokens + sequence"},
    "token_type_ids": {0: "batch", 1: "sequence"},
    "soft_prompt": {0: "soft_prompt_batch", 1: "num_virtual_tokens"},
    "prefix": {2: "prefix_batch", 4: "prefix_length"},
}


class ConditionedTextEncoder(ConditionedModule):
    """A frozen text encoder that takes prompts as arguments; the same module is tuned and exported.

    Args:
        model: The network, from one of transformers' auto classes.
        task: A key of `TASK_OUTPUTS`.
        pooling: One of `edge_prompt_export.modalities.text.pooling.POOLINGS`.

    Attributes:
        layer_shapes: `(num_kv_heads, head_dim)` of each layer; empty if the architecture does not dispatch its
            attention.
        prefix_refusal: Why the network takes no prefix; empty if it does.
        position_offset: Index of the first position (RoBERTa starts after its padding index).
        num_positions: Number of learned positions, shared by prefix, virtual tokens and tokens; None if there are none.
    """

    model: PreTrainedModel
    embedding: nn.Embedding

    def __init__(self, model: PreTrainedModel, task: str, pooling: str) -> None:
        super().__init__()
        self.model = model
        self.task = task
        self.pooling = pooling
        parameters = inspect.signature(model.forward).parameters
        for name in ("inputs_embeds", "attention_mask"):
            if name not in parameters:
                raise UnsupportedArchitectureError(
                    found=f"{type(model).__name__} takes no {name!r}",
                    wanted="a text encoder that takes embeddings and a padding mask",
                    remedy="export another backbone",
                )
        self.embedding = model.get_input_embeddings()
        self._original_attention: str = attention_implementation(model)
        self._takes_positions = "position_ids" in parameters
        self.position_offset, self.num_positions = _learned_positions(model)
        takes_types = "token_type_ids" in parameters and getattr(model.config, "type_vocab_size", 0) > 1
        self.layer_shapes, self.prefix_refusal = _dispatched_layers(model)
        self.input_names = (
            "input_ids",
            "attention_mask",
            *(("token_type_ids",) if takes_types else ()),
            "soft_prompt",
            *(("prefix",) if not self.prefix_refusal else ()),
        )
        self.output_names = TASK_OUTPUTS[task]
        self.kinds = {"soft": (None, self.embedding_size)}
        self.refused_kinds = {"prefix": self.prefix_refusal} if self.prefix_refusal else {}
        if not self.prefix_refusal:
            heads, head_dim = self.layer_shapes[0]
            self.kinds["prefix"] = (len(self.layer_shapes), 2, heads, None, head_dim)

    @property
    def embedding_size(self) -> int:
        """Width of a virtual token, which is that of the embedding layer (ALBERT's differs from its hidden size)."""
        return int(self.embedding.weight.shape[1])

    @property
    def feature_size(self) -> int:
        """Width of the feature, which is that of the last hidden state."""
        with torch.no_grad():
            return int(self(**self.example_inputs(batch=1, sequence=2, virtual_tokens=0, prefix_length=0))[0].shape[1])

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """See `ConditionedModule.dynamic_axes`."""
        axes = {name: dict(_DYNAMIC_AXES[name]) for name in self.input_names}
        if self.prefix_refusal:
            axes["attention_mask"][1] = "num_virtual_tokens + sequence"
        return axes

    def example_inputs(
        self, batch: int, sequence: int, virtual_tokens: int, prefix_length: int, seed: int = 0
    ) -> dict[str, Tensor]:
        """Random inputs of the given sizes, by input name; rows differ in their number of real tokens.

        The padding token does not occur, because networks that compute positions from it (RoBERTa) would skip it.

        Prompts are scaled like the network's own embeddings, keys and values, so that they have an effect.
        """
        random = torch.Generator().manual_seed(seed)
        prefix_length = 0 if self.prefix_refusal else prefix_length
        token_mask = torch.ones(batch, sequence, dtype=torch.long)
        for row in range(1, batch):
            token_mask[row, max(1, sequence - row) :] = 0
        inputs = {
            "input_ids": self._random_tokens((batch, sequence), random),
            "attention_mask": torch.cat([torch.ones(batch, prefix_length + virtual_tokens).long(), token_mask], 1),
            "token_type_ids": torch.zeros(batch, sequence, dtype=torch.long),
            "soft_prompt": torch.randn(1, virtual_tokens, self.embedding_size, generator=random)
            * self.embedding.weight.std(),
        }
        if not self.prefix_refusal:
            heads, head_dim = self.layer_shapes[0]
            shape = (len(self.layer_shapes), 2, 1, heads, prefix_length, head_dim)
            inputs["prefix"] = torch.randn(shape, generator=random)
        return {name: inputs[name] for name in self.input_names}

    def trace_inputs(self) -> Tensors:
        """See `ConditionedModule.trace_inputs`."""
        return self.example_inputs(batch=2, sequence=5, virtual_tokens=3, prefix_length=4)

    def parity_requests(self, preprocessing: TextPreprocessing) -> list[Tensors]:
        """Batches of several lengths, as far as they fit next to the longest prompt; rows differ in length."""
        room = preprocessing.max_tokens
        if preprocessing.max_positions is not None:
            room = min(room, preprocessing.max_positions - PARITY_VIRTUAL_TOKENS[-1])
        return [self._tokens(batch, min(tokens, room), seed) for seed, (batch, tokens) in enumerate(PARITY_SIZES)]

    def example_prompt(self, kind: str, virtual_tokens: int, seed: int) -> Tensor:
        """See `ConditionedModule.example_prompt`."""
        inputs = self.example_inputs(1, 2, virtual_tokens, virtual_tokens, seed)
        return inputs["soft_prompt"][0] if kind == "soft" else inputs["prefix"][:, :, 0]

    def graph_inputs(self, request: Tensors, prompts: Mapping[str, Tensor]) -> Tensors:
        """The graph's inputs for `request` with `prompts`, which all rows attend to."""
        inputs = {**request, **self.empty_prompts(), **prompts}
        length = inputs["soft_prompt"].shape[1] + (inputs["prefix"].shape[4] if "prefix" in inputs else 0)
        mask = request["attention_mask"]
        inputs["attention_mask"] = torch.cat([mask.new_ones(len(mask), length), mask], 1)
        return {name: inputs[name] for name in self.input_names}

    def single_row(self, request: Tensors, row: int) -> Tensors:
        """One row without its padding."""
        length = int(request["attention_mask"][row].sum())
        return {name: tensor[row : row + 1, :length] for name, tensor in request.items()}

    def without_padding(self, outputs: Mapping[str, Any], request: Tensors) -> dict[str, Any]:
        """The outputs at real tokens, without padding."""
        mask = request["attention_mask"].numpy() > 0
        return {name: output[mask] if output.ndim == 3 else output for name, output in outputs.items()}

    def _tokens(self, batch: int, sequence: int, seed: int) -> Tensors:
        inputs = self.example_inputs(batch, sequence, virtual_tokens=0, prefix_length=0, seed=seed)
        return {name: inputs[name] for name in inputs if name not in PROMPT_INPUTS.values()}

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        soft_prompt: Tensor,
        prefix: Tensor | None = None,
        token_type_ids: Tensor | None = None,
    ) -> tuple[Tensor, ...]:
        """Run the network with prompts.

        Args:
            input_ids: `[batch, sequence]` int64.
            attention_mask: `[batch, prefix_length + virtual_tokens + sequence]` int64, 1 for positions that are
                attended to. Within the prefix and within the soft prompt, a row's own part comes first, then padding.
            soft_prompt: `[batch|1, virtual_tokens, embedding_size]`.
            prefix: `[num_layers, 2, batch|1, num_kv_heads, prefix_length, head_dim]`.
            token_type_ids: `[batch, sequence]` int64; virtual tokens get type 0.

        Returns:
            The outputs that `output_names` lists.

        Raises:
            UnsupportedArchitectureError: A prefix is given, but the network takes none (`prefix_refusal`).
        """
        if prefix is not None and self.prefix_refusal:
            raise UnsupportedArchitectureError(
                found=self.prefix_refusal, wanted="no prefix", remedy="use a soft prompt (--kind soft)"
            )
        virtual_tokens = soft_prompt.shape[1]
        prefix_length = 0 if prefix is None else prefix.shape[4]
        prefix_mask = attention_mask[:, :prefix_length]
        soft_mask = attention_mask[:, prefix_length : prefix_length + virtual_tokens]
        token_mask = attention_mask[:, prefix_length + virtual_tokens :]
        joined = join(self.embedding(input_ids), token_mask, soft_prompt, soft_mask)
        arguments: dict[str, Any] = {"inputs_embeds": joined.embeddings, "attention_mask": joined.mask}
        if self._takes_positions:
            # a prefix shifts positions like a cache of past tokens, as in PEFT
            slots = torch.arange(joined.mask.shape[1], device=input_ids.device)[None]
            positions = slots + prefix_mask.sum(1, keepdim=True)
            if self.num_positions is not None:  # only padding in a batch wider than all of its rows exceeds it
                positions = positions.clamp(max=self.num_positions - 1)
            arguments["position_ids"] = positions + self.position_offset
        if token_type_ids is not None:
            arguments["token_type_ids"] = self._join_types(token_type_ids, joined)
        with prefix_pass(prefix, None if prefix is None else prefix_mask > 0):
            base, logits = self._run(arguments)
        return self._outputs(base, logits, joined)

    @torch.no_grad()
    def original_outputs(self, request: Tensors) -> Tensors:
        """The outputs of the original network, with its own attention and its own embedding of the tokens.

        Only the pooling of the feature is done here.
        """
        input_ids, attention_mask = request["input_ids"], request["attention_mask"]
        arguments: dict[str, Any] = dict(request)
        self._set_attention(self._original_attention)
        try:
            base, logits = self._run(arguments)
        finally:
            self._set_attention(ATTENTION_NAME)
        hidden = base.last_hidden_state
        slots = torch.arange(input_ids.shape[1])[None].expand_as(input_ids)
        joined = JoinedSequence(hidden, attention_mask, slots, attention_mask > 0)
        outputs = (self._feature(base, joined), hidden if logits is None else logits)
        return dict(zip(self.output_names, outputs, strict=True))

    def _set_attention(self, name: str) -> None:
        if self.layer_shapes:
            self.model.set_attn_implementation(name)

    def _random_tokens(self, shape: tuple[int, int], random: torch.Generator) -> Tensor:
        tokens = torch.randint(0, self.model.config.vocab_size - 1, shape, generator=random)
        padding: int | None = getattr(self.model.config, "pad_token_id", None)
        return tokens if padding is None else tokens + (tokens >= padding)

    def _join_types(self, token_type_ids: Tensor, joined: JoinedSequence) -> Tensor:
        slots = torch.arange(joined.mask.shape[1], device=token_type_ids.device)[None]
        index = (slots - joined.token_slots[:, :1]).clamp(0, token_type_ids.shape[1] - 1)
        return torch.where(joined.is_token, token_type_ids.gather(1, index), 0)

    def _run(self, arguments: dict[str, Any]) -> tuple[Any, Tensor | None]:
        """The output of the base model, and the logits of the model's own head; None if the task has no logits."""
        caught: list[Any] = []
        hook = self.model.base_model.register_forward_hook(lambda _module, _args, output: caught.append(output))
        try:
            output = self.model(**arguments, return_dict=True)
        finally:
            hook.remove()
        return caught[0], output.logits if "logits" in self.output_names else None

    def _feature(self, base: Any, joined: JoinedSequence) -> Tensor:
        if self.pooling != POOLER:
            return FROM_TOKENS[self.pooling](base.last_hidden_state, joined)
        pooled: Tensor | None = getattr(base, "pooler_output", None)
        if pooled is None:
            raise UnsupportedArchitectureError(
                found=f"{type(self.model).__name__} has no pooler",
                wanted=f"one of the poolings {', '.join(FROM_TOKENS)}",
                remedy="choose one of them (--pooling)",
            )
        return pooled

    def _outputs(self, base: Any, logits: Tensor | None, joined: JoinedSequence) -> tuple[Tensor, ...]:
        features = self._feature(base, joined)
        if logits is None:
            return features, take_slots(base.last_hidden_state, joined.token_slots)
        return features, take_slots(logits, joined.token_slots) if self.task in TOKEN_TASKS else logits


def _learned_positions(model: PreTrainedModel) -> tuple[int, int | None]:
    """The index of the first position, and the number of positions. RoBERTa's positions start after `padding_idx`."""
    for name, module in model.named_modules():
        if name.endswith("position_embeddings") and isinstance(module, nn.Embedding):
            offset = 0 if module.padding_idx is None else int(module.padding_idx) + 1
            return offset, module.num_embeddings - offset
    return 0, None


def _dispatched_layers(model: PreTrainedModel) -> tuple[list[tuple[int, int]], str]:
    """Replace the network's attention by `prefix_attention`, if the architecture allows it, and record its calls.

    Returns:
        `(num_kv_heads, head_dim)` of each layer, and why the network takes no prefix (empty if it does).
    """
    original = attention_implementation(model)
    name = type(model).__name__
    try:
        model.set_attn_implementation(ATTENTION_NAME)
    except (ValueError, KeyError):
        return [], f"{name} does not dispatch its attention"
    ids = torch.full((1, 3), 1)
    with torch.no_grad(), prefix_pass(None) as probe:
        try:
            model(inputs_embeds=model.get_input_embeddings()(ids), attention_mask=torch.ones_like(ids))
        except UnsupportedArchitectureError as error:
            model.set_attn_implementation(original)
            return [], error.found
    if not probe.layer_shapes:
        model.set_attn_implementation(original)
        return [], f"{name} does not dispatch its attention"
    if len(set(probe.layer_shapes)) > 1:
        model.set_attn_implementation(original)
        return [], f"{name} has layers of different key and value sizes"
    return probe.layer_shapes, ""
