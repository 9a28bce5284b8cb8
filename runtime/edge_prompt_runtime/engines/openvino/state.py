"""The KV cache of a causal language model on OpenVINO as state, for graphs that paged attention does not support.

Rows of a batch differ in length, so they are padded on the left and all end at the same position. Padding is masked and
positions do not count it, so the numbers of a row are the same as for the row alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import openvino
from numpy.typing import NDArray

from edge_prompt.formats.kv_cache_names import PRESENT, STATEFUL_INPUT, past_names
from edge_prompt_runtime.engines.base import Float32, Int64, Past


class Stateful(NamedTuple):
    """An infer request and its states: keys and values, alternating by layer."""

    request: openvino.InferRequest
    states: list[Any]


def new_stateful(compiled: openvino.CompiledModel) -> Stateful:
    """Create a request and look up its states, which takes time."""
    request = compiled.create_infer_request()
    # OpenVINO names each state after its past and its present, concatenated
    states = {state.name[: state.name.index(PRESENT)]: state for state in request.query_state()}
    return Stateful(request, [states[name] for name in past_names(len(states) // 2)])


class StatefulRows:
    """See `edge_prompt_runtime.engines.base.CachedRun`: the cache is the state of an infer request.

    Args:
        stateful: A request, owned by this run until it is closed.
        held: The past of each row.
        idle: The pool that the request returns to when the run is closed.
        no_soft_prompt: A soft prompt of length 0, `[1, 0, hidden_size]`.
    """

    def __init__(
        self, stateful: Stateful, held: Sequence[Past], idle: deque[Stateful], no_soft_prompt: Float32
    ) -> None:
        self._stateful: Stateful | None = stateful
        self._idle = idle
        self._no_soft_prompt = no_soft_prompt
        self._mask = left_padded_mask([past[0].shape[2] for past in held])
        self._rows = np.arange(len(held), dtype=np.int32)
        for state, part in zip(stateful.states, stack_pasts(held), strict=True):
            state.state = openvino.Tensor(part, shared_memory=part.flags.writeable)

    def forward(
        self, rows: Sequence[Int64], *, every: bool = False, soft_prompt: Float32 | None = None
    ) -> list[Float32]:
        """See `CachedRun.forward`."""
        embeddings = self._no_soft_prompt if soft_prompt is None else soft_prompt
        virtual = embeddings.shape[1]
        tokens, mask = pad_tokens(rows)
        new = virtual + tokens.shape[1]
        before = np.ones((len(rows), virtual), np.int64)
        self._mask = np.concatenate([self._mask[self._rows], before, mask], 1)
        feeds = {
            "input_ids": tokens,
            "attention_mask": self._mask,
            "position_ids": positions_of(self._mask, new),
            "logits_to_keep": np.arange(virtual if every else max(virtual, new - 1), new),
            "soft_prompt": embeddings,
            STATEFUL_INPUT: self._rows,
        }
        request = self._open().request
        request.infer(feeds, share_inputs=True, share_outputs=True)
        logits: Float32 = request.get_tensor("logits").data.copy()
        self._rows = np.arange(len(rows), dtype=np.int32)
        return [own[len(own) - len(ids) :] if every else own for own, ids in zip(logits, rows, strict=True)]

    def keep(self, rows: Sequence[int]) -> None:
        """See `CachedRun.keep`."""
        self._rows = self._rows[list(rows)]

    def cache(self) -> Past:
        """See `CachedRun.cache`."""
        return tuple(state.state.data.copy() for state in self._open().states)

    def close(self) -> None:
        """See `CachedRun.close`. The request is returned only once, because other threads may use it afterwards."""
        stateful, self._stateful = self._stateful, None
        if stateful is not None:
            self._idle.append(stateful)

    def _open(self) -> Stateful:
        if self._stateful is None:
            raise RuntimeError("this run is closed")
        return self._stateful


def stack_pasts(pasts: Sequence[Past]) -> Past:
    """Join the pasts of all rows into one batch, padded with zeros on the left; `left_padded_mask` gives the mask."""
    if len(pasts) == 1:
        return pasts[0]
    longest = max(past[0].shape[2] for past in pasts)
    together = []
    for parts in zip(*pasts, strict=True):
        _, heads, _, head_dim = parts[0].shape
        whole = np.zeros((len(parts), heads, longest, head_dim), np.float32)
        for row, part in enumerate(parts):
            whole[row, :, longest - part.shape[2] :] = part[0]
        together.append(whole)
    return together


def pad_tokens(rows: Sequence[Int64]) -> tuple[Int64, Int64]:
    """Join the tokens of all rows into one batch `[batch, longest]`, and return it with its mask."""
    mask = left_padded_mask([len(row) for row in rows])
    tokens = np.zeros(mask.shape, np.int64)
    for row, ids in enumerate(rows):
        tokens[row, mask.shape[1] - len(ids) :] = ids
    return tokens, mask


def left_padded_mask(lengths: Sequence[int]) -> Int64:
    """Return the mask `[batch, longest]` of rows that are padded on the left: 1 for real tokens."""
    longest = max(lengths)
    mask: NDArray[np.int64] = (np.arange(longest) >= longest - np.asarray(lengths)[:, None]).astype(np.int64)
    return mask


def positions_of(mask: Int64, new: int) -> Int64:
    """Return the positions `[batch, new]` of the last `new` columns of `mask [batch, length]`."""
    positions: Int64 = np.maximum(mask.cumsum(1) - 1, 0)[:, mask.shape[1] - new :]
    return positions
