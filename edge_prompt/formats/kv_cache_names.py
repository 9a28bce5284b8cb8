"""Names of the inputs and outputs of a causal language model's graph, the same as optimum's."""

from __future__ import annotations

from collections.abc import Sequence

TOKEN_INPUTS = ("input_ids", "attention_mask", "position_ids", "logits_to_keep", "soft_prompt")
"""The inputs before the cache. `logits_to_keep` means the same as in transformers."""

PAST, PRESENT = "past_key_values", "present"

STATEFUL_INPUT = "beam_idx"
"""The input of a stateful graph that gives the row of the state from which each row of the batch continues."""

SHARED_INPUTS = ("seqlens_k", "total_sequence_length")
"""The inputs that replace the mask in a graph whose past and present share one buffer, named as in ONNX Runtime: the
position of the last token of each row `[batch]`, and the length of the longest row `[]`, both int32."""

SLIDING_WINDOWS = "sliding_windows"
"""The entry under `edge_prompt` in the runtime information of an IR that holds the sliding window of each layer, 0 for
none. It exists only if paged attention computes the same as the graph."""

_PARTS = ("key", "value")


def past_names(num_layers: int) -> tuple[str, ...]:
    """Return the names of the inputs for past keys and values, two per layer."""
    return _names(PAST, num_layers)


def present_names(num_layers: int) -> tuple[str, ...]:
    """Return the names of the outputs with past and new keys and values, two per layer."""
    return _names(PRESENT, num_layers)


def _names(stem: str, num_layers: int) -> tuple[str, ...]:
    return tuple(f"{stem}.{layer}.{part}" for layer in range(num_layers) for part in _PARTS)


def shared_form(inputs: Sequence[str], outputs: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the inputs and outputs of the same graph after its past and present have been merged into one buffer."""
    return (*(name for name in inputs if name != "attention_mask"), *SHARED_INPUTS), tuple(outputs)


def stateful_form(inputs: Sequence[str], outputs: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the inputs and outputs of the same graph after its cache has been made stateful."""
    return (
        (*(name for name in inputs if not name.startswith(PAST)), STATEFUL_INPUT),
        tuple(name for name in outputs if not name.startswith(PRESENT)),
    )
