"""OpenVINO's telemetry, which is not wanted here."""

from __future__ import annotations

import sys


def refuse_telemetry() -> None:
    """Keep OpenVINO from reporting to its makers, in a process that has not loaded it yet.

    Where `openvino-telemetry` is installed, and openvino brings it along, importing openvino and each conversion send
    events over the network, each from a fork of the whole process that is waited for. A device must send nothing that
    its owner did not ask for; and of an export, forking took a good part of the time. OpenVINO does without the package
    where it cannot be imported, and None in `sys.modules` is Python's way to say that it cannot.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
