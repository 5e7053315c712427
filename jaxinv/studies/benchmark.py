"""How fast attacks are: throughput, compile time, memory, and the share of the device's peak. JAX.

What is compared is timed in turn (A B C A B C), so that what disturbs one disturbs all, and medians
are reported. An image-iteration is one step of an attack's solver for one image, one application of
an inverse map to one, or one example in a step of training. FLOPs are those of matrix products and
convolutions, as the network defines them, counted by the compiler; a multiplication and an addition
are two. The peak is what one large matrix product reaches on the devices in use, in the same run.
"""

import contextlib
import dataclasses
import math
import shlex
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.compilation_cache import compilation_cache
from jax.extend.core import ClosedJaxpr, Jaxpr

from jaxinv import defenses
from jaxinv.attacks import registry
from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.blackbox import paper as blackbox_paper
from jaxinv.attacks.inversion.loop import chunk_size, compile_programs, minimize
from jaxinv.attacks.learned import inverse, maps
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.queryfree import paper as queryfree_paper
from jaxinv.attacks.queryfree import shadow
from jaxinv.attacks.queryfree.design import design
from jaxinv.attacks.shelf import Shelf
from jaxinv.attacks.whitebox.map import image_prior
from jaxinv.attacks.whitebox.stage import Problem, Stage, problem_of
from jaxinv.errors import UserError
from jaxinv.inputs import data
from jaxinv.machine import devices
from jaxinv.networks import Network, Params
from jaxinv.networks.convolution import computed_as
from jaxinv.training.fit import whole_epochs
from jaxinv.training.targets import Target

WHITEBOX = tuple(registry.methods("benchmark"))
METHODS = (*WHITEBOX, "decoder", "inverse", "shadow")
"""White-box methods; what black-box attackers train (`paper`, `strong`); the query-free `paper`."""

_PEAK_SIZE = {"cpu": 1024}  # rows and columns; of accelerators:
_PEAK_SIZE_ACCELERATOR = 8192
_SURROGATES = 2000  # images that teach a prior or a training here: enough for their speed
_QUERIES = 10_000
_BATCH_SIZE = 32  # of every training here


class Run(NamedTuple):
    """One timed run: image-iterations, and seconds without compiling."""

    image_iterations: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Work:
    """Something that can be timed over and over.

    Attributes:
      method: of `METHODS`.
      split: where the network is cut.
      phase: "attack", or "fit" for what is learned before.
      batch: images, or examples of a step, at once on each device.
      devices: how many.
      run: runs it once.
      images: of a run of an attack; 0 of a training.
      whole: how many times the steps of a run the method takes by itself.
      compile_seconds: wall time of compiling it.
      flops: of matrix products and convolutions, an image-iteration.
      memory_bytes: of a device: arguments, results and temporaries of the program that takes the
        steps, as compiled; None where that is not known.
    """

    method: str
    split: str
    phase: str
    batch: int
    devices: int
    run: Callable[[], Run]
    images: int
    whole: float
    compile_seconds: float
    flops: float
    memory_bytes: int | None


# --- What is timed --------------------------------------------------------------------------------


def works(
    method: str,
    target: Target,
    dataset: data.Dataset,
    split: str,
    *,
    batches: Sequence[int],
    counts: Sequence[int],
    steps: int,
    key: jax.Array,
) -> list[Work]:
    """Compiles an attack at a cut for every size of batch and number of devices.

    Weights of priors are not chosen and trainings are short: that changes what is found, and not
    how long a step takes.

    Args:
      method: of `METHODS`.
      target: what is attacked.
      dataset: whose first test images are attacked.
      split: name of the cut.
      batches: images at once on each device.
      counts: numbers of devices.
      steps: of a run, at most.
      key: of what is random.
    """
    make = {"decoder": _maps, "inverse": _maps, "shadow": _shadows}.get(method, _whitebox)
    found: list[Work] = []
    for count in counts:
        with devices.use(count):
            found += make(method, target, dataset, split, batches, steps, key)
    return found


