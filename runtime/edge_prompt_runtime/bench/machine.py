"""The machine of a measurement, and the versions of the packages on it."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

DISTRIBUTIONS = ("edge-prompt", "numpy", "onnxruntime", "openvino", "torch", "transformers", "peft", "optimum")
"""The distributions whose versions are recorded if they are installed."""


def machine() -> dict[str, str | int]:
    """Describe this machine as far as the system reports it."""
    return {
        "processor": _processor(),
        "cores": _cores(),
        "memory_bytes": _memory_bytes(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "unknown",
        "load_average": _load_average(),
    }


def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that can affect a measurement."""
    found = {"python": platform.python_version()}
    for name in DISTRIBUTIONS:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def resident_bytes() -> int:
    """Return the resident memory of this process; 0 if the system does not report it."""
    statm = _read("/proc/self/statm")
    return int(statm.split()[1]) * os.sysconf("SC_PAGE_SIZE") if statm else 0


def peak_resident_bytes() -> int:
    """Return the peak resident memory of this process; 0 if the system does not report it."""
    lines = _read("/proc/self/status").splitlines()
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _processor() -> str:
    lines = _read("/proc/cpuinfo").splitlines()
    fields = ("model name", "Hardware", "Model")
    named = (line.partition(":")[2].strip() for field in fields for line in lines if line.startswith(field))
    return next(named, platform.processor() or platform.machine())


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int:
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", ()):
        return 0
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _load_average() -> str:
    return f"{os.getloadavg()[0]:.2f}" if hasattr(os, "getloadavg") else "unknown"


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
