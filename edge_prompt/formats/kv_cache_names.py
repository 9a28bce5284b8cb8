"""The inputs and outputs of a causal language model's graph: the ecosystem's own names, as optimum writes them."""

from __future__ import annotations

from collections.abc import Sequence

TOKEN_INPUTS = ("input_ids", "attention_mask", "position_ids", "logits_to_keep", "soft_prompt")
"""The inputs before the cache; `logits_to_keep` is transformers' own name for what it means there."""

PAST, PRESENT = "past_key_values", "present"

STATEFUL_INPUT = "beam_idx"
"""The input of a graph whose cache is state: which row of the state each row of the batch goes on from."""

SHARED_INPUTS = ("seqlens_k", "total_sequence_length")
"""The inputs, in place of a mask, of a graph whose past and present are one buffer, by ONNX Runtime's names: the place
of each row's last token `[batch]`, and the length of the longest row `[]`, both int32."""

SLIDING_WINDOWS = "sliding_windows"
"""The entry of an IR's runtime information, under `edge_prompt`, with each layer's sliding window, 0 for none. It is
there only where paged attention computes the same as the graph."""

_PARTS = ("key", "value")


def past_names(num_layers: int) -> tuple[str, ...]:
    """The inputs that hold what came before: keys, then values, a layer."""
    return _names(PAST, num_layers)


def present_names(num_layers: int) -> tuple[str, ...]:
    """The outputs that hold that and what is new."""
    return _names(PRESENT, num_layers)


def _names(stem: str, num_layers: int) -> tuple[str, ...]:
    return tuple(f"{stem}.{layer}.{part}" for layer in range(num_layers) for part in _PARTS)


def shared_form(inputs: Sequence[str], outputs: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The inputs and outputs of the same graph once its past and its present are one buffer."""
    return (*(name for name in inputs if name != "attention_mask"), *SHARED_INPUTS), tuple(outputs)


def stateful_form(inputs: Sequence[str], outputs: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The inputs and outputs of the same graph once its cache is state."""
    return (
        (*(name for name in inputs if not name.startswith(PAST)), STATEFUL_INPUT),
        tuple(name for name in outputs if not name.startswith(PRESENT)),
    )
