"""Cuts and defences of a network as choices: their cost, their leakage, their bounds. NumPy.

A study attacks every choice as `tradeoffs` does, reads whatever else the work folder knows of the
same releases, and makes one record of it, from which `decision` chooses.
"""

import dataclasses
import functools
import json
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array
from tqdm import tqdm

from jaxinv.defenses import GAUSSIAN, MECHANISMS, NONE, Defense, Mechanism, Release
from jaxinv.errors import UsageError
from jaxinv.look import figures
from jaxinv.machine import environment, hosts, source
from jaxinv.measures import bounds, costs, decision, quality
from jaxinv.measures.decision import Constraints
from jaxinv.networks import Network
from jaxinv.store import files, records
from jaxinv.studies import evaluation, runs, tradeoffs
from jaxinv.studies.tradeoffs import SAFE_REID, SAFE_SSIM, Attacker, Deployment

EXPERIMENT = "partition"
DECIDED_BY = (__name__, "jaxinv.measures.costs")
"""The code that decides a result beside that of attacks, as `source.digest` takes it."""

WHOLE = ("cloud-only", "edge-only")
"""The choices that cut nothing: sending the image itself, and sending nothing."""

COSTS_NAME, CHOICES_NAME = "costs.png", "choices.png"

_GALLERY = 1000  # test images that bounds are about
_SAMPLED, _DITHERS = 2, 8  # of these, at which the edge's information is measured; of each
_SENT = 256  # dithers of each, for the entropy of what is sent
_RANGE_BITS = 64  # least and greatest value beside the symbols of an example


@dataclasses.dataclass(frozen=True)
class Config(tradeoffs.Config):
    """A study of choices.

    Attributes:
      profile, prefer, measure: as the flags.
      constraints: to be met.
    """

    profile: str = "phone-wifi"
    prefer: str = "privacy"
    measure: bool = False
    constraints: Constraints = dataclasses.field(default_factory=Constraints)


def study(config: Config) -> dict[str, Any]:
    """Runs what is not finished yet and returns the record, as it was written, and its `path`.

    Raises:
      UserError: something is missing, unknown or out of range; the message names the flag.
    """
    profile = costs.load_profile(config.profile)
    chosen = choices(config)
    scene = runs.load(config)
    config = dataclasses.replace(config, constraints=_defaults(config, scene, profile))
    options = _attacked_options(config, scene, chosen)
    dataset = scene.dataset
    code = source.digest(*DECIDED_BY)
    identity = {
        "experiment": EXPERIMENT,
        "dataset": dataset.name,
        "data_fingerprint": dataset.fingerprint,
        "target": scene.target.fingerprint,
        "seed": config.seed,
        "num_images": config.num_images,
        "profile": dataclasses.asdict(profile),
        "constraints": dataclasses.asdict(config.constraints),
        "prefer": config.prefer,
        "attacks": [sorted(one["config_hash"] for one in option.attacks) for option in options],
        "code": code,
    }
    label = f"{dataset.name}-{profile.name}-n{config.num_images}-s{config.seed}"
    folder = records.run_dir(config.workdir, EXPERIMENT, identity, label=label)
    path = str(folder / records.RECORD_NAME)
    finished = None if config.rerun else records.read(folder)
    if finished is not None:
        return {**finished, "path": path}
    record = {
        "experiment": EXPERIMENT,
        "code": code,
        **evaluation.target_fields(scene.target, dataset),
        "seed": config.seed,
        "num_images": config.num_images,
        "accuracy_undefended": scene.accuracy,
        "profile": dataclasses.asdict(profile),
        **_judged(config, scene, profile, options),
        **environment.facts(),
        "config": identity,
        "config_hash": records.config_hash(identity),
    }
    title = f"{dataset.name} on {profile.name}"
    figures.cost_bars(folder / COSTS_NAME, _undefended(record["choices"]), title=title)
    figures.choice_points(folder / CHOICES_NAME, record["choices"], title=title)
    records.write(folder, record, images=None)
    written = records.read(folder)
    assert written is not None
    return {**written, "path": path}


