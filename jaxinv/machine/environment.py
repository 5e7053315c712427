"""Facts that a record tells of what computed it: device, versions of packages, numeric mode.

The standard library; JAX is imported where it is asked.
"""

import contextlib
import os
import platform
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from jaxinv.errors import UsageError

_VERSIONED = (
    *("jaxinv", "jax", "jaxlib", "flax", "optax"),
    *("dm-pix", "numpy", "tensorflow-datasets"),
)

_PROMOTION = "JAX_NUMPY_DTYPE_PROMOTION"

_USUAL_MODE = {
    "x64": False,
    "prng": "threefry2x32",
    "partitionable": True,
    "matmul_precision": None,
}


def facts() -> dict[str, Any]:
    """Returns keys of a record about what computes; starts JAX's default backend.

    * `device` is "<platform>: <kind> x<count>", where a CPU counts the cores that this process may
      use.
    * `processor` is the name of the CPU, also beside an accelerator.
    * `versions` maps package names to versions, null for a package that is not installed.
    * `numerics` has all else that changes the last digits: `x64`, `matmul_precision` and
      `xla_flags` as they are set (null: not), and `backend`, the version of what runs programs.
    """
    import jax  # here, so that whoever counts cores does not wait for it

    versions = {name: version(name) for name in _VERSIONED}
    config: Any = jax.config
    backend = getattr(jax.devices()[0].client, "platform_version", None)
    return {
        "device": _device(),
        "processor": _cpu_name(),
        "versions": {**versions, "python": platform.python_version()},
        "numerics": {
            "x64": has_64_bits(),
            "matmul_precision": config.jax_default_matmul_precision,
            "xla_flags": os.environ.get("XLA_FLAGS") or None,
            "backend": backend and str(backend),
        },
    }


def check_promotion() -> None:
    """Checks that JAX mixes types as trainings and attacks need it, for optax mixes them.

    Raises:
      UsageError: it is told not to.
    """
    import jax

    config: Any = jax.config
    mode = str(config.jax_numpy_dtype_promotion)
    if mode != "standard":
        raise UsageError(f"{_PROMOTION}={mode}: expected standard, or nothing; optax mixes types.")


def numeric_mode() -> dict[str, Any]:
    """Returns what identifies a run beside its settings: JAX's modes that are not its defaults.

    * `x64`: it has 64 bits.
    * `prng`: it draws by another generator.
    * `partitionable`: False where draws depend on how arrays are divided.
    * `matmul_precision`: it rounds products otherwise; accelerators round more by default.
    """
    import jax

    config: Any = jax.config
    found = {
        "x64": has_64_bits(),
        "prng": config.jax_default_prng_impl,
        "partitionable": config.jax_threefry_partitionable,
        "matmul_precision": config.jax_default_matmul_precision,
    }
    return {name: value for name, value in found.items() if value != _USUAL_MODE[name]}


def is_of_this_mode(config: Mapping[str, Any]) -> bool:
    """Returns whether a configuration that holds `numeric_mode` is of the present one."""
    mode = numeric_mode()
    return all(config.get(name) == mode.get(name) for name in _USUAL_MODE)


def has_64_bits() -> bool:
    """Returns whether JAX computes in its 64-bit mode now."""
    import jax

    config: Any = jax.config  # mypy misses its attributes
    return bool(config.jax_enable_x64)


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


@contextlib.contextmanager
def some_home() -> Iterator[None]:
    """Lets libraries that ask for a home folder be imported where this user has none."""
    try:
        Path.home()
    except RuntimeError:  # no HOME, and an account that the system does not know
        os.environ["HOME"] = os.devnull
        try:
            yield
        finally:
            del os.environ["HOME"]
    else:
        yield


def _device() -> str:
    import jax

    devices = jax.devices()
    if devices[0].platform == "cpu":
        return f"cpu: {_cpu_name()} x{usable_cores()}"
    return f"{devices[0].platform}: {devices[0].device_kind} x{len(devices)}"


def _cpu_name() -> str:
    with contextlib.suppress(OSError):
        told = Path("/proc/cpuinfo").read_text("utf-8", "replace")
        match = re.search(r"^model name\s*:\s*(.+)$", told, re.M)
        if match:
            return match[1]
    return platform.processor() or platform.machine()
