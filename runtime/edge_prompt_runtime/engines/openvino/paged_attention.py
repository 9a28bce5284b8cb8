"""The KV cache of a causal language model on OpenVINO, in blocks for paged attention.

When a graph is opened, OpenVINO's own transformation replaces its states by blocks of a cache that this module owns
(Kwon et al. 2023, https://arxiv.org/abs/2309.06180). Rows then need no padding, because their tokens are concatenated,
and a prompt is a list of blocks that exist before a row begins. Attention appends to the blocks in place, so a prompt
is written once for consecutive requests that use it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple
from weakref import ReferenceType, ref

import numpy as np
import openvino
from numpy.typing import NDArray
from openvino import opset13 as ops
from openvino._offline_transformations import paged_attention_transformation

from edge_prompt.formats.kv_cache_names import SLIDING_WINDOWS
from edge_prompt_runtime.engines.base import Float32, HeldPast, Int64, Past

LEAST_BLOCKS = 4
"""Number of blocks added to those that rows begin with; the cache doubles whenever it is full."""

_SLIDING_WINDOW_INPUT = 10
"""Index of the operator's input that holds the size of the sliding window."""


def page(model: openvino.Model) -> bool:
    """Replace the states of `model` by blocks, in place, and return whether that was possible.

    Afterwards the tokens of all rows are concatenated along one axis, and the logits are `[places, 1, vocab_size]`.

    Args:
        model: A graph with a stateful cache and the runtime information `SLIDING_WINDOWS`.
    """
    path = ["edge_prompt", SLIDING_WINDOWS]
    if not model.has_rt_info(path):
        return False
    windows = [int(window) for window in str(model.get_rt_info(path).astype(str)).split()]
    soft_prompt, logits_to_keep = (model.input(name).get_node() for name in ("soft_prompt", "logits_to_keep"))
    joined = _readers(_readers(soft_prompt, "Gather")[0], "Concat")[0]
    nothing = ops.constant(np.zeros((1, 0, joined.get_output_partial_shape(0)[2].get_length()), np.float32))
    for sized in _readers(soft_prompt, "ShapeOf"):  # a sequence now has one token, regardless of its prompt
        sized.input(0).replace_source_output(nothing.output(0))
    flat = ops.transpose(soft_prompt, ops.constant(np.array([1, 0, 2], np.int64)))
    tokens = ops.concat([flat.output(0), joined.input(1).get_source_output()], 0)
    for reader in joined.output(0).get_target_inputs():
        reader.replace_source_output(tokens.output(0))
    _readers(logits_to_keep, "Gather")[0].input(2).replace_source_output(ops.constant(0).output(0))
    model.validate_nodes_and_infer_types()
    paged_attention_transformation(model)
    layers = [node for node in model.get_ordered_ops() if node.get_type_name() == "PagedAttentionExtension"]
    if len(layers) != len(windows):
        raise RuntimeError(f"only {len(layers)} of {len(windows)} layers could be converted to paged attention")
    for layer, window in zip(layers, windows, strict=True):
        if window:
            layer.input(_SLIDING_WINDOW_INPUT).replace_source_output(ops.constant(np.int32(window)).output(0))
    return True


def _readers(node: Any, type_name: str) -> list[Any]:
    readers = [target.get_node() for output in node.outputs() for target in output.get_target_inputs()]
    return [reader for reader in readers if reader.get_type_name() == type_name]


class Written(NamedTuple):
    """A past in blocks of a slot. Rows append after it, so it is unchanged when they end.

    Attributes:
        past: The past, if it still exists.
        blocks: Its blocks.
    """

    past: ReferenceType[HeldPast]
    blocks: tuple[int, ...]


class Slot(NamedTuple):
    """An infer request and the blocks that it reads and writes.

    Attributes:
        request: The request.
        names: The inputs for its blocks: keys and values, alternating by layer.
        arrays: The memory of these blocks, `[blocks, num_kv_heads, block_size, head_dim]` each.
        feeds: The memory of the other inputs, by name.
        written: The pasts in its first blocks, written for the last rows that began with a past.
    """

    request: openvino.InferRequest
    names: tuple[str, ...]
    arrays: list[NDArray[Any]]
    feeds: dict[str, NDArray[Any]]
    written: list[Written]