def _defaults(config: Config, scene: runs.Scene, profile: costs.Profile) -> Constraints:
    """The constraints, with what is meant where none is given."""
    given = config.constraints
    if given.min_accuracy is None:
        given = dataclasses.replace(given, min_accuracy=scene.accuracy - 0.01)
    if given.max_memory_mb is None and profile.memory_bytes is not None:
        given = dataclasses.replace(given, max_memory_mb=1e-6 * profile.memory_bytes)
    return given


def _undefended(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every cut once, without a defence where that is a choice."""
    first: dict[str, dict[str, Any]] = dict.fromkeys(row["split"] for row in rows)  # type: ignore
    for row in sorted(rows, key=lambda row: row["defense"]["kind"] != "none"):
        first[row["split"]] = first[row["split"]] or row
    return list(first.values())


class _Option(NamedTuple):
    """A choice: a level of a deployment, and all attacks on it."""

    deployment: Deployment
    number: int
    attacks: list[dict[str, Any]]

    @property
    def defense(self) -> Defense:
        return self.deployment.family[self.number]

    @property
    def is_undefended(self) -> bool:
        return self.deployment.retrain == "none" and not self.defense.levels.any()

    @property
    def is_made_of_features(self) -> bool:
        """Whether its releases can be made of undefended features."""
        at_features = all(step.site == "feature" for step in self.defense.steps)
        return self.deployment.retrain == "none" and at_features and not self.is_undefended


# --- What there is to choose from, and attacks on it ----------------------------------------------


def choices(config: Config) -> list[tradeoffs.Choice]:
    """The defences as families that are attacked together.

    Raises:
      UsageError: one is unknown, or its level out of range.
    """
    families: dict[tuple[str, str], list[str]] = {}
    undefended = False
    for text in config.defense:
        name, _, level = text.strip().partition(":")
        if name == "none":
            undefended = True
            continue
        if not level:
            raise UsageError(
                f"--defense={text}: a level is missing, as in {name or 'dropout'}:0.5."
            )
        kind, _, site = name.partition("@")
        families.setdefault((kind, site or "feature"), []).append(level)
    # Any mechanism is none at level 0, and learned together with its other levels; but for those
    # that train the edge.
    host = next((key for key in families if key[0] != "nopeek" and "+" not in key[0]), None)
    if undefended:
        families.setdefault(host or ("dropout", "feature"), []).insert(0, "0")
    found: list[tradeoffs.Choice] = []
    for (kind, site), levels in families.items():
        own = dataclasses.replace(config, defense=(kind,), site=(site,), level=tuple(levels))
        found += tradeoffs.choices(own)
        _check_trained_in(found[-1])
    return found


def _check_trained_in(choice: tradeoffs.Choice) -> None:
    """At level 0 the edge is trained on all the same: that is another edge, and not no defence."""
    for column, kind in enumerate(choice.kinds):
        trains = kind in MECHANISMS and MECHANISMS[kind].penalty is not None
        if trains and any(row[column] == 0 for row in choice.levels or ()):
            raise UsageError(
                f"--defense: {kind} at level 0 trains the edge on, too; expected a level above 0, "
                "or none, which does not."
            )


def _attacked_options(
    config: Config, scene: runs.Scene, chosen: Sequence[tradeoffs.Choice]
) -> list[_Option]:
    """Every choice, cut by cut."""
    options: list[_Option] = []
    jobs: list[list[Callable[[], dict[str, Any]]]] = []
    for cut in scene.cuts:
        for choice in chosen:
            deployment = Deployment(config, scene, cut, choice)
            attackers = [
                Attacker(config, scene, deployment, threat, method)
                for threat in dict.fromkeys(config.threat_model)
                for method in dict.fromkeys(config.attacker)
            ]
            own = [_Option(deployment, number, []) for number in range(len(deployment.family))]
            options += own
            jobs.append(
                [
                    partial(_attack, config, scene, attacker, option)
                    for option in own
                    for attacker in attackers
                ]
            )
    # What attackers share is made before there are several of them.
    tradeoffs.judge_of(config, scene)
    with runs.side_by_side(jobs) as attacks:
        runs.run_all(
            tradeoffs.EXPERIMENT, config, scene, attacks, table=tradeoffs.TABLE, grid=False
        )
    known = _known(config, scene)
    for option in options:
        seen = {record["config_hash"] for record in option.attacks}
        others = known.get(_key(option.deployment.cut, option.defense.describe()), [])
        option.attacks.extend(other for other in others if other["config_hash"] not in seen)
    for option in options:
        if option.is_undefended:
            # Whoever sees plain features can defend them first, and attack what that leaves.
            option.attacks.extend(
                attack
                for other in options
                if other.deployment.cut == option.deployment.cut and other.is_made_of_features
                for attack in other.attacks
            )
    return options


def _attack(
    config: Config, scene: runs.Scene, attacker: Attacker, option: _Option
) -> dict[str, Any]:
    record = tradeoffs.run_one(config, scene, attacker, option.number)
    option.attacks.append(record)
    return record


def _known(config: Config, scene: runs.Scene) -> dict[str, list[dict[str, Any]]]:
    """Finished attacks on releases of this target, by cut and defence; of as many images.

    Attacks on defences by other code are left out, and what lacks a measure.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    measured = {"psnr_mean", "psnr_ci", "ssim_mean", "ssim_ci", "reid_top1", "reid_ci"}
    for record in records.find(config.workdir):
        same = (
            "split" in record
            and measured <= record.keys()
            and _is_current(record)
            and record.get("data_fingerprint") == scene.dataset.fingerprint
            and (record.get("target") or {}).get("fingerprint") == scene.target.fingerprint
            and record["num_images"] >= config.num_images
            and record["releases"] == 1
            and record.get("retrain", "none") == "none"
        )
        if same:
            found.setdefault(_key(record["split"], record["defense"]), []).append(record)
    return found


def _is_current(record: dict[str, Any]) -> bool:
    """Returns whether a record attacked what is released now; other scripts defend nothing."""
    defended = record["experiment"] == tradeoffs.EXPERIMENT
    return not defended or record.get("code") == source.digest(*tradeoffs.DECIDED_BY)


def _key(cut: str, defense: dict[str, Any]) -> str:
    """Of a release; what is off at level 0 is no defence."""
    return json.dumps([cut, _plain(defense)], sort_keys=True)


def _plain(defense: dict[str, Any]) -> dict[str, Any]:
    return NONE.describe() if defense["level"] == 0 else defense


# --- What they cost and what they leave -----------------------------------------------------------


def _judged(
    config: Config, scene: runs.Scene, profile: costs.Profile, options: Sequence[_Option]
) -> dict[str, Any]:
    """What a record says of the choices."""
    network = scene.target.network
    prices = {price.split: price for price in costs.split_costs(network, scene.target.params)}
    limits, certain = _limits(config, scene, options, prices)
    rows = [
        _whole(scene, profile, prices["cloud-only"], leaked=1.0),
        *(
            _row(config, profile, prices[option.deployment.cut], option, found)
            for option, found in zip(options, limits, strict=True)
        ),
        _whole(scene, profile, prices["edge-only"], leaked=0.0),
    ]
    for row, worth in zip(rows, decision.pareto(rows), strict=True):
        fails = config.constraints.broken(row)
        row |= {"pareto": worth, "meets": not fails, "fails": fails}
    best = decision.recommend(rows, config.constraints, prefer=config.prefer)
    split = decision.recommend(
        rows,
        config.constraints,
        prefer=config.prefer,
        allowed=lambda row: row["split"] not in (*WHOLE, network.cuts[-1]),
    )
    distinct = {one["config_hash"]: one for option in options for one in option.attacks}
    return {
        "constraints": dataclasses.asdict(config.constraints),
        "prefer": config.prefer,
        "choices": rows,
        "recommendation": best,
        "recommendation_split": split,
        "reason": "" if best is not None else decision.reason(rows, config.constraints),
        "certain": certain,
        "advice": _advice(scene, rows),
        **{
            key: float(sum(attack[key] for attack in distinct.values()))
            for key in ("fit_s", "attack_s", "compile_s")
        },
    }


def _row(
    config: Config,
    profile: costs.Profile,
    price: costs.CutCost,
    option: _Option,
    limits: list[dict[str, Any]],
) -> dict[str, Any]:
    sent = _sent(price, option)
    attacks = [_attacked(config, record) for record in option.attacks]
    told = [one["psnr_of_mean"] for one in attacks if one["psnr_of_mean"] is not None]
    return {
        "split": option.deployment.cut,
        "defense": _plain(option.defense.describe()),
        **_accuracy(option.attacks),
        **_costs(price, profile, sent),
        **decision.worst(option.attacks),
        "psnr_of_mean": max(told, default=None),
        "attacks": attacks,
        "bounds": limits,
    }


def _sent(price: costs.CutCost, option: _Option) -> int:
    return costs.sent_bytes(price.features, _plain(option.defense.describe()))


def _accuracy(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the records that measured it behind the defence."""
    first = next((record for record in found if "accuracy_ci" in record), found[0])
    return {
        "accuracy": first["accuracy"],
        "accuracy_ci": first.get("accuracy_ci", [first["accuracy"]] * 2),
    }


def _costs(price: costs.CutCost, profile: costs.Profile, sent: float) -> dict[str, Any]:
    cost = costs.cost(price, profile, sent)
    return {
        "latency_s": cost.latency_s,
        "edge_s": cost.edge_s,
        "uplink_s": cost.uplink_s,
        "cloud_s": cost.cloud_s,
        "energy_j": cost.energy_j,
        "edge_j": cost.edge_j,
        "uplink_j": cost.uplink_j,
        "memory_bytes": price.memory_bytes,
        "edge_parameters": price.edge_parameters,
        "edge_flops": price.edge_flops,
        "cloud_flops": price.cloud_flops,
        "sent_bytes": sent,
    }


def _whole(
    scene: runs.Scene, profile: costs.Profile, price: costs.CutCost, *, leaked: float
) -> dict[str, Any]:
    """Sending the image itself, or nothing at all: what that leaves needs no attack."""
    return {
        "split": price.split,
        "defense": NONE.describe(),
        "accuracy": scene.accuracy,
        "accuracy_ci": [scene.accuracy] * 2,
        **_costs(price, profile, price.sent_bytes),
        "psnr_mean": quality.PSNR_CAP if leaked else None,
        "psnr_ci": [quality.PSNR_CAP] * 2 if leaked else [None, None],
        "psnr_of_mean": quality.PSNR_CAP if leaked else None,
        "ssim_mean": leaked,
        "ssim_ci": [leaked, leaked],
        "reid_top1": leaked,
        "reid_ci": [leaked, leaked],
        "attacker": None,
        "diverged": False,
        "attacks": [],
        "bounds": [],
    }


def _attacked(config: Config, record: dict[str, Any]) -> dict[str, Any]:
    keys = ("psnr_mean", "ssim_mean", "reid_top1", "diverged", "num_images")
    path = Path(record["path"]).relative_to(config.workdir)
    return {
        **decision.attacker(record),
        **{key: record[key] for key in keys},
        "psnr_of_mean": _psnr_of_mean(record),
        "path": path.as_posix(),
    }


def _psnr_of_mean(record: dict[str, Any]) -> float | None:
    """PSNR of the mean squared error over all images: what bounds are about.

    At most the mean of PSNRs, to which an image that is nearly exact adds much. Of several draws
    that of an image is a mean already. None where an image diverged, of which there is no error.
    """
    found = record.get("psnr") or [None]
    if None in found:
        return None
    return float(-10 * np.log10(np.mean(10 ** (-np.array(found) / 10))))


def _limits(
    config: Config,
    scene: runs.Scene,
    options: Sequence[_Option],
    prices: Mapping[str, costs.CutCost],
) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Bounds on every choice, and what is certain of every cut."""
    known = _Limits(config, scene)
    jobs: list[list[Callable[[], Any]]] = []
    for cut in scene.cuts:
        own = [option for option in options if option.deployment.cut == cut]
        bits = [8 * _sent(prices[cut], option) for option in own]
        jobs.append(
            [
                *(
                    partial(known.of, option.deployment, option.defense, bits=each)
                    for option, each in zip(own, bits, strict=True)
                ),
                partial(known.certain, cut),
            ]
        )
    of_choices, of_cuts = [], []
    with runs.side_by_side(jobs) as measured:
        waiting = iter(measured)
        for job in tqdm(jobs, "bounds", unit="cut", disable=None, leave=False):
            *found, certain = (next(waiting)() for _ in job)
            of_choices += found
            of_cuts.append(certain)
    return of_choices, of_cuts


class _Limits:
    """What theory allows, kept in the work folder."""

    def __init__(self, config: Config, scene: runs.Scene):
        self._config, self._scene = config, scene
        self._gallery = scene.dataset.test[:_GALLERY].images

    def of(self, deployment: Deployment, defense: Defense, *, bits: float) -> list[dict[str, Any]]:
        """Bounds on the release of a cut behind a defence, as a record has them."""
        known = {
            "defense": defense.describe(),
            "bits": bits,
            "same_edge": deployment.same_edge,
            "sampled": [_SAMPLED, _DITHERS, _SENT],
        }

        def find() -> list[dict[str, Any]]:
            through = bounds.channel(deployment.edge, defense)
            information, features = None, None
            if through is not None and through.network.cuts and not deployment.same_edge:
                through = None  # what is measured here is the target's edge, and not this one
            if through is not None:
                features = self._features(through.network)
                information = self._information(through.network)
            found = bounds.evaluate(
                through,
                information,
                self._gallery,
                features,
                bits=bits,
                entropies=self._entropies(deployment, defense),
            )
            return [{**bound._asdict(), "value": _finite(bound.value)} for bound in found]

        return self._kept(deployment.cut, "bounds", known, find, _are_bounds)

    def certain(self, cut: str) -> dict[str, Any]:
        """The Gaussian noise that surely holds re-identification down, and what it costs.

        Both on the images that bounds are about: noise that makes them alike leaves little to
        classify.
        """

        def find() -> dict[str, Any]:
            edge, cloud = self._scene.target.network.split(cut)
            different = bounds.distinct(self._gallery)
            sigma = bounds.reid_sigma(self._features(edge)[different], SAFE_REID)
            if not math.isfinite(sigma):
                return {"sigma": None, "accuracy": None}
            noise, key = GAUSSIAN.at("feature", sigma), jax.random.key(self._config.seed)
            params, test = self._scene.target.params, self._scene.dataset.test[:_GALLERY]
            right = tradeoffs.classified(edge, cloud, params, test, [noise], key)
            return {"sigma": sigma, "accuracy": float(right.mean())}

        found = self._kept(cut, "certain", {"share": SAFE_REID}, find, _is_certain)
        return {"split": cut, **found}

    def _kept(
        self,
        cut: str,
        name: str,
        known: dict[str, Any],
        find: Callable[[], Any],
        whole: Callable[[Any], bool],
    ) -> Any:
        """What was found before, if it is not to be found again; what is damaged is set aside."""
        known |= {
            "data": self._scene.dataset.fingerprint,
            "target": self._scene.target.fingerprint,
            "cut": cut,
            "gallery": len(self._gallery),
            "seed": self._config.seed,
            "code": source.digest(__name__),
        }
        folder = Path(self._config.workdir) / "learned"
        path = folder / f"{cut}-{records.config_hash(known)}-{name}.json"

        def kept() -> Any:
            if not self._config.rerun:
                try:
                    read = json.loads(path.read_bytes())
                    if whole(read):
                        return read
                    files.set_aside(path, "not what was measured")
                except (ValueError, RecursionError) as error:
                    files.set_aside(path, str(error))
                except OSError:
                    pass  # nothing was found before
            found = find()
            files.atomic_write(path, lambda file: file.write(json.dumps(found).encode()))
            return found

        return hosts.first(kept)

    def _entropies(self, deployment: Deployment, defense: Defense) -> list[float]:
        """Bits that a release has at most at dithered images, where it is of few symbols."""
        last = [step for step in defense.steps if step.site == "feature" and step.level][-1:]
        if not last or last[0].mechanism.symbols is None or not deployment.same_edge:
            return []
        mechanism, _, level = last[0]
        key_dither, key = jax.random.split(jax.random.fold_in(jax.random.key(self._config.seed), 2))
        found = []
        for number, image in enumerate(self._gallery[:_SAMPLED]):
            shape = (_SENT, *image.shape)
            dither = jax.random.normal(jax.random.fold_in(key_dither, number), shape)
            copies = image[None] + bounds.DITHER * np.asarray(dither)
            release = Release(deployment.edge, self._scene.target.params, copies, defense, key)
            seen = _symbols(mechanism, release[np.arange(_SENT)], jnp.float32(level))
            found.append(bounds.entropy(np.asarray(seen), level) + _RANGE_BITS)
        return found

    @functools.lru_cache(maxsize=2)  # noqa: B019 - it lives as long as a run
    def _information(self, network: Network) -> bounds.Information:
        key = jax.random.fold_in(jax.random.key(self._config.seed), 1)
        params = self._scene.target.params
        images = self._gallery[:_SAMPLED]
        return bounds.information(network, params, images, key, draws=_DITHERS)

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _features(self, network: Network) -> np.ndarray:
        key = jax.random.key(0)  # nothing is drawn
        release = Release(network, self._scene.target.params, self._gallery, NONE, key)
        return release[np.arange(len(self._gallery))]


@partial(jax.jit, static_argnums=0)
def _symbols(mechanism: Mechanism, released: Array, level: Array) -> Array:
    """By which features `[B, ...]` are sent."""
    assert mechanism.symbols is not None
    return jax.vmap(mechanism.symbols, (0, None))(released, level)


def _are_bounds(found: Any) -> bool:
    """Whether what was read is bounds, as a record has them."""
    kinds = {"value": float | None, "dithered": bool}
    return isinstance(found, list) and all(
        isinstance(one, dict)
        and one.keys() == set(bounds.Bound._fields)
        and all(isinstance(value, kinds.get(key, str)) for key, value in one.items())
        for one in found
    )


def _is_certain(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() == {"sigma", "accuracy"}
        and all(isinstance(value, float | None) for value in found.values())
    )


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def _advice(scene: runs.Scene, rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """The paper's advice, put to the test: a fully connected layer on the edge protects.

    The undefended cut before the first such layer, and the one behind it, which protects if the
    whole intervals are low and no attack diverged; None unless both are among the choices.
    Source: He, Zhang & Lee 2021, section IV-C.
    """
    shapes = scene.target.network.shapes
    first = next((name for name, shape in shapes.items() if len(shape) == 1), None)
    cuts = list(shapes)
    plain = {row["split"]: row for row in rows if row["defense"]["kind"] == "none"}
    if first is None or first not in plain or not cuts.index(first):
        return None
    before = cuts[cuts.index(first) - 1]
    if before not in plain:
        return None
    keys = ("split", "ssim_mean", "reid_top1", "psnr_mean")
    after = {key: plain[first][key] for key in keys}
    ends = [plain[first][key][1] for key in ("ssim_ci", "reid_ci")]
    low = all(
        end is not None and end < limit
        for end, limit in zip(ends, (SAFE_SSIM, SAFE_REID), strict=True)
    )
    return {
        "before": {key: plain[before][key] for key in keys},
        "after": after,
        "holds": low and not plain[first]["diverged"],
    }
