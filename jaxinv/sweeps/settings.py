"""Settings of a sweep from the environment: where it runs, and how many runs at once."""

import contextlib
import dataclasses
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from jaxinv.errors import UsageError
from jaxinv.machine.environment import usable_cores

EXECUTORS = ("local", "slurm")
_TIME = r"\d+(:\d+){0,2}|\d+-\d+(:\d+){0,2}"
_MEMORY_OF_A_RUN = 2**32  # bytes, generously
_GPU_MEMORY_OF_A_RUN = 2**33
_CGROUPS = Path("/sys/fs/cgroup")
_OF_SLURM = ("PARTITION", "TIME", "GPUS", "SBATCH_OPTIONS")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of where and how runs are run.

    Attributes:
      executor: of `EXECUTORS`.
      jobs: how many runs at once; None is what suits the machine, or all that SLURM allows.
      partition, time, gpus: of SLURM's jobs; None is the cluster's default. GPUs are for each run.
      options: more options of sbatch.
    """

    executor: str = "local"
    jobs: int | None = None
    partition: str | None = None
    time: str | None = None
    gpus: int | None = None
    options: tuple[str, ...] = ()

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "Settings":
        """Reads and checks EXECUTOR, JOBS, PARTITION, TIME, GPUS and SBATCH_OPTIONS.

        A variable that is set and empty counts as not set.

        Raises:
          UsageError: a value is not allowed, or there is no SLURM here.
        """
        given = {name: environment.get(name, "").strip() for name in ("EXECUTOR", "JOBS")}
        executor = given["EXECUTOR"] or "local"
        if executor not in EXECUTORS:
            raise UsageError(f"EXECUTOR={executor}: expected {' or '.join(EXECUTORS)}.")
        jobs = _count("JOBS", given["JOBS"], least=1)
        if executor == "local":  # cluster settings of the user's profile are no mistake here
            return cls(executor, jobs)
        if shutil.which("sbatch") is None or shutil.which("squeue") is None:
            raise UsageError("EXECUTOR=slurm: there is no sbatch and squeue on the PATH.")
        partition, time, gpus, options = (environment.get(name, "").strip() for name in _OF_SLURM)
        if not re.fullmatch(r"[\w.,-]*", partition):
            raise UsageError(f"PARTITION={partition}: expected names, with commas between.")
        if time and not re.fullmatch(_TIME, time):
            raise UsageError(
                f"TIME={time}: expected minutes, or one of minutes:seconds, hours:minutes:seconds, "
                "days-hours, days-hours:minutes."
            )
        try:
            more = tuple(shlex.split(options))
        except ValueError as error:
            raise UsageError(f"SBATCH_OPTIONS={options}: {error}.") from error
        number = _count("GPUS", gpus, least=0)
        return cls(executor, jobs, partition or None, time or None, number, more)


def _count(name: str, text: str, *, least: int) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdecimal() or not least <= int(text) < 2**31:
        raise UsageError(f"{name}={text}: expected a whole number, at least {least}.")
    return int(text)


def default_jobs(gpus: list[str], environment: Mapping[str, str] = os.environ) -> int:
    """Returns how many runs at once suit this machine and its memory.

    One on each core: networks here are small, and a run is far from twice as fast on two. Where
    runs cannot be given cores of their own it is one on two of them. With NVIDIA GPUs, too, which
    they share, for there a run is compiling most of the time. One on a TPU.
    """
    room = max(1, round(_memory() / _MEMORY_OF_A_RUN))
    if gpus:
        each = min(
            usable_cores() // 2 // len(gpus),
            round(_gpu_memory(gpus) / _GPU_MEMORY_OF_A_RUN),
        )
        return min(room, len(gpus) * max(1, each))
    platforms = environment.get("JAX_PLATFORMS", "")
    if not platforms and (environment.get("TPU_NAME") or Path("/dev/accel0").exists()):
        return 1
    if platforms and platforms.split(",")[0] != "cpu":
        return 1
    cores = usable_cores() // (1 if hasattr(os, "sched_setaffinity") else 2)
    return max(1, min(cores, room))


def _memory() -> int:
    """Bytes that runs share: of this machine, or what this process's control groups may have."""
    limits = [sys.maxsize]
    with contextlib.suppress(AttributeError, ValueError, OSError):  # not everywhere
        limits.append(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    group = _control_group()
    files = [folder / "memory.max" for folder in (group, *group.parents)]
    for file in [*files, _CGROUPS / "memory/memory.limit_in_bytes"]:
        with contextlib.suppress(ValueError, OSError):  # "max" is no number
            limits.append(int(file.read_text("utf-8")))
    return min(limits)


def _control_group() -> Path:
    """Folder of this process's control group (Linux's cgroup v2); of all where it is in none."""
    own = None
    with contextlib.suppress(OSError):  # not everywhere
        own = re.search(r"^0::/(.*)$", os.fsdecode(Path("/proc/self/cgroup").read_bytes()), re.M)
    return _CGROUPS / (own[1] if own else "")


def visible_gpus(environment: Mapping[str, str] = os.environ) -> list[str]:
    """Names of the NVIDIA GPUs that runs may use, as CUDA_VISIBLE_DEVICES spells them.

    JAX is not asked: it would take the memory of each for this process.
    """
    platforms = environment.get("JAX_PLATFORMS", "")
    if platforms and not {"cuda", "gpu"} & set(platforms.split(",")):
        return []
    if "CUDA_VISIBLE_DEVICES" in environment:
        names = [name.strip() for name in environment["CUDA_VISIBLE_DEVICES"].split(",")]
        return [name for name in names if name not in ("", "-1")]
    lines = _nvidia_smi("-L").splitlines()
    return [str(number) for number in range(sum(line.startswith("GPU ") for line in lines))]


def _gpu_memory(gpus: list[str]) -> int:
    """Bytes of the one that has the least; nothing where that is not known, as of a part of one."""
    told = _nvidia_smi("--query-gpu=index,uuid,memory.total", "--format=csv,noheader,nounits")
    sizes: dict[str, int] = {}
    for line in told.splitlines():
        *names, mebibytes = (cell.strip() for cell in line.split(","))
        if mebibytes.isdecimal():
            sizes.update(dict.fromkeys(names, int(mebibytes) * 2**20))
    return min(sizes.get(name, 0) for name in gpus)


def _nvidia_smi(*options: str) -> str:
    """Returns the output of the driver's tool; nothing where there is none."""
    try:
        done = subprocess.run(
            ["nvidia-smi", *options], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout
