"""From flags to records: what the scripts that attack have in common. NumPy.

Such a script is a `Config` of its own, and for each cut what identifies the run and a function that
attacks. `load` finds data and target, `run_all` makes the table and the joint picture, and
`run_once` reads a run that is finished or makes its record.
"""

import contextlib
import dataclasses
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import jax
import numpy as np
from absl import flags

from jaxinv.defenses import NONE, Defense
from jaxinv.inputs import data
from jaxinv.machine import devices, environment, hosts, source
from jaxinv.store import files, locks, records
from jaxinv.studies import cli, evaluation
from jaxinv.training import targets


@dataclasses.dataclass(frozen=True)
class Config:
    """What every experiment has that attacks a target at one or several cuts.

    Attributes:
      split: names of layers, or ("all",).
      method: how to attack.
      surrogate: "attacker" or "same", the images that the attacker learns from, if it does.
      dataset, data_dir, workdir, checkpoint, num_images, seed, rerun: as the flags.
    """

    split: tuple[str, ...] = ("conv1",)
    method: str = ""
    surrogate: str = "attacker"
    dataset: str = "mnist"
    data_dir: str | None = None
    workdir: str = "results"
    checkpoint: str | None = None
    num_images: int = 100
    seed: int = 0
    rerun: bool = False


class Scene(NamedTuple):
    """What is attacked.

    Attributes:
      dataset: of the images.
      target: the trained network.
      accuracy: of it, undefended, on the whole test split.
      cuts: names of the layers to attack at, in order.
    """

    dataset: data.Dataset
    target: targets.Target
    accuracy: float
    cuts: list[str]

    def images(self, config: Config) -> np.ndarray:
        """The test images to attack, `[N, H, W, C]` in unit space."""
        return self.dataset.test[: config.num_images].images

    def surrogate_images(self, config: Config) -> np.ndarray:
        """The images that the attacker learns from, `[N, H, W, C]` in unit space."""
        return self.dataset.surrogate(config.surrogate).images


class Outcome(NamedTuple):
    """What an attack hands over for its record.

    Attributes:
      images: reconstructions `[N, H, W, C]`, in unit space but not clipped to it; or `[S, N, H, W,
        C]`, by attackers that differ in their seeds, or of several releases: the first one's are
        shown and kept.
      knowledge: what the attacker knows, in words.
      surrogate: which images it learned from, or "none".
      fit_seconds, compile_seconds, seconds: wall time of learning, of compiling, of the attack.
      fields: more of the record, or in place of what it would say: of a defence the accuracy.
    """

    images: np.ndarray
    knowledge: str
    surrogate: str
    fit_seconds: float
    compile_seconds: float
    seconds: float
    fields: Mapping[str, Any] = {}


ConfigT = TypeVar("ConfigT", bound=Config)
ResultT = TypeVar("ResultT")


def from_flags(kind: type[ConfigT], **given: Any) -> ConfigT:
    """A script's configuration: what is given, and the rest from the flags of the same names."""
    for field in dataclasses.fields(kind):
        if field.name not in given:
            value = flags.FLAGS[field.name].value
            given[field.name] = tuple(value) if isinstance(value, list) else value
    return kind(**given)


def load(config: Config) -> Scene:
    """Finds data, target and cuts, and says on stdout what people should know of them.

    Raises:
      UserError: something is missing or cannot be; the message names the flag.
    """
    hosts.first(lambda: files.ensure_writable(config.workdir))
    dataset = data.load(config.dataset, data_dir=config.data_dir, announce=print)
    cli.check_images(config.num_images, len(dataset.test))
    target = targets.find(dataset, config.workdir, checkpoint=config.checkpoint, announce=print)
    cuts = cli.resolve_splits(config.split, target.network)
    return Scene(dataset, target, targets.test_accuracy(target, dataset), cuts)


def run_all(
    experiment: str,
    config: Config,
    scene: Scene,
    attacks: Iterable[Callable[[], dict[str, Any]]],
    *,
    table: tuple[str, Callable[[Mapping[str, Any]], str]] = evaluation.TABLE,
    grid: bool = True,
) -> list[dict[str, Any]]:
    """Makes records in turn and prints a line for each; several share a picture, too.

    Args:
      experiment: its name.
      config, scene: of it.
      attacks: functions that call `run_once` and return what it does.
      table: its header, and the line of a record.
      grid: whether there is such a picture.
    """
    header, row = table
    dataset, target = scene.dataset, scene.target
    print(
        f"{dataset.name} ({dataset.source}), {config.num_images} test images, "
        f"method {config.method}, target {scene.accuracy:.2%} ({target.source}), "
        f"{environment.facts()['device']}"
    )
    print(header)
    finished = []
    for attack in attacks:
        record = attack()
        print(row(record), flush=True)
        finished.append(record)
    if grid and len(finished) > 1 and hosts.is_first():
        path = joint_path("grid", experiment, config, scene, finished)
        evaluation.write_joint_grid(path, finished)
        print(f"All splits in one picture: {path}")
    return finished