def _whitebox(method, target, dataset, split, batches, steps, key) -> Iterator[Work]:
    edge, _ = target.network.split(split)
    stage = whitebox_stage(method, target, dataset, split, key)
    for batch in batches:
        features = _features(target, dataset, split, batch * devices.count())
        yield attack_work(
            method, edge, target.params, features, stage, split=split, chunk=batch, steps=steps
        )


def whitebox_stage(
    method: str, target: Target, dataset: data.Dataset, split: str, key: jax.Array
) -> Stage:
    """A white-box method with its own settings; for map, with a prior of a few images."""
    attack: Any = registry.make("whitebox", method, network=target.network, cut=split)
    if not attack.learns:
        return Stage(attack.settings)
    edge, _ = target.network.split(split)
    images = dataset.attacker[:_SURROGATES].images
    prior = image_prior(EdgeKnown(edge, target.params, images), images, key).of_images
    # In the middle of the weights that map chooses from.
    return Stage(dataclasses.replace(attack.settings, tv_weight=1e-3, prior_weight=3e-5), prior)


def attack_work(
    method: str,
    network: Network,
    params: Params,
    features: np.ndarray,
    stage: Stage,
    *,
    split: str,
    chunk: int,
    steps: int,
) -> Work:
    """An optimisation of N images by one stage, as `rmle.invert` runs it.

    Args:
      method: its name.
      network, params: what is inverted.
      features: `[N, *network.output_shape]`.
      stage: without an estimate.
      split: the cut's name.
      chunk: images at once on each device.
      steps: of a run, if the method takes as many.
    """
    count, own = devices.count(), stage.settings.steps
    steps = min(steps, own)
    weights = np.broadcast_to(stage.settings.weights, (len(features), 2, 2))
    problem = problem_of(network, params, features, stage, None, weights)
    programs = compile_programs(*problem, chunk=chunk)
    memory = programs.advance.memory_analysis()

    def run() -> Run:
        with devices.use(count):
            began = time.perf_counter()
            found = minimize(*problem, steps=steps, chunk=chunk, programs=programs)
            return Run(int(found.steps.sum()), time.perf_counter() - began)

    return Work(
        method=method,
        split=split,
        phase="attack",
        batch=chunk,
        devices=count,
        run=run,
        images=len(features),
        whole=own / steps,
        compile_seconds=programs.seconds,
        flops=step_flops(problem),
        memory_bytes=memory and _bytes(memory),
    )


def _bytes(memory: Any) -> int:
    kept = memory.argument_size_in_bytes + memory.output_size_in_bytes
    return int(kept + memory.temp_size_in_bytes - memory.alias_size_in_bytes)


def _maps(method, target, dataset, split, batches, steps, key) -> Iterator[Work]:
    """A black-box attacker's training, and what it learns applied."""
    edge, _ = target.network.split(split)
    own, images = edge.select(target.params), dataset.attacker[:_SURROGATES].images
    learn: Callable[..., TrainedMap] = inverse.learn
    own_steps = maps.STEPS
    if method == "decoder":
        learn, own_steps = blackbox_paper.learn_decoder, blackbox_paper.STEPS
    known, shelf = EdgeKnown(edge, target.params, images).queries(0), Shelf(label=split)
    train = partial(learn, known, key=key, num_queries=_QUERIES, steps=steps, shelf=shelf)
    learned = train()
    example = _features(target, dataset, split, 1)

    def loss(params: Params) -> jax.Array:
        features = edge.apply(own, jnp.asarray(images[:1]))  # queried anew in every step
        return learned.apply(params, features).sum()

    yield _training(method, split, train, learned, loss, len(images), steps, own_steps)
    flops = matrix_flops(learned.apply, learned.params, example)
    for batch in batches:
        features = _features(target, dataset, split, batch * devices.count())
        yield _applied(method, split, learned, features, batch, flops)


