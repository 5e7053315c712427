"""Speed of attacks: throughput, compile and run time, memory, and share of the device's peak.

Times each --method at each --split with each --batch of images, all in turn, and prints a table.
Programs are compiled anew. An image-iteration is one step of the solver for one image, or one
example in a step of training. Leaves record.json and benchmark.png in <workdir>/benchmark/<run>/.

  jaxinv benchmark
  jaxinv benchmark --split=relu2 --method=paper --batch=1,10,100,1000 --devices=1,2
  jaxinv benchmark --split=relu2 --method=paper --batch=100 \\
      --reference='python other.py {split} {images} {steps}'
"""

import contextlib
import dataclasses
import os
import resource
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.look.charts import style, throughput
from jaxinv.look.terminal import heading
from jaxinv.machine import devices, environment, hosts
from jaxinv.store import files, records
from jaxinv.studies import runs
from jaxinv.studies.benchmark import reference, timing
from jaxinv.studies.benchmark.flops import MatrixPeak
from jaxinv.studies.benchmark.works import METHODS, WHITEBOX, works
from jaxinv.studies.config import CutsConfig
from jaxinv.studies.experiment import Experiment, setting
from jaxinv.studies.spelling import text_of

NAME = "benchmark"
FIGURE_NAME = "benchmark.png"
_USUAL_BATCHES = (1, 10, 100)


@dataclasses.dataclass(frozen=True)
class BenchmarkConfig(CutsConfig):
    """Settings of a benchmark."""

    split: tuple[str, ...] = ("conv1", "relu2")
    method: tuple[str, ...] = setting(
        ("paper", "tv", "map"),
        f"What to time, a comma list of {', '.join(METHODS)}. paper, tv, map: white-box "
        "attacks, see whitebox --help. decoder, inverse: what black-box attackers (paper, strong) "
        "train, its training and its answers. shadow: query-free, the training of three shadows "
        "and the authors' attack on one.",
    )
    batch: tuple[int, ...] | None = setting(
        None,
        "Images at once on each device, a comma list; by default "
        f"{text_of(_USUAL_BATCHES)}, or all of a smaller test split.",
    )
    devices: tuple[int, ...] = setting(
        (1,),
        "How many devices to use, a comma list: each has a batch of its own. On a CPU, as many are "
        "made of its cores.",
    )
    steps: int = setting(
        200,
        "Steps that are timed, of attacks that take more and of training. images/s is for all "
        "steps that the method takes by itself.",
    )
    repeat: int = setting(3, "How often everything is timed, in turn; medians are printed.")
    reference: str | None = setting(
        None,
        "A command of the shell that is timed in turn with the first --method at each --split, on "
        "the largest --batch of images. In it {dataset}, {split}, {images} and {steps} are filled "
        "in; the last line that it prints is how many seconds its attack took.",
    )


def run(config: BenchmarkConfig) -> list[dict[str, Any]]:
    """Times everything, or reads what was timed before; returns the record with its `path`."""
    files.check_writable(config.workdir)
    asked = max(_counts("devices", config.devices))
    available = _provide(asked)  # before data are read
    if asked > available:
        raise UsageError(f"devices={asked}: there are {available}.")
    plan, methods, batches, counts = prepare(config)
    scene = runs.load(config, plan)
    if config.batch is None and batches != list(_USUAL_BATCHES):
        print(_fewer(batches, max(counts), len(plan.dataset.test)))
    facts = environment.facts()
    identity = {
        "cuts": scene.cuts,
        "methods": methods,
        "batches": batches,
        "devices": counts,
        "steps": config.steps,
        "repeat": config.repeat,
        "reference": config.reference,
        # Another machine, or another JAX, is another measurement.
        "device": facts["device"],
        "jax": facts["versions"]["jax"],
    }
    print(f"{scene.dataset.name} ({scene.dataset.source}), {facts['device']}")

    def make(folder: Path, common: dict[str, Any]) -> None:
        record = {
            **common,
            "splits": scene.cuts,
            "methods": methods,
            "steps": config.steps,
            "repeat": config.repeat,
            **facts,
            **_measure(config, scene, methods, batches, counts),
        }
        chart = throughput.figure(record["rows"], title=_title(record))
        style.save(folder / FIGURE_NAME, chart)
        records.write(folder, record, images=None)

    record = runs.read_or_make(
        NAME,
        "benchmark",
        config,
        scene,
        make,
        identity=identity,
        label=f"{scene.dataset.name}-{'+'.join(scene.cuts)}-{'+'.join(methods)}",
        flags=runs.flags_of(config, scene),
        decided_by=(__name__, "jaxinv.studies.benchmark"),
    )
    print(*table(record), sep="\n", flush=True)
    return [record]


