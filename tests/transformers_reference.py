"""The outputs of transformers alone under a prompt: the reference for our answers, whatever the installed PEFT does.

Virtual tokens enter through `inputs_embeds` and a prefix through the cache, as in PEFT.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import DynamicCache

Array = NDArray[Any]


def cache_argument(network: Any) -> str:
    """Return the name of `network.forward`'s cache argument, which transformers 5.24 renamed; "" if there is none."""
    parameters = inspect.signature(network.forward).parameters
    return next((name for name in ("cache", "past_key_values") if name in parameters), "")


def cache_of(prefix: Array, batch: int) -> DynamicCache:
    """A cache that holds a prefix, `[num_layers, 2, num_kv_heads, num_virtual_tokens, head_dim]`, in every row."""
    cache = DynamicCache()
    for layer, pair in enumerate(torch.tensor(prefix, dtype=torch.float32)):
        key, value = pair[:, None].repeat(1, batch, 1, 1, 1)
        cache.update(key, value, layer)
    return cache


def arguments_under(network: Any, kind: str, array: Array, ids: Array, mask: Array) -> dict[str, Any]:
    """Return the arguments for a batch of tokens under a soft prompt; under a prefix, all except the cache."""
    tokens, real = torch.tensor(ids), torch.tensor(mask)
    batch, length = len(ids), array.shape[0] if kind == "soft" else array.shape[3]
    seen = torch.cat([torch.ones(batch, length, dtype=torch.long), real], 1)
    if kind == "prefix":
        return {"input_ids": tokens, "attention_mask": seen}
    virtual = torch.tensor(array, dtype=torch.float32)[None].expand(batch, -1, -1)
    embeddings = torch.cat([virtual, network.get_input_embeddings()(tokens)], 1)
    return {"inputs_embeds": embeddings, "attention_mask": seen}


@contextmanager
def cache_given(network: Any, prefix: Array, batch: int) -> Iterator[None]:
    """Make the network below a head take `prefix` as its past: a classifier's own `forward` takes no cache."""
    taker = network if cache_argument(network) else network.base_model
    original = taker.forward
    taker.forward = partial(original, **{cache_argument(taker): cache_of(prefix, batch)})
    try:
        yield
    finally:
        taker.forward = original


@torch.no_grad()
def outputs_under(network: Any, kind: str, array: Array, ids: Array, mask: Array) -> Any:
    """Return the outputs for a batch of tokens under a prompt; under a soft prompt, those of its tokens as well."""
    arguments = arguments_under(network, kind, array, ids, mask)
    if kind == "soft":
        return network(**arguments)
    with cache_given(network, array, len(ids)):
        return network(**arguments)


def token_logits(network: Any, kind: str, array: Array, ids: Array, mask: Array) -> Array:
    """Return the logits of a language model at the tokens of a request, `[batch, sequence, vocab_size]`."""
    logits: Tensor = outputs_under(network, kind, array, ids, mask).logits
    return np.asarray(logits[:, -ids.shape[1] :])


def greedy(network: Any, kind: str, array: Array, ids: Array, count: int) -> list[int]:
    """Return the `count` most likely tokens after `ids`, `[1, sequence]`, each computed on the whole text."""
    text = ids
    for _ in range(count):
        logits = token_logits(network, kind, array, text, np.ones_like(text))[0, -1]
        text = np.concatenate([text, [[logits.argmax()]]], 1)
    return [int(token) for token in text[0, -count:]]
