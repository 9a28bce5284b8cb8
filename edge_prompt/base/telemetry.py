"""Disabling OpenVINO's telemetry."""

from __future__ import annotations

import sys


def refuse_telemetry() -> None:
    """Disable OpenVINO's telemetry, in a process that has not imported openvino yet.

    The package `openvino-telemetry`, which openvino installs, sends events over the network when openvino is imported
    and on every conversion. It forks the whole process for each event and waits for it. A device must not send data
    that its owner did not ask for, and the forks took a considerable part of the time of an export. OpenVINO works
    without the package if it cannot be imported, and None in `sys.modules` makes the import fail.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
