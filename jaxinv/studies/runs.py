"""From settings to records: the steps that experiments share. NumPy.

`load` finds data, target and cuts. `read_or_make` reads a run that is finished, or makes it while
other processes wait; `run_once` does so for an attack at one cut. `run_all` prints the table of
several attacks and draws their joint picture.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxinv.constants.halves import ALL, CHOICE, REPORT
from jaxinv.defenses import NONE, Defense
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import data
from jaxinv.machine import devices, environment, hosts, source
from jaxinv.networks import Network, for_images
from jaxinv.store import files, locks, records
from jaxinv.studies import evaluation
from jaxinv.studies import experiment as experiments
from jaxinv.studies.config import AttackConfig, CutsConfig, WorkConfig
from jaxinv.training import targets


class Plan(NamedTuple):
    """Data, network and cuts of an experiment, before there is a target.

    Attributes:
      dataset: has the images, the whole test split among them.
      network: takes them.
      cuts: names of the layers to cut at, in order.
    """

    dataset: data.Dataset
    network: Network
    cuts: list[str]


class Scene(NamedTuple):
    """Data, target and cuts of an experiment.

    Attributes:
      dataset: has the images; of the test split those of the half alone.
      target: the trained network.
      accuracy: the target's, undefended, on all these test images.
      cuts: names of the layers to cut at, in order.
      half: of the test split, one of `HALVES`.
    """

    dataset: data.Dataset
    target: targets.Target
    accuracy: float
    cuts: list[str]
    half: str = ALL

    @property
    def key(self) -> str:
        """Names target and data."""
        return f"{self.target.fingerprint} {self.dataset.fingerprint} {self.half}"

    def on(self, half: str, dataset: data.Dataset) -> "Scene":
        """Returns the scene with a half of the test split of the whole dataset."""
        dataset = dataclasses.replace(dataset, test=half_of(dataset.test, half))
        accuracy = targets.test_accuracy(self.target, dataset)
        return self._replace(dataset=dataset, accuracy=accuracy, half=half)

    def num_images(self, config: AttackConfig) -> int:
        """Returns how many test images are attacked: by default, all of a small split."""
        return config.num_images or min(config.usual_images, len(self.dataset.test))

    def images(self, config: AttackConfig) -> np.ndarray:
        """The test images to attack, `[N, H, W, C]` in unit space."""
        return self.dataset.test[: self.num_images(config)].images

    def surrogate_images(self, config: AttackConfig) -> np.ndarray:
        """The images that the attacker learns from, `[N, H, W, C]` in unit space."""
        return self.dataset.surrogate(config.surrogate).images


class Outcome(NamedTuple):
    """Results that an attack hands over for its record.

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


_MEASURES = ("jaxinv.studies.attacked", "jaxinv.studies.evaluation", "jaxinv.studies.linked")
"""Modules that hand images to attacks and measure what these find."""


def begin(config: WorkConfig) -> None:
    """Checks what needs no data: the work folder, which is not made yet, and the devices.

    Raises:
      UserError: nothing can be written there, or no device starts.
    """
    files.check_writable(config.workdir)
    devices.start()


def plan(config: CutsConfig, dataset: data.Dataset | None = None) -> Plan:
    """Finds data and cuts; trains and writes nothing, and starts no device.

    Args:
      config: settings.
      dataset: the data, if they are loaded already.

    Raises:
      UserError: something is missing or unknown; the message names the argument.
    """
    if isinstance(config, AttackConfig) and config.target_seed and config.checkpoint is not None:
        raise UsageError(
            f"target_seed={config.target_seed}: checkpoint={config.checkpoint} is the target; "
            "expected one of the two."
        )
    if dataset is None:
        dataset = data.load(
            config.dataset,
            data_dir=config.data_dir,
            image_size=config.image_size,
            announce=print,
        )
    if isinstance(config, AttackConfig):
        check_images(config.num_images, len(half_of(dataset.test, config.half)), config.half)
    network = for_images(dataset.image_shape, dataset.num_classes)
    return Plan(dataset, network, resolve_splits(config.split, network))