def _applied(
    method: str,
    split: str,
    learned: TrainedMap,
    features: np.ndarray,
    batch: int,
    flops: float,
) -> Work:
    count = devices.count()

    @jax.jit
    def estimate(params: Any, rows: Any) -> Any:
        with devices.exact():
            return devices.by_image(mesh, learned.apply, params, rows)

    mesh = devices.mesh()
    params, rows = devices.put(mesh, learned.params), devices.put(mesh, features, devices.IMAGES)
    began = time.perf_counter()
    program = estimate.lower(params, rows).compile()
    compile_seconds = time.perf_counter() - began
    memory = program.memory_analysis()

    def run() -> Run:
        began = time.perf_counter()
        np.asarray(program(params, devices.put(mesh, features, devices.IMAGES)))
        return Run(len(features), time.perf_counter() - began)

    return Work(
        method=method,
        split=split,
        phase="attack",
        batch=batch,
        devices=count,
        run=run,
        images=len(features),
        whole=1,
        compile_seconds=compile_seconds,
        flops=flops,
        memory_bytes=memory and _bytes(memory),
    )


def _training(
    method: str,
    split: str,
    train: Callable[[], Any],
    trained: Any,
    loss: Callable[[Params], jax.Array],
    size: int,
    steps: int,
    own_steps: int,
    rows: int = 1,
) -> Work:
    """A training, of which a first run is done.

    Args:
      method, split: as of `Work`.
      train: runs it and returns what has `params`, `seconds` and `compile_seconds`.
      trained: what the first run returned.
      loss: does what a step does of matrix products for one example, without its gradient.
      size: number of images that it learns from.
      steps: asked for.
      own_steps: of the method.
      rows: things that are trained side by side, with `params` of each.
    """
    count = devices.count()
    _, taken = whole_epochs(steps, size, _BATCH_SIZE)

    def run() -> Run:
        with devices.use(count):
            return Run(taken * _BATCH_SIZE * rows, train().seconds)

    params = trained.params if rows == 1 else trained.params[0]
    return Work(
        method=method,
        split=split,
        phase="fit",
        batch=_BATCH_SIZE,
        devices=count,
        run=run,
        images=0,
        whole=own_steps / taken,
        compile_seconds=trained.compile_seconds,
        flops=matrix_flops(jax.grad(loss), params),
        memory_bytes=None,
    )


def _shadows(method, target, dataset, split, batches, steps, key) -> Iterator[Work]:
    """A query-free attacker's training of shadows, and the attack on one of them."""
    _, cloud = target.network.split(split)
    samples = dataset.attacker[:_SURROGATES]
    mean, std = samples.images.mean((0, 1, 2)), samples.images.std((0, 1, 2)) + 1e-3
    network = design(
        samples.images.shape[1:],
        cloud.input_shape,
        rectified=bool((_features(target, dataset, split, 10) >= 0).all()),
        mean=mean.tolist(),
        std=std.tolist(),
    )
    own, recipe, seeds = cloud.select(target.params), queryfree_paper.RECIPE, 3
    train = partial(
        shadow.fit,
        cloud,
        target.params,
        samples,
        network=network,
        recipe=dataclasses.replace(recipe, steps=steps),
        seeds=seeds,
        key=key,
        shelf=Shelf(label=split),
    )
    shadows = train()
    images = jnp.asarray(samples.images[:1])

    def loss(params: Params) -> jax.Array:
        return cloud.apply(own, network.apply(params, images)).sum()

    taught = len(samples) - len(samples) // 10
    yield _training(method, split, train, shadows, loss, taught, steps, recipe.steps, seeds)
    stage = Stage(queryfree_paper.inversion_settings(network))
    for batch in batches:
        features = _features(target, dataset, split, batch * devices.count())
        yield attack_work(
            method,
            network,
            shadows.params[0],
            features,
            stage,
            split=split,
            chunk=batch,
            steps=steps,
        )


