"""Backbones of the user's own: any `torch.nn.Module` whose forward method takes prompts as arguments."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edge_prompt.base.errors import InputError, UnsupportedArchitectureError
from edge_prompt.formats.kinds import FREE_AXIS, KIND_AXES, PROMPT_INPUTS
from edge_prompt.formats.preprocessing import ARRAY_DTYPES, ArrayInput, ArrayPreprocessing
from edge_prompt.untrusted.npy import MAX_RANK
from edge_prompt_export.backbone.conditioned_module import ConditionedModule, Tensors
from edge_prompt_export.conditioning.attention import rows_of

CUSTOM_TASK = "custom"

_FREE_AXES = {
    "soft": {0: "soft_prompt_batch", 1: "num_virtual_tokens"},
    "prefix": {2: "prefix_batch", 4: "prefix_length"},
    "pixel": {0: "pixel_prompt_batch"},
}
_TRACE_BATCH = 2
_TRACE_LENGTH = 5
_TENSOR_DTYPES = {"float32": torch.float32, "int64": torch.int64, "bool": torch.bool}


@dataclass(frozen=True)
class ModuleDescription:
    """The inputs, prompts and outputs of a module of the user's own.

    Attributes:
        inputs: The input arrays by name: dtype, and shape with None for every axis whose length depends on the
            request. The first axis is the batch.
        prompts: The shape of a prompt file for each kind, with None for the number of virtual tokens.
        outputs: The names of the outputs, in order. Task heads read `features [batch, feature_size]`.
        name: The name of the network in the bundle; empty uses the name of its class.
        integers_below: Exclusive upper bound of the numbers in integer arrays.
    """

    inputs: Mapping[str, ArrayInput]
    prompts: Mapping[str, tuple[int | None, ...]]
    outputs: tuple[str, ...]
    name: str = ""
    integers_below: int = 2


class ConditionedCustom(ConditionedModule):
    """A module of the user's own.

    Args:
        model: The module; it is frozen and put into evaluation mode. Its forward method takes the described arrays by
            name, and each prompt by the name of its graph input, with one prompt per row: `soft_prompt [batch,
            num_virtual_tokens, hidden_size]`, `prefix [num_layers, 2, batch, num_kv_heads, prefix_length, head_dim]`,
            `pixel_prompt [batch, channels, height, width]`. With a prompt of length 0, or a pixel prompt of zeros, it
            must give the unmodified network's output. It returns a tensor or a tuple of tensors.
        description: The inputs, prompts and outputs of the module.

    Raises:
        InputError: The description is invalid, or does not fit the module.
        UnsupportedArchitectureError: The module does not run on the described inputs, or not without a prompt.
    """

    def __init__(self, model: nn.Module, description: ModuleDescription) -> None:
        super().__init__()
        _require_prompts(description)
        _require_inputs(description)
        _require_output_names(description)
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.task = CUSTOM_TASK
        self.inputs = {name: ArrayInput(array.dtype, tuple(array.shape)) for name, array in description.inputs.items()}
        self._integers_below = description.integers_below
        prompts = description.prompts
        self.kinds = {kind: tuple(prompts[kind]) for kind in PROMPT_INPUTS if kind in prompts}
        self.refused_kinds = {}
        self.input_names = (*self.inputs, *(PROMPT_INPUTS[kind] for kind in self.kinds))
        self.output_names = tuple(description.outputs)
        _require_arguments(model, self.input_names)
        self._lengths_differ = True
        self._lengths_differ = self._runs()
        with torch.no_grad():
            _require_outputs(self, self(**self.trace_inputs()))
            _require_finite(self, self(**self.graph_inputs(self._request(_TRACE_BATCH, _TRACE_LENGTH, 0), {})))

    @property
    def feature_size(self) -> int:
        """Width of the output `features`; 1 if there is no such output."""
        if "features" not in self.output_names:
            return 1
        with torch.no_grad():
            outputs = self(**self.graph_inputs(self._request(1, 1, 0), {}))
        return int(outputs[self.output_names.index("features")].shape[-1])

    def dynamic_axes(self) -> dict[str, dict[int, str]]:
        """See `ConditionedModule.dynamic_axes`."""
        axes = {
            name: {
                axis: "batch" if axis == 0 else f"{name}_{axis}"
                for axis, length in enumerate(array.shape)
                if length is None
            }
            for name, array in self.inputs.items()
        }
        return axes | {PROMPT_INPUTS[kind]: dict(_FREE_AXES[kind]) for kind in self.kinds}

    def trace_inputs(self) -> Tensors:
        """See `ConditionedModule.trace_inputs`."""
        return self.graph_inputs(self._request(_TRACE_BATCH, _TRACE_LENGTH, 0), self.example_prompts())

    def parity_requests(self) -> list[Tensors]:
        """Requests of several sizes, without prompts, to compare a bundle with the network on."""
        return [self._request(batch, length, seed) for seed, (batch, length) in enumerate(((1, 3), (3, 7)))]

    def forward(self, **inputs: Tensor) -> tuple[Tensor, ...]:
        """Run the module. A prompt with a batch of 1 is repeated for all rows, so the module need not broadcast it."""
        first = inputs[self.input_names[0]]
        for kind in self.kinds:
            name, (batch_axis, *_) = PROMPT_INPUTS[kind], _FREE_AXES[kind]
            prompt = inputs[name]
            inputs[name] = prompt.index_select(batch_axis, rows_of(prompt.shape[batch_axis], first))
        output = self.model(**inputs)
        return tuple(output) if isinstance(output, (tuple, list)) else (output,)

    def original_outputs(self, request: Tensors) -> Tensors:
        """The module's own outputs for prompts of length 0, since there is no network without prompts to compare."""
        with torch.no_grad():
            return dict(zip(self.output_names, self(**self.graph_inputs(request, {})), strict=True))

    def preprocessing(self) -> ArrayPreprocessing:
        """The inputs in the form that a manifest stores."""
        return ArrayPreprocessing(self.inputs)

    def _runs(self) -> bool:
        """Whether the module runs on its example inputs."""
        try:
            with torch.no_grad():
                self(**self.trace_inputs())
        except Exception:  # noqa: BLE001 - the user's code may raise anything
            return False
        return True

    def _request(self, batch: int, length: int, seed: int) -> Tensors:
        """Random arrays; dynamic axes get different lengths so that a tracer can distinguish them.

        If the module does not run on different lengths (a mask must match its sequence), all lengths are equal.
        """
        random = torch.Generator().manual_seed(seed)
        lengths = itertools.count(length, int(self._lengths_differ))
        request = {}
        for name, array in self.inputs.items():
            free = [next(lengths) if size is None else size for size in array.shape[1:]]
            shape, dtype = [batch, *free], _TENSOR_DTYPES[array.dtype]
            if dtype == torch.float32:
                request[name] = torch.randn(shape, generator=random)
            else:
                below = 2 if dtype == torch.bool else self._integers_below
                request[name] = torch.randint(0, below, shape, generator=random).to(dtype)
        return request