def new_slot(compiled: openvino.CompiledModel) -> Slot:
    """Create a request without blocks."""
    names = {name for port in compiled.inputs for name in port.names}
    layers = sum(name.startswith("key_cache.") for name in names)
    ordered = tuple(f"{part}_cache.{layer}" for layer in range(layers) for part in ("key", "value"))
    arrays = []
    for name in ordered:
        port = compiled.input(name)
        _, *sizes = (dim.get_length() if dim.is_static else 0 for dim in port.get_partial_shape())
        arrays.append(np.zeros((0, *sizes), _DTYPES[port.get_element_type()]))
    return Slot(compiled.create_infer_request(), ordered, arrays, {}, [])


def feed(slot: Slot, name: str, array: NDArray[Any]) -> None:
    """Set an input of the request; if its size is unchanged, reuse the bound memory, because binding takes time."""
    there = slot.feeds.get(name)
    if there is not None and there.shape == array.shape:
        there[...] = array
        return
    own = slot.feeds[name] = array.copy()
    slot.request.set_tensor(name, openvino.Tensor(own, shared_memory=True))


_DTYPES: dict[openvino.Type, np.dtype[Any]] = {
    openvino.Type.f32: np.dtype(np.float32),
    openvino.Type.bf16: np.dtype(np.uint16),
}
"""The dtype of the blocks by the element type of the cache; numpy has no bfloat16."""

_TYPES = {dtype: element for element, dtype in _DTYPES.items()}


