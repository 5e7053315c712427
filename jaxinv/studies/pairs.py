"""Evidence without a model: a black-box attack on features, learned from given pairs. JAX.

The network is neither needed nor known: pairs may come from any framework or device.
"""

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

from jaxinv.attacks.attack import Reconstruction
from jaxinv.attacks.blackbox.pairs import PairsAttack
from jaxinv.attacks.learned.pairs import Pairs
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import exchange, own
from jaxinv.inputs.exchange import PairsFile
from jaxinv.look import pictures
from jaxinv.machine import devices, environment, hosts, source
from jaxinv.measures import quality
from jaxinv.store import checkpoints, files, locks, records
from jaxinv.studies import evaluation, lines, tracked
from jaxinv.studies.experiment import settings_of, spelled

if TYPE_CHECKING:
    from jaxinv.studies.blackbox import BlackboxConfig

EXPERIMENT = "blackbox"
SPLIT = "pairs"
_TAKEN = (
    *("pairs", "method", "fit_steps", "num_images", "seed"),
    *("workdir", "rerun", "multihost", "json", "tensorboard"),
)
_SHOWN = 64  # images that are kept


def run(config: "BlackboxConfig") -> dict[str, Any]:
    """Learns from pairs and inverts what was observed, unless that is done; returns the record.

    Raises:
      UserError: the file is none of pairs, there are too few, or a setting has no meaning here.
    """
    assert config.pairs is not None
    _check_settings(config)
    attack = PairsAttack(config.method, config.fit_steps)
    given = _read(config, attack)
    files.check_writable(config.workdir)
    devices.start()
    hosts.first(lambda: files.ensure_writable(config.workdir))
    identity = {
        "experiment": EXPERIMENT,
        "code": source.digest(__name__),
        "pairs": checkpoints.fingerprint(_known(given)),
        "seed": config.seed,
        **environment.numeric_mode(),
        **dataclasses.asdict(attack),
    }
    name = own.title_of(Path(config.pairs))
    label = f"{name}-pairs-{config.method}-n{len(given.observed)}-s{config.seed}"
    folder = records.run_dir(config.workdir, EXPERIMENT, identity, label=label)
    lock = Path(config.workdir) / "locks" / f"{EXPERIMENT}-{folder.name}"
    with locks.held(lock) if hosts.is_first() else contextlib.nullcontext():
        record = None if config.rerun else records.read(folder, identity)
        if record is None:
            _make(folder, config, attack, given, name, identity)
            record = records.read(folder)
    assert record is not None
    print(_told(record.fields), flush=True)
    told = {**record.fields, "path": str(folder / records.RECORD_NAME)}
    records.note(told["path"])
    tracked.tell(told)
    return told


def _told(record: Mapping[str, Any]) -> str:
    held_out = record["held_out_psnr"]
    told = [
        f"{record['dataset']}: {record['num_images']} observed, learned from {record['num_pairs']} "
        f"pairs; {record['num_held_out']} that were held out are reconstructed at "
        + ("no finite PSNR." if held_out is None else f"{held_out:.2f} dB.")
    ]
    if record["kind"] == "attack":
        header, row = lines.table([record["split"]], vectors=bool(record.get("inputs")))
        told += [header, row(record)]
    return "\n".join(told)


def _check_settings(config: "BlackboxConfig") -> None:
    """Refuses settings of a network, of data and of queries: there are none."""
    kind: type = type(config)
    for each in settings_of(kind).values():
        value = getattr(config, each.field)
        if value != each.default and each.name not in _TAKEN:
            raise UsageError(
                f"{each.name}={value}: pairs={config.pairs} is all that is known, and leaves "
                f"nothing to set but {', '.join(_TAKEN[1:5])}."
            )


