"""OpenVINO's properties for the options of an engine, and the options that it does not support."""

from __future__ import annotations

from threading import Lock
from typing import Any

import openvino

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.engines.cores import available_cores, described
from edge_prompt_runtime.engines.options import EngineOptions

RUNTIME_CACHE = "CPU_RUNTIME_CACHE_CAPACITY"
RUNTIME_CACHE_ENTRIES = 200
"""Number of kernels that are cached by input shape. With OpenVINO's default of 5,000, memory grew by 230 MB over about
a thousand mixed batches of different shapes; with this value it stayed constant at the same speed (MiniLM)."""

_STARTING = Lock()
_STARTED_ON: list[frozenset[int]] = []


def properties_of(options: EngineOptions) -> dict[str, Any]:
    """Return the properties of a compiled model.

    Raises:
        InputError: OpenVINO does not support a setting, or can no longer apply it in this process.
    """
    _refuse_what_it_lacks(options)
    _require_cores(options.cores)
    # by default, the plugin computes in bfloat16 if the processor can and caches in 8 bits, which breaks parity with
    # torch
    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": options.precision,
        "KV_CACHE_PRECISION": options.cache_precision or options.precision,
        RUNTIME_CACHE: RUNTIME_CACHE_ENTRIES,
    }
    if options.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = options.threads
    if options.cores is not None:
        properties["ENABLE_CPU_PINNING"] = True
    elif options.threads is not None and options.threads < len(available_cores()):
        # by default, OpenVINO pins every calling thread to the first cores, where they compete with one another and
        # with other processes
        properties["ENABLE_CPU_PINNING"] = False
    return properties


def compile_model(core: openvino.Core, model: openvino.Model, properties: dict[str, Any]) -> openvino.CompiledModel:
    """Compile the model for the CPU.

    Raises:
        RuntimeError: OpenVINO cannot compile it.
    """
    try:
        return core.compile_model(model, "CPU", properties)
    except RuntimeError as error:
        if RUNTIME_CACHE not in str(error):
            raise
    known = {name: value for name, value in properties.items() if name != RUNTIME_CACHE}  # undocumented
    return core.compile_model(model, "CPU", known)


def require_on_cores(compiled: openvino.CompiledModel, options: EngineOptions) -> None:
    """Check that a compiled model runs on the requested cores.

    Raises:
        InputError: OpenVINO was already started on other cores, or threads cannot be pinned here.
    """
    if options.cores is None:
        return
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    if threads > len(set(options.cores)) or not compiled.get_property("ENABLE_CPU_PINNING"):
        raise _too_late(options.cores, f"{threads} threads on other cores")


def _require_cores(cores: tuple[int, ...] | None) -> None:
    """Check the cores: OpenVINO determines them once per process, on the thread that opens its first network."""
    with _STARTING:
        if not _STARTED_ON:
            _STARTED_ON.append(available_cores())
        (started_on,) = _STARTED_ON
    if cores is not None and frozenset(cores) != started_on:
        raise _too_late(cores, f"the cores {described(started_on)} since its first network was opened")


def _too_late(cores: tuple[int, ...], has: str) -> InputError:
    return InputError(
        found=f"OpenVINO cannot use the cores {described(cores)}, because in this process it has {has}",
        wanted="the same cores for every network of a process",
        remedy="open the first network with these cores, use a separate process, or use the engine onnxruntime",
    )


def _refuse_what_it_lacks(options: EngineOptions) -> None:
    for what, asked in (("spinning", options.spinning), ("memory_arena", options.memory_arena)):
        if asked is not None:
            raise InputError(
                found=f"{what}={asked!r} was set, but the engine openvino has no such setting",
                wanted=f"no {what}, or the engine onnxruntime",
                remedy="leave it out, or choose that engine",
            )