def prepare(
    config: BenchmarkConfig, dataset: data.Dataset | None = None
) -> tuple[runs.Plan, list[str], list[int], list[int]]:
    """Returns what is timed: data and cuts, methods, batches and numbers of devices.

    Raises:
      UserError: something is missing, unknown or too much; the message names the argument.
    """
    methods = _checked_methods(config)
    counts = _counts("devices", config.devices)
    asked = None if config.batch is None else _counts("batch", config.batch)
    if hosts.count() > 1:
        raise UsageError("multihost=true: a benchmark is of one process.")
    plan = runs.plan(config, dataset)
    batches = _batches(asked, max(counts), len(plan.dataset.test))
    return plan, methods, batches, counts


def _measure(
    config: BenchmarkConfig,
    scene: runs.Scene,
    methods: Sequence[str],
    batches: Sequence[int],
    counts: Sequence[int],
) -> dict[str, Any]:
    dataset, target, cuts = scene.dataset, scene.target, scene.cuts
    key = jax.random.key(config.seed)
    with timing.compiled_anew():
        peaks = {count: MatrixPeak(count) for count in counts}
        jobs = [
            work
            for cut in cuts
            for method in methods
            for work in works(
                method,
                target,
                dataset,
                cut,
                batches=batches,
                counts=counts,
                steps=config.steps,
                key=key,
            )
        ]
        rows = timing.measure(jobs, peaks, repeats=config.repeat)
        compared = []
        if config.reference:
            with devices.use(1):
                compared = reference.reference(
                    config.reference,
                    methods[0],
                    target,
                    dataset,
                    cuts,
                    images=max(batches),
                    steps=config.steps,
                    repeats=config.repeat,
                    key=key,
                )
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "peak": [{"devices": count, **peak.flops_per_s} for count, peak in peaks.items()],
        "rows": rows,
        "reference": compared,
        "device_peak_bytes": timing.device_peak_bytes(),
        "host_peak_bytes": unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
    }


def _checked_methods(config: BenchmarkConfig) -> list[str]:
    methods = list(dict.fromkeys(name.strip().lower() for name in config.method))
    for name in methods or [""]:
        if name not in METHODS:
            raise UsageError(f"method={name}: expected some of {', '.join(METHODS)}.")
    if config.reference and methods[0] not in WHITEBOX:
        raise UsageError(
            f"reference={config.reference}: is timed with the first method, which is {methods[0]}; "
            f"expected one of {', '.join(WHITEBOX)}."
        )
    return methods


def _counts(name: str, given: Sequence[int]) -> list[int]:
    for count in given or [0]:
        if not 0 < count < 2**31:
            raise UsageError(f"{name}={count}: expected positive numbers.")
    return sorted(set(given))


def _batches(asked: list[int] | None, devices: int, available: int) -> list[int]:
    """Returns the sizes of batches: those asked for, or the usual ones that the test split fills.

    Raises:
      UsageError: it has fewer images.
    """
    found, most = asked or list(_USUAL_BATCHES), available // devices
    if asked is None and most > 0:
        found = sorted({min(size, most) for size in found})
    if max(found) > most:
        raise UsageError(
            f"batch={max(found)}: on {devices} device(s); the test split has {available} images."
        )
    return found