class PagedRows:
    """See `edge_prompt_runtime.engines.base.CachedRun`.

    Args:
        slot: A request and its blocks, owned by this run until it is closed.
        held: The past of each row.
        idle: The pool that the slot returns to when the run is closed.
        no_soft_prompt: A soft prompt of length 0, `[1, 0, hidden_size]`.
    """

    def __init__(self, slot: Slot, held: Sequence[HeldPast], idle: deque[Slot], no_soft_prompt: Float32) -> None:
        self._slot: Slot | None = slot
        self._idle = idle
        self._no_soft_prompt = no_soft_prompt
        distinct = {id(past): past for past in held}
        self._lengths = [past[0].shape[2] for past in distinct.values()]
        self._used = sum(len(written.blocks) for written in slot.written)
        self._blocks = self._begin_on(list(distinct.values()))
        places = list(distinct)
        self.keep([places.index(id(past)) for past in held])

    def forward(
        self, rows: Sequence[Int64], *, every: bool = False, soft_prompt: Float32 | None = None
    ) -> list[Float32]:
        """See `CachedRun.forward`."""
        embeddings = self._no_soft_prompt if soft_prompt is None else soft_prompt
        virtual = embeddings.shape[1]
        new = [virtual + len(tokens) for tokens in rows]
        self._room_for(new)
        begins = np.cumsum([0, *new])
        kept = [
            np.arange(start + virtual if every else max(start + virtual, end - 1), end)
            for start, end in pairwise(begins.tolist())
        ]
        feeds = {
            "input_ids": np.concatenate(rows),
            "position_ids": np.concatenate(
                [np.arange(length, length + count) for length, count in zip(self._lengths, new, strict=True)]
            ),
            "logits_to_keep": np.concatenate(kept),
            "soft_prompt": embeddings,
            "past_lens": np.array(self._lengths, np.int32),
            "subsequence_begins": begins.astype(np.int32),
            "block_indices": np.concatenate(self._blocks).astype(np.int32),
            "block_indices_begins": np.cumsum([0, *map(len, self._blocks)]).astype(np.int32),
        }
        self._lengths = [length + count for length, count in zip(self._lengths, new, strict=True)]
        feeds["max_context_len"] = np.array(max(self._lengths), np.int32)
        slot = self._open()
        for name, array in feeds.items():
            feed(slot, name, array)
        slot.request.infer(share_outputs=True)
        logits = slot.request.get_tensor("logits").data[:, 0].copy()
        return np.split(logits, np.cumsum([len(places) for places in kept])[:-1])

    def keep(self, rows: Sequence[int]) -> None:
        """See `CachedRun.keep`. Repeated rows share all full blocks; a last block that is not full is copied."""
        seen: set[int] = set()
        lengths, blocks = [self._lengths[row] for row in rows], []
        for row in rows:
            own = list(self._blocks[row])
            if row in seen and self._lengths[row] % self._block_size:
                (copy,) = self._take(1)
                for array in self._open().arrays:
                    array[copy] = array[own[-1]]
                own[-1] = copy
            seen.add(row)
            blocks.append(own)
        self._lengths, self._blocks = lengths, blocks

    def cache(self) -> Past:
        """See `CachedRun.cache`."""
        (blocks,), (length,) = self._blocks, self._lengths
        parts = (as_float32(array[blocks]) for array in self._open().arrays)
        return tuple(
            np.ascontiguousarray(part.swapaxes(0, 1).reshape(1, part.shape[1], -1, part.shape[3])[:, :, :length])
            for part in parts
        )

    def close(self) -> None:
        """See `CachedRun.close`. The slot is returned only once, because other threads may use it afterwards."""
        slot, self._slot = self._slot, None
        if slot is not None:
            self._idle.append(slot)

    @property
    def _block_size(self) -> int:
        return int(self._open().arrays[0].shape[2])

    def _open(self) -> Slot:
        if self._slot is None:
            raise RuntimeError("this run is closed")
        return self._slot

    def _begin_on(self, pasts: Sequence[HeldPast]) -> list[list[int]]:
        """The blocks of each past: the existing ones if every past is already written, otherwise new ones for all."""
        written = self._open().written
        there = {id(one.past()): one.blocks for one in written}
        if all(not length or id(past) in there for past, length in zip(pasts, self._lengths, strict=True)):
            return [list(there.get(id(past), ())) for past in pasts]
        written.clear()
        self._used = 0
        blocks = [self._take(self._blocks_for(length)) for length in self._lengths]
        for own, past in zip(blocks, pasts, strict=True):
            self._write(own, past)
        written.extend(Written(ref(past), tuple(own)) for own, past in zip(blocks, pasts, strict=True) if own)
        return blocks

    def _room_for(self, new: Sequence[int]) -> None:
        """Add the blocks that each row needs for its new tokens."""
        for blocks, length, count in zip(self._blocks, self._lengths, new, strict=True):
            blocks.extend(self._take(self._blocks_for(length + count) - len(blocks)))

    def _blocks_for(self, length: int) -> int:
        """Number of blocks that `length` tokens need."""
        return -(-length // self._block_size)

    def _take(self, count: int) -> list[int]:
        """Take unused blocks."""
        slot = self._open()
        first, self._used = self._used, self._used + count
        there = len(slot.arrays[0])
        if self._used > there:
            for place, (name, array) in enumerate(zip(slot.names, slot.arrays, strict=True)):
                larger = np.zeros((max(2 * there, self._used + LEAST_BLOCKS), *array.shape[1:]), array.dtype)
                larger[:there] = array
                slot.arrays[place] = larger
                slot.request.set_tensor(name, openvino.Tensor(larger, larger.shape, _TYPES[larger.dtype]))
        return list(range(first, self._used))

    def _write(self, blocks: Sequence[int], past: Past) -> None:
        """Write a past into its blocks, which are consecutive."""
        if not blocks:
            return
        size, length = self._block_size, past[0].shape[2]
        full = length // size
        first, last = blocks[0], blocks[0] + full
        for array, part in zip(self._open().arrays, past, strict=True):
            heads, head_dim = part.shape[1], part.shape[3]
            whole = part[0, :, : full * size].reshape(heads, full, size, head_dim)
            array[first:last] = as_cache(whole.swapaxes(0, 1), array.dtype)
            if length % size:
                array[last, :, : length % size] = as_cache(part[0, :, full * size :], array.dtype)


def as_cache(part: Float32, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Convert keys or values to the dtype of the cache: unchanged, or rounded to bfloat16 with ties to even."""
    if dtype == part.dtype:
        return part
    bits = np.ascontiguousarray(part).view(np.uint32)
    rounded: NDArray[Any] = (bits + 0x7FFF + (bits >> 16 & 1)) >> 16
    return rounded.astype(np.uint16)


def as_float32(part: NDArray[Any]) -> Float32:
    """Convert keys or values of the cache to float32."""
    if part.dtype == np.float32:
        return part
    widened: Float32 = (part.astype(np.uint32) << 16).view(np.float32)
    return widened