def _features(target: Target, dataset: data.Dataset, split: str, count: int) -> np.ndarray:
    """What crosses the wire of the first test images, `[count, ...]`."""
    edge, _ = target.network.split(split)
    images = dataset.test[:count].images
    release = defenses.Release(edge, target.params, images, defenses.NONE, jax.random.key(0))
    return release[np.arange(count)]


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


# --- FLOPs and the peak ---------------------------------------------------------------------------


def step_flops(problem: Problem) -> float:
    """FLOPs of one step of a solver for one image, as `matrix_flops` counts."""

    def step(start: jax.Array, inputs: Any) -> Any:
        objective = problem.make_objective(problem.params, inputs, jnp.zeros(len(start)))
        state = problem.solver.init(objective, start)
        return problem.solver.step(objective, start, state)

    one = np.arange(1)
    return matrix_flops(step, problem.start[one], problem.inputs[one])


def matrix_flops(function: Callable[..., Any], *args: Any) -> float:
    """FLOPs of the matrix products and convolutions of a function, each counted by the compiler.

    A loop of known length counts as often as it runs, one of unknown length once; of branches the
    dearest counts.

    Args:
      function: pure; traced here, with convolutions as the network defines them.
      args: trees of arrays, whose shapes alone matter.
    """
    # A function of its own: what was traced in another form is not taken for it.
    with computed_as("lax"):
        closed = jax.make_jaxpr(lambda *given: function(*given))(*args)
    return _count(closed.jaxpr)


def _count(jaxpr: Jaxpr) -> float:
    total = 0.0
    for equation in jaxpr.eqns:
        name, params = equation.primitive.name, equation.params
        if name in ("dot_general", "conv_general_dilated"):
            values: list[Any] = [operand.aval for operand in equation.invars]
            shapes = [jax.ShapeDtypeStruct(value.shape, value.dtype) for value in values]
            total += _flops_of(partial(equation.primitive.bind, **params), shapes)
        elif name == "cond":
            total += max(_count(branch.jaxpr) for branch in params["branches"])
        else:
            times = params["length"] if name == "scan" else 1
            inner = [value for value in params.values() if isinstance(value, ClosedJaxpr | Jaxpr)]
            total += times * sum(
                _count(one.jaxpr if isinstance(one, ClosedJaxpr) else one) for one in inner
            )
    return total


def _flops_of(function: Callable[..., Any], shapes: Sequence[jax.ShapeDtypeStruct]) -> float:
    # For the CPU: other backends analyse nothing before it is compiled, and then not everything.
    with jax.default_device(jax.devices("cpu")[0]):
        analysis: Any = jax.jit(function).lower(*shapes).cost_analysis()
    return float(analysis.get("flops", 0.0))


class MatrixPeak:
    """What a large matrix product reaches on some devices together: the best of all that was tried.

    Args:
      count: of devices, each with a product of its own.
      size: rows and columns; by default what is large for the device.
    """

    def __init__(self, count: int, size: int | None = None):
        platform = jax.default_backend()
        size = size or _PEAK_SIZE.get(platform, _PEAK_SIZE_ACCELERATOR)
        with devices.use(count):
            mesh = devices.mesh()
            rng = np.random.default_rng(0)
            left, right = (rng.standard_normal((size, size), np.float32) for _ in range(2))
            rows = devices.put(mesh, np.tile(left, (mesh.size, 1)), devices.IMAGES)
            right = devices.put(mesh, right)
        self._flops = 2.0 * size**3 * mesh.size
        self._args = right, rows
        # `exact` is what attacks compute with; `rounded`, the device's default, what trains.
        self._programs = {}
        for name, precision in (("exact", "highest"), ("rounded", "default")):
            with jax.default_matmul_precision(precision):
                product = jax.jit(partial(devices.by_image, mesh, lambda b, a: a @ b))
                self._programs[name] = product.lower(*self._args).compile()
        self._best = dict.fromkeys(self._programs, 0.0)
        self.measure()

    def measure(self) -> None:
        """Tries again."""
        for name, program in self._programs.items():
            for _ in range(3):
                began = time.perf_counter()
                jax.block_until_ready(program(*self._args))
                rate = self._flops / (time.perf_counter() - began)
                self._best[name] = max(self._best[name], rate)

    @property
    def flops_per_s(self) -> dict[str, float]:
        """`exact`, with all digits of float32, and `rounded`, as the device does by default."""
        return dict(self._best)