def load(config: CutsConfig, planned: Plan | None = None) -> Scene:
    """Finds data, target and cuts, and says on stdout what people should know of them.

    Args:
      config: settings.
      planned: what `plan` has found; by default it is asked.

    Raises:
      UserError: something is missing or unknown; the message names the argument.
    """
    begin(config)
    dataset, _, cuts = planned or plan(config)
    checkpoint, seed, half = None, 0, ALL
    if isinstance(config, AttackConfig):
        checkpoint, seed, half = config.checkpoint, config.target_seed, config.half
        count = len(half_of(dataset.test, half))
        if count < config.usual_images and config.num_images is None:
            print(
                f"{_SPLIT[half]} has {count} images, fewer than the usual "
                f"{config.usual_images}: all are attacked."
            )
    target = None if checkpoint is None else targets.load(checkpoint, dataset)
    hosts.first(lambda: files.ensure_writable(config.workdir))
    if target is None:
        target = targets.find(dataset, config.workdir, seed=seed, announce=print)
    return Scene(dataset, target, 0.0, cuts).on(half, dataset)


_SPLIT = {
    ALL: "The test split",
    CHOICE: "The first half of the test split",
    REPORT: "The second half of the test split",
}


def half_of(test: data.Samples, half: str) -> data.Samples:
    """Returns a half of the test split, or all of it; see `constants.halves`."""
    middle = len(test) // 2
    return test[{ALL: slice(None), CHOICE: slice(middle), REPORT: slice(middle, None)}[half]]


def check_images(num_images: int | None, available: int, half: str = ALL) -> None:
    """Checks that as many images can be attacked as were asked for.

    Raises:
      UsageError: there are fewer.
      UserError: a half has none.
    """
    split = _SPLIT[half]
    if half != ALL and not available:
        raise UserError(f"{split} has no image; expected two test images, one for each half.")
    if num_images is not None and num_images > available:
        told = f"{split[0].lower()}{split[1:]} has {available} images."
        raise UsageError(f"num_images={num_images}: {told}")


def resolve_splits(names: Sequence[str], network: Network) -> list[str]:
    """Returns names of cuts, in the order given and without repeats; "all" is every one.

    Raises:
      UsageError: there is no such layer, or none is named.
    """
    if "all" in [name.strip().lower() for name in names]:
        return list(network.cuts)
    cuts = [network.resolve(name.strip()) for name in names]
    if not cuts:
        raise UsageError(f"split=: expected some of {', '.join(network.cuts)}, or all.")
    return list(dict.fromkeys(cuts))