def _require_prompts(description: ModuleDescription) -> None:
    """Refuse prompts whose axes do not fit their kinds, and a description without prompts."""
    prompts = description.prompts
    if not prompts or not all(_is_kind_shape(kind, shape) for kind, shape in prompts.items()):
        kinds = (f"{kind} ({', '.join(KIND_AXES[kind])})" for kind in PROMPT_INPUTS)
        raise InputError(
            found=f"prompts {dict(prompts)}",
            wanted=f"one or more of {', '.join(kinds)}, with one length per axis and None for {FREE_AXIS}",
            remedy="correct prompts=…",
        )


def _is_kind_shape(kind: str, shape: tuple[int | None, ...]) -> bool:
    if kind not in PROMPT_INPUTS or not isinstance(shape, (tuple, list)) or len(shape) != len(KIND_AXES[kind]):
        return False
    lengths = dict(zip(KIND_AXES[kind], shape, strict=True))
    fixed = [length for axis, length in lengths.items() if axis != FREE_AXIS]
    return lengths.get(FREE_AXIS) is None and all(map(_is_length, fixed)) and lengths.get("key_value", 2) == 2


def _is_length(length: object) -> bool:
    return type(length) is int and length > 0


def _require_inputs(description: ModuleDescription) -> None:
    """Refuse inputs that a request cannot contain."""
    inputs = description.inputs
    if not inputs or not all(map(_is_array, inputs.values())):
        raise InputError(
            found=f"inputs {dict(inputs)}",
            wanted=f"an ArrayInput by name, of {', '.join(ARRAY_DTYPES)} with 1 to {MAX_RANK} axes, of which the first "
            "is None for the batch",
            remedy="correct inputs=…",
        )
    taken = sorted(inputs.keys() & set(PROMPT_INPUTS.values()))
    if taken:
        raise InputError(
            found=f"an input named {taken[0]}",
            wanted="another name, since a prompt has this one",
            remedy="correct inputs=…",
        )
    if not _is_length(description.integers_below):
        raise InputError(
            found=f"integers_below={description.integers_below}",
            wanted="at least 1, as the exclusive upper bound of integer arrays",
            remedy="correct integers_below=…",
        )


