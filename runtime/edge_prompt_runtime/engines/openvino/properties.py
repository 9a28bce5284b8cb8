"""What OpenVINO is told of how to run a graph, and what it is refused for."""

from __future__ import annotations

from threading import Lock
from typing import Any

import openvino

from edge_prompt.base.errors import InputError
from edge_prompt_runtime.engines.cores import available_cores, said
from edge_prompt_runtime.engines.settings import EngineSettings

RUNTIME_CACHE = "CPU_RUNTIME_CACHE_CAPACITY"
RUNTIME_CACHE_ENTRIES = 200
"""Kernels that are kept for shapes that were seen. OpenVINO's own 5,000 let memory grow by 230 MB over some thousand
mixed batches, each of another shape; with so few it stayed, and nothing took longer (MiniLM)."""

_STARTING = Lock()
_STARTED_ON: list[frozenset[int]] = []


def properties_of(settings: EngineSettings) -> dict[str, Any]:
    """The properties of a compiled model.

    Raises:
        InputError: OpenVINO does not have a setting, or not in this process any more.
    """
    _refuse_what_it_lacks(settings)
    _require_cores(settings.cores)
    # left alone, the plugin computes in bfloat16 where the machine can and keeps a cache in 8 bits, and parity with
    # torch is lost
    properties: dict[str, Any] = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": settings.precision,
        "KV_CACHE_PRECISION": settings.cache_precision or settings.precision,
        RUNTIME_CACHE: RUNTIME_CACHE_ENTRIES,
    }
    if settings.threads is not None:
        properties["INFERENCE_NUM_THREADS"] = settings.threads
    if settings.cores is not None:
        properties["ENABLE_CPU_PINNING"] = True
    elif settings.threads is not None and settings.threads < len(available_cores()):
        # left alone, it pins every thread that asks to the first of the cores, where all of them then wait for one
        # another, and for those of other processes
        properties["ENABLE_CPU_PINNING"] = False
    return properties


def compiled(core: openvino.Core, model: openvino.Model, properties: dict[str, Any]) -> openvino.CompiledModel:
    """The model on the processor.

    Raises:
        RuntimeError: OpenVINO cannot compile it.
    """
    try:
        return core.compile_model(model, "CPU", properties)
    except RuntimeError as error:
        if RUNTIME_CACHE not in str(error):
            raise
    known = {name: value for name, value in properties.items() if name != RUNTIME_CACHE}  # it is documented nowhere
    return core.compile_model(model, "CPU", known)


def require_on_cores(compiled: openvino.CompiledModel, settings: EngineSettings) -> None:
    """Refuse a compiled model that does not run on the cores that were asked for.

    Raises:
        InputError: Something else has started OpenVINO on others, or threads cannot be pinned here.
    """
    if settings.cores is None:
        return
    threads = compiled.get_property("INFERENCE_NUM_THREADS")
    if threads > len(set(settings.cores)) or not compiled.get_property("ENABLE_CPU_PINNING"):
        raise _too_late(settings.cores, f"{threads} threads on others")


def _require_cores(cores: tuple[int, ...] | None) -> None:
    """OpenVINO looks once a process which cores it has: when its first network is opened, on the thread that does."""
    with _STARTING:
        if not _STARTED_ON:
            _STARTED_ON.append(available_cores())
        (started_on,) = _STARTED_ON
    if cores is not None and frozenset(cores) != started_on:
        raise _too_late(cores, f"the cores {said(started_on)} since its first network was opened")


def _too_late(cores: tuple[int, ...], has: str) -> InputError:
    return InputError(
        found=f"the cores {said(cores)} for OpenVINO, which in this process has {has}",
        wanted="the same cores for every network of a process",
        remedy="open the first one with these cores, or in a process of its own, or use the engine onnxruntime",
    )


def _refuse_what_it_lacks(settings: EngineSettings) -> None:
    for what, asked in (("spinning", settings.spinning), ("memory_arena", settings.memory_arena)):
        if asked is not None:
            raise InputError(
                found=f"{what}={asked!r} for the engine openvino, which has no such setting",
                wanted=f"none, or {what} on the engine onnxruntime",
                remedy="leave it out or choose that engine",
            )