def run_all(
    experiment: str,
    config: AttackConfig,
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
        f"{dataset.name} ({dataset.source}), {scene.num_images(config)} test images, "
        f"method {config.method_name}, target {scene.accuracy:.2%} ({target.source}), "
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


def joint_path(
    name: str, experiment: str, config: AttackConfig, scene: Scene, finished: list[dict[str, Any]]
) -> Path:
    """Returns the path of a joint picture, `<workdir>/<experiment>/<name>-...-<hash>.png`."""
    key = records.config_hash({"runs": [record["config_hash"] for record in finished]})
    label = f"{name}-{scene.dataset.name}-{config.method_name}-{key}.png".replace("/", "_")
    return Path(config.workdir) / experiment / label


def read_or_make(
    experiment: str,
    kind: str,
    config: CutsConfig,
    scene: Scene,
    make: Callable[[Path, dict[str, Any]], None],
    *,
    identity: Mapping[str, Any],
    label: str,
    flags: Mapping[str, str],
    decided_by: Sequence[str],
    has_images: bool = False,
) -> dict[str, Any]:
    """Reads the record of a run that is finished, or makes it.

    Of several processes that want the same run, one makes it and the others wait for its record.

    Args:
      experiment: name of the experiment.
      kind: of the record, a key of `record.KINDS`.
      config, scene: settings, data and target.
      make: writes the run's files into a folder, the record last. It is given the folder, and the
        fields that every record has.
      identity: settings, beyond the common ones, that identify the run.
      label: the readable part of the folder's name.
      flags: of the command that makes this run alone.
      decided_by: modules whose code decides the result, as `source.digest` takes them; other code
        is another run.
      has_images: whether the run is finished only if its images are whole, too.

    Returns:
      The record as it was written, and its `path`.
    """
    dataset, target, code = scene.dataset, scene.target, source.digest(*decided_by)
    identity = {
        "experiment": experiment,
        "code": code,
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "target": target.fingerprint,
        "seed": config.seed,
        **environment.numeric_mode(),
        **identity,
    }
    folder = records.run_dir(config.workdir, experiment, identity, label=label)
    path = str(folder / records.RECORD_NAME)

    def finished() -> dict[str, Any] | None:
        record = None if config.rerun else records.read(folder, identity)
        if record and has_images and not _has_images(folder, scene):
            return None
        return record.fields if record else None

    written: dict[str, Any] | None = hosts.first(finished)
    if written is None:
        lock = Path(config.workdir) / "locks" / f"{experiment}-{folder.name}"
        with locks.held(lock) if hosts.is_first() else contextlib.nullcontext():
            written = hosts.first(finished)  # by the process that held the lock
            if written is None:
                common = {
                    "kind": kind,
                    "experiment": experiment,
                    "code": code,
                    **evaluation.target_fields(target, dataset),
                    "seed": config.seed,
                    "flags": dict(flags),
                    "config": identity,
                    "config_hash": records.config_hash(identity),
                }
                make(folder, common)
                made = records.read(folder)
                written = made.fields if made else None
    assert written is not None
    records.note(path)
    return {**written, "path": path}


def _has_images(folder: Path, scene: Scene) -> bool:
    """Tells whether a run's images are whole, and of the images that are attacked."""
    found = records.read_images(folder)
    if found is None:
        return False
    originals = found["originals"]
    if np.array_equal(originals, scene.dataset.test[: len(originals)].images):
        return True
    files.make_way(folder / records.IMAGES_NAME, "of other images than were attacked")
    return False


def flags_of(
    config: CutsConfig, scene: Scene, kind: type | None = None, **given: Any
) -> dict[str, str]:
    """Returns the flags of the command that makes one run of a configuration; see `spelled`."""
    # The embedded digits may have stood in for MNIST; another machine may have MNIST.
    stands_in = scene.dataset.name == data.EMBEDDED
    name = data.EMBEDDED if stands_in else config.dataset
    return experiments.spelled(config, kind, dataset=name, **given)


def code_of(*modules: str) -> str:
    """Returns the digest of modules that decide a result, and of those that measure it."""
    return source.digest(*modules, *_MEASURES)


def run_once(
    experiment: str,
    config: AttackConfig,
    scene: Scene,
    cut: str,
    attack: Callable[[], Outcome],
    *,
    identity: Mapping[str, Any],
    flags: Mapping[str, str] | None = None,
    label: str = "",
    method: str | None = None,
    defense: Defense = NONE,
    releases: int = 1,
    decided_by: Sequence[str] = ("jaxinv.attacks",),
) -> dict[str, Any]:
    """Reads the record of an attack that is finished, or attacks and writes it.

    Args:
      experiment: name of the experiment.
      config, scene: settings, data and target.
      cut: where the network is split.
      attack: attacks `scene.images(config)`; called only if the run is not finished.
      identity: the attack's own settings, which make it another run when they change.
      flags: of the command that makes this run alone; by default the configuration at this cut.
      label: the attack's own part of the folder's name.
      method: how it attacks; by default the configuration's.
      defense: the defence that it attacks.
      releases: how many releases of each image it sees.
      decided_by: see `read_or_make`; the code that measures is added.

    Returns:
      The record as it was written, and its `path`.
    """
    method, number = method or config.method_name, scene.num_images(config)
    known = {
        "split": cut,
        "method": method,
        "defense": defense.describe(),
        "releases": releases,
        "num_images": number,
    }
    half = {} if scene.half == ALL else {"test_images": scene.half}

    def make(folder: Path, common: dict[str, Any]) -> None:
        found = attack()
        images = scene.images(config)
        shadows = "num_shadows" in found.fields
        record = {
            **common,
            **known,
            **half,
            "attacker_knowledge": found.knowledge,
            "surrogate": found.surrogate,
            "accuracy": scene.accuracy,
            "accuracy_undefended": scene.accuracy,
            "paper": evaluation.paper_fields(experiment, scene.dataset.name, cut),
            "fit_s": found.fit_seconds,
            "compile_s": found.compile_seconds,
            "attack_s": found.seconds,
            "images_per_s": number / found.seconds,
            **evaluation.NO_LINK,
            **found.fields,
            **environment.facts(),
            **evaluation.quality_fields(images, found.images, shadows=shadows),
            **evaluation.reidentification_fields(found.images, scene.dataset.test, shadows=shadows),
        }
        record |= evaluation.worst_linkage(record)
        shown = found.images[0] if found.images.ndim == images.ndim + 1 else found.images
        evaluation.write_run(folder, record, images, shown)

    return read_or_make(
        experiment,
        "attack",
        config,
        scene,
        make,
        identity={**known, **half, **identity},
        label=(
            f"{scene.dataset.name}-{cut}-{method}{label}-n{number}-s{config.seed}"
            + f"-t{config.target_seed}" * bool(config.target_seed)
            + f"-{scene.half}" * (scene.half != ALL)
        ),
        flags=flags_of(config, scene, split=(cut,)) if flags is None else flags,
        decided_by=(*decided_by, *_MEASURES),
        has_images=True,
    )