def _fewer(batches: Sequence[int], devices: int, available: int) -> str:
    """Returns the line that says why batches are not the usual ones."""
    return (
        f"The test split has {available} images, fewer than the usual {max(_USUAL_BATCHES)} on "
        f"each of {devices} device(s): batches are of {text_of(tuple(batches))}."
    )


def _provide(count: int) -> int:
    """Counts the devices, after a CPU that is not in use yet is divided in `count`, or its cores.

    JAX has to be told before it looks for devices, and heeds XLA's own flag first.
    """
    divided = "xla_force_host_platform_device_count" in os.environ.get("XLA_FLAGS", "")
    if count > 1 and not divided:
        with contextlib.suppress(RuntimeError):  # it is in use
            jax.config.update("jax_num_cpu_devices", min(count, environment.usable_cores()))
    devices.start()
    return jax.local_device_count()


def _title(record: Mapping[str, Any]) -> str:
    return f"{record['dataset']}, {record['device']}"


# --- The table ------------------------------------------------------------------------------------

_COLUMNS: tuple[tuple[str, int, Callable[[Mapping[str, Any]], str]], ...] = (
    ("split", -8, lambda row: row["split"]),
    ("method", -8, lambda row: row["method"]),
    ("phase", -7, lambda row: row["phase"]),
    ("devices", 7, lambda row: str(row["devices"])),
    ("batch", 7, lambda row: f"{row['batch']:,}"),
    ("image-it/s", 12, lambda row: _brief(row["image_iterations_per_s"])),
    (
        "[least, most]",
        24,
        lambda row: (
            f"[{_brief(row['image_iterations_per_s_low'])}, "
            f"{_brief(row['image_iterations_per_s_high'])}]"
        ),
    ),
    (
        "images/s",
        10,
        lambda row: "-" if row["images_per_s"] is None else _brief(row["images_per_s"]),
    ),
    ("peak", 7, lambda row: f"{row['peak_fraction']:.1%}"),
    ("compile s", 10, lambda row: f"{row['compile_s']:.2f}"),
    ("run s", 8, lambda row: f"{row['run_s']:.3f}"),
    (
        "MiB",
        8,
        lambda row: "-" if row["memory_bytes"] is None else f"{row['memory_bytes'] / 2**20:.1f}",
    ),
)


def _brief(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def table(record: Mapping[str, Any]) -> list[str]:
    """The lines that people see."""
    lines = [
        f"peak of matrix products, {peak['devices']} device(s): {peak['exact'] / 1e9:,.0f} GFLOP/s "
        f"in float32, {peak['rounded'] / 1e9:,.0f} as the device rounds by default"
        for peak in record["peak"]
    ]
    header = {name: name for name, _, _ in _COLUMNS}
    heads = "".join(_pad(header[name], width) for name, width, _ in _COLUMNS)
    lines.append(heading(heads.rstrip()))
    for row in record["rows"]:
        lines.append("".join(_pad(text(row), width) for _, width, text in _COLUMNS).rstrip())
    for row in record["reference"]:
        lines.append(
            f"{row['split']}, {row['method']}, {row['images']:,} images, {row['steps']:,} steps: "
            f"{row['seconds']:.3f} s, the reference {row['reference_s']:.3f} s; "
            f"{row['times_as_fast']:.2f} times as fast "
            f"[{row['times_as_fast_low']:.2f}, {row['times_as_fast_high']:.2f}]"
        )
    return lines


def _pad(text: str, width: int) -> str:
    return text.ljust(max(-width, len(text) + 1)) if width < 0 else text.rjust(width)


EXPERIMENT = Experiment(NAME, BenchmarkConfig, run, __doc__, check=prepare)
