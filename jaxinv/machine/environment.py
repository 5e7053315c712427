"""Facts of this machine that a record tells: device, versions of packages, cores that may be used.

The standard library; only `facts` asks JAX, for its devices.
"""

import contextlib
import os
import platform
import re
from importlib import metadata
from pathlib import Path
from typing import Any

_VERSIONED = (
    *("jaxinv", "jax", "jaxlib", "flax", "optax"),
    *("dm-pix", "numpy", "tensorflow-datasets"),
)


def facts() -> dict[str, Any]:
    """Returns the keys `device` and `versions` of a record; starts JAX's default backend.

    `device` is "<platform>: <kind> x<count>", where a CPU counts the cores that this process may
    use. `versions` maps package names to versions, null for a package that is not installed.
    """
    versions = {name: version(name) for name in _VERSIONED}
    return {
        "device": _device(),
        "versions": {**versions, "python": platform.python_version()},
    }


def version(package: str) -> str | None:
    """Returns the version of a package that is installed, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def usable_cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux only
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _device() -> str:
    import jax  # here, so that whoever counts cores does not wait for it

    devices = jax.devices()
    if devices[0].platform == "cpu":
        return f"cpu: {_cpu_name()} x{usable_cores()}"
    return f"{devices[0].platform}: {devices[0].device_kind} x{len(devices)}"


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if match:
            return match[1]
    return platform.processor() or platform.machine()
