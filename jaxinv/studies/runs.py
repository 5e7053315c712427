"""From settings to records: the steps that experiments share. NumPy.

`scenes.load` finds data, target and cuts. `read_or_make` reads a run that is finished, or makes it
while other processes wait; `run_once` does so for an attack at one cut. `run_all` prints the table
of several attacks and draws their joint picture.
"""

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jaxinv.constants import kinds
from jaxinv.constants.halves import ALL
from jaxinv.defenses import NONE, Defense
from jaxinv.look import terminal
from jaxinv.machine import environment, hosts, source
from jaxinv.measures.usability import Usability
from jaxinv.store import files, locks, records
from jaxinv.studies import evaluation, lines, order, scenes, tracked
from jaxinv.studies import experiment as experiments
from jaxinv.studies.config import AttackConfig, CutsConfig
from jaxinv.studies.scenes import (
    Plan,
    Scene,
    begin,
    check_images,
    half_of,
    load,
    plan,
    resolve_splits,
)
from jaxinv.training.targets import Target

__all__ = ["Plan", "Scene", "begin", "check_images", "half_of", "load", "plan", "resolve_splits"]


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


def run_all(
    experiment: str,
    config: AttackConfig,
    scene: Scene,
    attacks: Iterable[Callable[[], dict[str, Any] | None]],
    *,
    table: lines.Table | None = None,
    grid: bool = True,
) -> list[dict[str, Any]]:
    """Makes records in turn and prints a line for each; several share a picture, too.

    Args:
      experiment: its name.
      config, scene: of it.
      attacks: functions that call `run_once` and return what it does, or None if they need not.
      table: its header, and the line of a record; by default that of undefended runs.
      grid: whether there is such a picture.
    """
    dataset, target = scene.dataset, scene.target
    header, row = table or lines.table(scene.cuts, vectors=dataset.columns is not None)
    print(
        f"{dataset.name} ({dataset.source}), {scene.num_images(config)} test "
        f"{dataset.kind.plural}, method {config.method_name}, {_told(target, scene.usability)}, "
        f"{environment.facts()['device']}"
    )
    if told := order.note(dataset, scene.num_images(config)):
        print(kinds.in_words(told, dataset.kind))
    print(terminal.heading(kinds.in_words(header, dataset.kind)))
    finished = []
    for attack in attacks:
        record = attack()
        if record is None:
            continue
        print(kinds.in_words(row(record), dataset.kind), flush=True)
        finished.append(record)
    if grid and len(finished) > 1 and hosts.is_first():
        path = joint_path("grid", experiment, config, scene, finished)
        evaluation.write_joint_grid(path, finished)
        print(f"All splits in one picture: {path}")
    return finished


def _told(target: Target, usability: Usability) -> str:
    """Names the target, by its accuracy where that is known."""
    if usability.kind == "accuracy":
        return f"target {usability.value:.2%} ({target.source})"
    return f"target {target.name} ({target.source}; usability is {usability.kind})"


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
                    **evaluation.target_fields(target, dataset, scene.cuts),
                    "seed": config.seed,
                    "flags": dict(flags),
                    "config": identity,
                    "config_hash": records.config_hash(identity),
                }
                make(folder, common)
                made = records.read(folder)
                written = made.fields if made else None
    assert written is not None
    told = {**written, "path": path}
    records.note(path)
    tracked.tell(told)
    return told


def _has_images(folder: Path, scene: Scene) -> bool:
    """Tells whether a run's images are whole, and of the images that are attacked."""
    found = records.read_images(folder)
    if found is None:
        return False
    originals = found["originals"]
    attacked = scene.dataset.test[: len(originals)].images
    if np.array_equal(originals, attacked.reshape(-1, *scene.dataset.own_shape)):
        return True
    files.make_way(folder / records.IMAGES_NAME, "of other images than were attacked")
    return False


def flags_of(
    config: CutsConfig, scene: Scene, kind: type | None = None, **given: Any
) -> dict[str, str]:
    """Returns the flags of the command that makes one run of a configuration; see `spelled`."""
    name = scenes.name_of(config, scene.dataset)
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
        shadows, columns = "num_shadows" in found.fields, scene.dataset.columns
        record = {
            **common,
            **known,
            **half,
            "attacker_knowledge": found.knowledge,
            "surrogate": found.surrogate,
            "surrogate_images": _count_of(scene, found.surrogate),
            **scene.usability.fields,
            "paper": evaluation.paper_fields(experiment, scene.target, scene.dataset, cut),
            "fit_s": found.fit_seconds,
            "compile_s": found.compile_seconds,
            "attack_s": found.seconds,
            "images_per_s": number / found.seconds,
            **evaluation.NO_LINK,
            **found.fields,
            **environment.facts(),
            **evaluation.quality_fields(images, found.images, columns, shadows=shadows),
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


def _count_of(scene: Scene, surrogate: str) -> int | None:
    """Returns how many images an attacker could learn from; None of one who learns from none."""
    return None if surrogate == "none" else len(scene.dataset.surrogate(surrogate))