def _is_array(array: object) -> bool:
    if not isinstance(array, ArrayInput) or array.dtype not in ARRAY_DTYPES or not 1 <= len(array.shape) <= MAX_RANK:
        return False
    first, *others = array.shape
    return first is None and all(length is None or _is_length(length) for length in others)


def _require_output_names(description: ModuleDescription) -> None:
    """Refuse output names that are not distinct from each other and from the inputs."""
    outputs: Sequence[str] = description.outputs
    others = {*description.inputs, *PROMPT_INPUTS.values()}
    if isinstance(outputs, str) or not outputs or len(set(outputs)) < len(outputs) or others & set(outputs):
        raise InputError(
            found=f"outputs {outputs!r}",
            wanted="a tuple of names that differ from each other and from the inputs",
            remedy="correct outputs=…",
        )


def _require_arguments(model: nn.Module, names: tuple[str, ...]) -> None:
    """Refuse a module whose forward method lacks arguments of the description."""
    parameters = inspect.signature(model.forward).parameters
    takes_any = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    missing = [name for name in names if name not in parameters and not takes_any]
    if missing:
        raise UnsupportedArchitectureError(
            found=f"the forward of {type(model).__name__} takes no {', '.join(missing)}",
            wanted=f"a forward with the arguments {', '.join(names)}",
            remedy="rename its arguments, or correct inputs=… and prompts=…",
        )


def _require_outputs(module: ConditionedCustom, outputs: tuple[object, ...]) -> None:
    """Refuse a module whose return value does not fit the description."""
    name = type(module.model).__name__
    tensors = [output for output in outputs if isinstance(output, Tensor)]
    if len(tensors) < len(outputs):
        raise InputError(
            found=f"{name} returns {', '.join(type(output).__name__ for output in outputs)}",
            wanted="a tensor, or several in a tuple",
            remedy="change what the module returns",
        )
    if len(tensors) != len(module.output_names):
        raise InputError(
            found=f"{len(tensors)} outputs of {name} and {len(module.output_names)} names",
            wanted="one name per output",
            remedy="correct outputs=…",
        )
    for output_name, tensor in zip(module.output_names, tensors, strict=True):
        is_feature = output_name == "features"
        fits = tensor.ndim >= 1 and len(tensor) == _TRACE_BATCH
        if not fits or (is_feature and not (tensor.ndim == 2 and tensor.is_floating_point())):
            raise InputError(
                found=f"{name} returns {output_name} of shape {list(tensor.shape)} for a batch of {_TRACE_BATCH}",
                wanted="floats [batch, feature_size]" if is_feature else "the batch as its first axis",
                remedy="change what the module returns",
            )


def _require_finite(module: ConditionedCustom, outputs: tuple[Tensor, ...]) -> None:
    """Refuse a module that returns NaN or infinity without a prompt, for example the mean over no tokens."""
    if not all(bool(output.isfinite().all()) for output in outputs):
        raise UnsupportedArchitectureError(
            found=f"{type(module.model).__name__} returns NaN or infinity without a prompt",
            wanted="the unmodified network's output for a prompt of length 0",
            remedy="handle length 0 in its forward method (a sum over no tokens is 0, a mean is NaN)",
        )
