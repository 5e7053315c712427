"""Times works in turn. JAX."""

import contextlib
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from typing import Any

import jax
from jax.experimental.compilation_cache import compilation_cache

from jaxinv.studies.benchmark.flops import MatrixPeak
from jaxinv.studies.benchmark.work import Timing, Work


def measure(
    jobs: Sequence[Work], peaks: dict[int, MatrixPeak], *, repeats: int
) -> list[dict[str, Any]]:
    """Times everything in turn, after a run of each that does not count.

    Args:
      jobs: what to time.
      peaks: for each number of devices of theirs; measured in the same turns.
      repeats: of everything.

    Returns:
      A row for each: `method`, `split`, `phase`, `batch`, `devices`; `compile_s`, `run_s` (median)
      and `image_iterations`, of a run; `image_iterations_per_s`, the median, and `_low`, `_high`,
      the extremes; `images_per_s`, that the method attacks with all its steps (of a training None);
      `flops_per_image_iteration`, `flops_per_s` and `peak_fraction`; and `memory_bytes`.
    """
    for work in jobs:
        work.run()
    found: list[list[Timing]] = [[] for _ in jobs]
    for _ in range(repeats):
        for peak in peaks.values():
            peak.measure()
        for work, runs in zip(jobs, found, strict=True):
            runs.append(work.run())
    return [
        _row(work, runs, peaks[work.devices].flops_per_s)
        for work, runs in zip(jobs, found, strict=True)
    ]


def _row(work: Work, runs: Sequence[Timing], peak: dict[str, float]) -> dict[str, Any]:
    rates = [run.image_iterations / run.seconds for run in runs]
    rate = statistics.median(rates)
    seconds = statistics.median(run.seconds for run in runs)
    reached = rate * work.flops
    return {
        "method": work.method,
        "split": work.split,
        "phase": work.phase,
        "batch": work.batch,
        "devices": work.devices,
        "compile_s": work.compile_seconds,
        "run_s": seconds,
        "image_iterations": runs[0].image_iterations,
        "image_iterations_per_s": rate,
        "image_iterations_per_s_low": min(rates),
        "image_iterations_per_s_high": max(rates),
        "images_per_s": work.images / (seconds * work.whole) if work.images else None,
        "flops_per_image_iteration": work.flops,
        "flops_per_s": reached,
        "peak_fraction": reached / peak["rounded" if work.phase == "fit" else "exact"],
        "memory_bytes": work.memory_bytes,
    }


def device_peak_bytes() -> list[int | None]:
    """The most memory that each device of this process has held; None where it does not tell."""
    stats = [device.memory_stats() for device in jax.local_devices()]
    return [one["peak_bytes_in_use"] if one else None for one in stats]


@contextlib.contextmanager
def compiled_anew() -> Iterator[None]:
    """Programs that earlier processes have compiled are not used meanwhile: compile times are true.

    Those that are compiled twice within come from a folder that is removed at the end.
    """
    config: Any = jax.config
    before = config.jax_compilation_cache_dir
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        compilation_cache.reset_cache()
        try:
            yield
        finally:
            jax.config.update("jax_compilation_cache_dir", before)
            compilation_cache.reset_cache()