def _read(config: "BlackboxConfig", attack: PairsAttack) -> PairsFile:
    assert config.pairs is not None
    given = exchange.read_pairs(config.pairs)
    try:
        attack.check(len(given.images))
        if given.columns is None:
            quality.check_size(given.images.pixels.shape[1:])
    except UserError as error:
        raise UserError(f"pairs={config.pairs}: {error}") from error
    number = config.num_images
    if number is not None and number > len(given.observed):
        raise UsageError(f"num_images={number}: {len(given.observed)} are observed.")
    originals = given.originals if given.originals is None else given.originals[:number]
    return given._replace(observed=given.observed[:number], originals=originals)


def _known(given: PairsFile) -> dict[str, np.ndarray]:
    known = {
        "images": given.images.pixels,
        "features": given.features,
        "observed": given.observed,
    }
    return known if given.originals is None else known | {"originals": given.originals.pixels}


def _make(
    folder: Path,
    config: "BlackboxConfig",
    attack: PairsAttack,
    given: PairsFile,
    name: str,
    identity: dict[str, Any],
) -> None:
    """Attacks, and writes the files of the run, the record last."""
    key = jax.random.key(config.seed)
    learned = attack.learn(Pairs(given.images.images, given.features), key)
    found = learned.invert(given.observed)
    record = _record(config, attack, given, name, found) | {
        "config": identity,
        "config_hash": records.config_hash(identity),
    }
    if given.originals is not None:
        originals = given.originals.images
        record |= evaluation.quality_fields(originals, found.images, given.columns)
        record |= evaluation.reidentification_fields(found.images, given.originals)
        record |= evaluation.worst_linkage(record)
        evaluation.write_run(folder, record, originals, found.images)
    elif hosts.is_first():
        inputs = record.get("inputs")
        shape = found.images.shape[1:] if inputs is None else inputs["shape"]
        shown = found.images[:_SHOWN].reshape(-1, *shape)
        title = f"{EXPERIMENT}, {config.method}, {name}: originals are not known"
        rows = [("reconstruction", shown)]
        path = folder / evaluation.GRID_NAME
        pictures.reconstructions(path, None, rows, inputs, title=title)
        records.write(folder, record, images={"reconstructions": shown})


def _record(
    config: "BlackboxConfig",
    attack: PairsAttack,
    given: PairsFile,
    name: str,
    found: Reconstruction,
) -> dict[str, Any]:
    """Returns the fields of a record; quality is null until originals tell it."""
    count = len(given.observed)
    unknown = ("mean", "std", "median", "ci")
    values = {f"{each}_{kind}": None for each in ("psnr", "ssim") for kind in unknown}
    diverged = ~np.isfinite(found.images).all(axis=(1, 2, 3))
    return {
        "kind": "attack" if given.originals is not None else "reconstruction",
        "experiment": EXPERIMENT,
        "code": source.digest(__name__),
        "cuts": [],
        "dataset": name,
        "data_source": f"{len(given.images):,} pairs of images and features",
        "data_fingerprint": checkpoints.fingerprint(_known(given)),
        **({} if given.columns is None else {"inputs": given.columns.fields}),
        "target": None,
        "split": SPLIT,
        "method": attack.method,
        "attacker_knowledge": attack.knowledge,
        "surrogate": "the images of the pairs",
        "surrogate_images": len(given.images),
        "seed": config.seed,
        "flags": spelled(config),
        "num_images": count,
        "defense": {"kind": "none", "site": "feature", "level": 0.0},
        "releases": 1,
        "accuracy": None,
        "accuracy_undefended": None,
        "paper": None,
        "fit_s": found.fit_seconds,
        "compile_s": found.compile_seconds,
        "attack_s": found.seconds,
        "images_per_s": count / found.seconds,
        **values,
        "psnr": None,
        "ssim": None,
        "mse": None,
        "exact_fraction": None,
        "diverged": int(diverged.sum()),
        "reid_top1": None,
        "reid_top1_ci": [None, None],
        "reid": None,
        "reid_ci": [None, None],
        **evaluation.NO_LINK,
        **found.info,
        **environment.facts(),
    }