# --- Timing ---------------------------------------------------------------------------------------


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
    found: list[list[Run]] = [[] for _ in jobs]
    for _ in range(repeats):
        for peak in peaks.values():
            peak.measure()
        for work, runs in zip(jobs, found, strict=True):
            runs.append(work.run())
    return [
        _row(work, runs, peaks[work.devices].flops_per_s)
        for work, runs in zip(jobs, found, strict=True)
    ]


def _row(work: Work, runs: Sequence[Run], peak: dict[str, float]) -> dict[str, Any]:
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


# --- Another program ------------------------------------------------------------------------------


def reference(
    command: str,
    method: str,
    target: Target,
    dataset: data.Dataset,
    splits: Sequence[str],
    *,
    images: int,
    steps: int,
    repeats: int,
    key: jax.Array,
) -> list[dict[str, Any]]:
    """Times a white-box method and another program in turn, on as many images and steps.

    Ours is compiled before, and has the chunks that `rmle.invert` has by default.

    Args:
      command: of the shell, with `{dataset}`, `{split}`, `{images}` and `{steps}` to be filled in.
        The last line that it prints is how many seconds the attack took.
      method: "paper", "tv" or "map".
      target, dataset: as for `works`.
      splits: names of cuts.
      images: attacked at once by the other program.
      steps: at most the method's own.
      repeats: of both.
      key: of what is random.

    Returns:
      A row for each cut: `split`, `method`, `images`, `steps`, `seconds` and `reference_s`
      (medians), and `times_as_fast`, the median of the ratios of runs that followed each other, and
      `_low`, `_high`, the extremes.

    Raises:
      UserError: the command fails, or does not print seconds.
    """
    rows = []
    for split in splits:
        edge, _ = target.network.split(split)
        features = _features(target, dataset, split, images)
        stage = whitebox_stage(method, target, dataset, split, key)
        taken = min(steps, stage.settings.steps)
        chunk = chunk_size(edge, images)
        work = attack_work(
            method, edge, target.params, features, stage, split=split, chunk=chunk, steps=taken
        )
        work.run()
        filled = fill(command, dataset=dataset.name, split=split, images=images, steps=taken)
        pairs = [(work.run().seconds, run_reference(filled)) for _ in range(repeats)]
        ratios = [theirs / ours for ours, theirs in pairs]
        ours, theirs = (statistics.median(column) for column in zip(*pairs, strict=True))
        rows.append(
            {
                "split": split,
                "method": method,
                "images": images,
                "steps": taken,
                "seconds": ours,
                "reference_s": theirs,
                "times_as_fast": statistics.median(ratios),
                "times_as_fast_low": min(ratios),
                "times_as_fast_high": max(ratios),
            }
        )
    return rows


def fill(command: str, **values: Any) -> str:
    """A command with its placeholders replaced, each by a word of the shell; other braces stay."""
    for name, value in values.items():
        command = command.replace(f"{{{name}}}", shlex.quote(str(value)))
    return command


def run_reference(command: str) -> float:
    """The seconds that a command of the shell says it took, as the last line that it prints.

    Raises:
      UserError: it fails, or says no such thing.
    """
    done = subprocess.run(command, shell=True, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise UserError(f"reference={command}: ended with status {done.returncode}.")
    last = (done.stdout.splitlines() or [""])[-1]
    try:
        seconds = float(last)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UserError(
            f"reference={command}: the last line that it prints is {last[:80]!r}; expected how "
            "many seconds it took."
        )
    return seconds
