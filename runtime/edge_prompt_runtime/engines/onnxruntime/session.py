"""Sessions of ONNX Runtime with the options of an engine: threads, cores and memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import onnxruntime

from edge_prompt_runtime.engines.cores import running_on
from edge_prompt_runtime.engines.options import EngineOptions


def session_options(options: EngineOptions) -> onnxruntime.SessionOptions:
    """Return the options of a session.

    By default, ONNX Runtime's idle threads spin for a while after the last request. This only drains the battery, so
    they are made to stop when a request ends.
    """
    session = onnxruntime.SessionOptions()
    session.log_severity_level = 3
    threads = options.threads
    if options.cores is not None:
        threads = threads or len(set(options.cores))
        one = ",".join(str(core + 1) for core in sorted(set(options.cores)))  # ONNX Runtime counts from 1
        if threads > 1:  # the calling thread is one of them, see `ConfiguredSession`
            session.add_session_config_entry("session.intra_op_thread_affinities", ";".join([one] * (threads - 1)))
    if threads is not None:
        session.intra_op_num_threads = threads
    if options.spinning is None:
        session.add_session_config_entry("session.force_spinning_stop", "1")
    else:
        session.add_session_config_entry("session.intra_op.allow_spinning", str(int(options.spinning)))
    session.enable_cpu_mem_arena = options.memory_arena != "none"
    return session


class ConfiguredSession:
    """A session whose requests run on chosen cores, or return memory to the system.

    Args:
        session: The session.
        options: Settings of the engine.
    """

    def __init__(self, session: onnxruntime.InferenceSession, options: EngineOptions) -> None:
        self._session = session
        self._cores = options.cores
        self._options: onnxruntime.RunOptions | None = None
        if options.memory_arena == "shrunk":
            self._options = onnxruntime.RunOptions()
            self._options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.get_inputs, self.get_outputs = session.get_inputs, session.get_outputs
        self.io_binding = session.io_binding

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> Any:
        """Run the graph on arrays."""
        with running_on(self._cores):
            return self._session.run(outputs, feeds, self._options)

    def run_with_iobinding(self, binding: Any) -> None:
        """Run the graph on the bound inputs and outputs."""
        with running_on(self._cores):
            self._session.run_with_iobinding(binding, self._options)


def session_of(session: onnxruntime.InferenceSession, options: EngineOptions) -> Any:
    """Return the session itself, or an `ConfiguredSession` if the options need one."""
    own = options.cores is not None or options.memory_arena == "shrunk"
    return ConfiguredSession(session, options) if own else session