@contextlib.contextmanager
def side_by_side(
    jobs: Sequence[Sequence[Callable[[], ResultT]]],
) -> Iterator[list[Callable[[], ResultT]]]:
    """Runs jobs in threads, several at once where the device is a CPU of several cores.

    Most of a short attack is compiled and run by one core. Where that is so, this hands over a
    function for each step of each job, in order, that waits for what the step returns. No step
    begins after the caller is done, or has failed.

    Args:
      jobs: their steps in turn; a step is never run before those ahead of it in its job are done,
        and not at all if one of these fails.
    """
    # Programs that several devices share, or messages to other hosts, must come in one order.
    alone = jax.default_backend() == "cpu" and devices.count() == hosts.count() == 1
    count = environment.usable_cores() if alone else 1
    pool = ThreadPoolExecutor(max_workers=count)
    left = threading.Event()

    def run(job: Sequence[Callable[[], ResultT]], done: list[Future[ResultT]]) -> None:
        failed: BaseException | None = None
        for step, future in zip(job, done, strict=True):
            if left.is_set():
                return  # nobody waits, and the interpreter does not end before this
            try:
                if failed is None:
                    future.set_result(step())
            except BaseException as error:  # the caller's to handle
                failed = error
            if failed is not None:
                future.set_exception(failed)

    futures: list[Future[ResultT]] = []
    for job in jobs:
        done: list[Future[ResultT]] = [Future() for _ in job]
        pool.submit(run, job, done)
        futures += done
    try:
        yield [future.result for future in futures]
    finally:
        left.set()
        pool.shutdown(wait=False, cancel_futures=True)


def joint_path(
    name: str, experiment: str, config: Config, scene: Scene, finished: list[dict[str, Any]]
) -> Path:
    """Where a picture of several runs lies: `<workdir>/<experiment>/<name>-...-<hash>.png`."""
    key = records.config_hash({"runs": [record["config_hash"] for record in finished]})
    label = f"{name}-{scene.dataset.name}-{config.method}-{key}.png".replace("/", "_")
    return Path(config.workdir) / experiment / label


def run_once(
    experiment: str,
    config: Config,
    scene: Scene,
    cut: str,
    attack: Callable[[], Outcome],
    *,
    identity: Mapping[str, Any],
    label: str = "",
    method: str | None = None,
    defense: Defense = NONE,
    releases: int = 1,
    decided_by: Sequence[str] = ("jaxinv.attacks",),
) -> dict[str, Any]:
    """Reads the record of a run that is finished, or attacks and writes it.

    Of several processes that want the same run, one attacks and the others wait for its record.

    Args:
      experiment: its name.
      config, scene: of it.
      cut: where the network is split.
      attack: attacks `scene.images(config)`; called only if the run is not finished.
      identity: the attack's own settings, which make it another run when they change.
      label: the attack's own part of the folder's name.
      method: how it attacks; by default the configuration's.
      defense: what it attacks against.
      releases: of each image, that it sees.
      decided_by: the modules whose code decides the result, as `source.digest` takes them; another
        code is another run.

    Returns:
      The record as it was written, and its `path`.
    """
    dataset, target, method = scene.dataset, scene.target, method or config.method
    measures = ("jaxinv.measures.quality", "jaxinv.measures.linkage", "jaxinv.measures.intervals")
    code = source.digest(*decided_by, *measures)
    identity = {
        "experiment": experiment,
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "target": target.fingerprint,
        "split": cut,
        "method": method,
        "seed": config.seed,
        "defense": defense.describe(),
        "releases": releases,
        "num_images": config.num_images,
        "code": code,
        **identity,
    }
    label = f"{dataset.name}-{cut}-{method}{label}-n{config.num_images}-s{config.seed}"
    folder = records.run_dir(config.workdir, experiment, identity, label=label)
    path = str(folder / records.RECORD_NAME)

    def finished() -> dict[str, Any] | None:
        if config.rerun:
            return None
        record = records.read(folder)
        return record if record and records.read_images(folder) is not None else None

    def make() -> None:
        found = attack()
        images = scene.images(config)
        record = {
            "experiment": experiment,
            "code": code,
            **evaluation.target_fields(target, dataset),
            "split": cut,
            "method": method,
            "attacker_knowledge": found.knowledge,
            "surrogate": found.surrogate,
            "seed": config.seed,
            "num_images": config.num_images,
            "defense": defense.describe(),
            "releases": releases,
            "accuracy": scene.accuracy,
            "accuracy_undefended": scene.accuracy,
            "paper": evaluation.paper_fields(experiment, dataset.name, cut),
            "fit_s": found.fit_seconds,
            "compile_s": found.compile_seconds,
            "attack_s": found.seconds,
            "images_per_s": config.num_images / found.seconds,
            **found.fields,
            **environment.facts(),
            "config": identity,
            "config_hash": records.config_hash(identity),
            **evaluation.quality_fields(images, found.images),
            **evaluation.reidentification_fields(found.images, dataset.test),
        }
        shown = found.images[0] if found.images.ndim == images.ndim + 1 else found.images
        evaluation.write_run(folder, record, images, shown)

    written = hosts.first(finished)
    if written is None:
        lock = Path(config.workdir) / "locks" / f"{experiment}-{folder.name}"
        with locks.held(lock) if hosts.is_first() else contextlib.nullcontext():
            written = hosts.first(finished)  # by whoever held the lock
            if written is None:
                make()
                written = records.read(folder)
    assert written is not None
    records.note(path)
    return {**written, "path": path}
