"""The board: levels of equal accuracy, attacks on each, and the record. JAX."""

import functools
import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax

from jaxinv.attacks import registry
from jaxinv.constants.halves import CHOICE
from jaxinv.constants.verdicts import GALLERY
from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.machine import environment, flops
from jaxinv.measures import bounds, costs, linkage, verdicts
from jaxinv.networks import Network
from jaxinv.store import files, records
from jaxinv.store.record import AttackRecord, typed
from jaxinv.studies import runs
from jaxinv.studies.defended.attackers import Attacker
from jaxinv.studies.defended.choices import check_attackers
from jaxinv.studies.defended.deployment import Deployment
from jaxinv.studies.defended.run import run_one
from jaxinv.studies.leaderboard import drawing, matching, table
from jaxinv.studies.leaderboard.options import Entry, LeaderboardConfig, entries
from jaxinv.studies.leaderboard.standing import Attacks, standing

NAME = "leaderboard"
DECIDED_BY = ("jaxinv.studies.leaderboard", "jaxinv.studies.defended")
"""The code that decides a result, as `source.digest` takes it."""

TABLE_NAME = "leaderboard.md"


def prepare(
    config: LeaderboardConfig, dataset: data.Dataset | None = None
) -> tuple[runs.Plan, list[Entry]]:
    """Returns what is attacked, and the defences; see `runs.plan` and `options.entries`."""
    entered = entries(config)
    check_attackers(config.attacker, config.threat_model)
    plan = runs.plan(config, dataset)
    plan.check_labels("attacker", config.attacker, config.threat_model)
    if not plan.dataset.has_labels:
        raise UsageError(
            f"dataset={plan.dataset.name}: has no labels, and defences are compared by accuracy."
        )
    return plan, entered


def run(config: LeaderboardConfig) -> list[dict[str, Any]]:
    """Runs what is not finished yet, cut by cut, and returns all records with their `path`."""
    runs.begin(config)
    plan, entered = prepare(config)
    scene = runs.load(config, plan)
    chosen_on = scene.on(CHOICE, plan.dataset)
    return [_Board(config, scene, chosen_on, cut).record(entered) for cut in scene.cuts]


class _Board:
    """A leaderboard at one cut."""

    def __init__(
        self, config: LeaderboardConfig, scene: runs.Scene, chosen_on: runs.Scene, cut: str
    ):
        self._config, self._scene, self._chosen_on, self._cut = config, scene, chosen_on, cut

    def record(self, entered: Sequence[Entry]) -> dict[str, Any]:
        """Reads the record, or makes it of attacks that are finished or made now."""
        config, scene = self._config, self._scene
        attacked = [self._attacked(entry) for entry in entered]
        hashes = [
            sorted(each.config_hash for own in attacks.values() for each in own)
            for levels in attacked
            for attacks, _, _ in levels
        ]
        identity = {
            "split": self._cut,
            "losses": list(config.loss),
            "seeds": config.seeds,
            "attacks": hashes,
        }

        def make(folder: Path, common: dict[str, Any]) -> None:
            sure = verdicts.confidence(len(entered) * len(config.loss))
            found = {
                **common,
                "split": self._cut,
                "num_images": scene.num_images(config),
                "accuracy_undefended": scene.accuracy,
                "losses": list(config.loss),
                "seeds": config.seeds,
                "standings": [
                    {
                        "defense": entry.text,
                        "loss": loss,
                        "level": level,
                        **price,
                        **standing(attacks, sure=sure),
                    }
                    for entry, levels in zip(entered, attacked, strict=True)
                    for loss, (attacks, level, price) in zip(config.loss, levels, strict=True)
                ],
                **environment.facts(),
            }
            page = table.markdown(found).encode()
            files.atomic_write(folder / TABLE_NAME, lambda file: file.write(page))
            drawing.draw(folder, found, [own for each in attacked for own, _, _ in each], scene)
            records.write(folder, found, images=None)

        made = runs.read_or_make(
            NAME,
            "leaderboard",
            config,
            scene,
            make,
            identity=identity,
            label=f"{scene.dataset.name}-{self._cut}-n{scene.num_images(config)}-s{config.seed}",
            flags=runs.flags_of(config, scene, split=(self._cut,)),
            decided_by=DECIDED_BY,
        )
        print(table.text(made))
        print(f"The board: {Path(made['path']).parent / TABLE_NAME}")
        return made

    def _attacked(self, entry: Entry) -> list[tuple[Attacks, str, dict[str, Any]]]:
        """Returns, for each loss, all attacks, the level, and what the device pays."""
        levels = self._levels(entry)
        distinct = list(dict.fromkeys(levels))
        by_level: list[dict[tuple[str, str], list[AttackRecord]]] = [{} for _ in distinct]
        for seed in range(self._config.seeds):
            config = self._config.attacks(seed=self._config.seed + seed)
            deployment = Deployment(config, self._scene, self._cut, entry.at(distinct))
            for threat in dict.fromkeys(config.threat_model):
                for method in registry.of_threat(config.attacker, threat):
                    attacker = Attacker(config, self._scene, deployment, threat, method)
                    for number, own in enumerate(by_level):
                        made = run_one(config, self._scene, attacker, number)
                        record = typed(made, made["path"])
                        assert isinstance(record, AttackRecord)
                        own.setdefault((threat, method), []).append(record)
                        print(_progress(entry, seed, record), flush=True)
        prices = [
            {
                **self._price(deployment, number),
                "certified_reid": self._certified(deployment, number),
            }
            for number in range(len(distinct))
        ]
        places = [distinct.index(level) for level in levels]
        return [(by_level[at], f"{levels[i]:g}", prices[at]) for i, at in enumerate(places)]

    def _levels(self, entry: Entry) -> list[float]:
        """Returns the level for each loss, found on choice images by the first seed."""
        scene = self._chosen_on
        undefended = scene.accuracy
        assert undefended is not None
        wanted = [undefended - loss / 100 for loss in self._config.loss]
        found = matching.levels(entry.mechanism, wanted, partial(self._accuracies, entry))
        told = ", ".join(f"{level:g}" for level in found)
        print(f"{entry.text} at {self._cut}: levels {told}", flush=True)
        return found

    def _accuracies(self, entry: Entry, levels: Sequence[float]) -> list[float]:
        config = self._config.attacks(test_images=CHOICE)
        deployment = Deployment(config, self._chosen_on, self._cut, entry.at(levels))
        found = (deployment.usability(number).value for number in range(len(levels)))
        return [0.0 if value is None else value for value in found]

    def _price(self, deployment: Deployment, number: int) -> dict[str, Any]:
        """Returns the bytes that cross, and the edge's arithmetic beside the undefended one."""
        defense = deployment.family[number].describe()
        host = self._scene.target.network.split(self._cut)[0]
        params = deployment.params[number]
        counts = [_flops(edge, params) for edge in (deployment.edge, host)]
        return {
            "sent_bytes": costs.sent_bytes(
                deployment.edge.output_shape, defense, dense=deployment.edge.wire.bytes
            ),
            "edge_flops_ratio": counts[0] / max(counts[1], 1.0),
        }

    def _certified(self, deployment: Deployment, number: int) -> float | None:
        """Returns the certified upper limit on the share of candidates that an attacker finds."""
        bits = deployment.coded_bits(number)
        return bounds.certified_reid(bits, self._commonest) if math.isfinite(bits) else None

    @functools.cached_property
    def _commonest(self) -> float:
        """The largest share of the candidates that one answer finds."""
        return linkage.commonest(self._scene.dataset.test[:GALLERY].images)


def _flops(edge: Network, params: Any) -> float:
    """Returns the arithmetic of an edge for one image."""
    own = jax.eval_shape(lambda: edge.select(params))
    image = jax.ShapeDtypeStruct((1, *edge.input_shape), "float32")
    apply: Callable[..., Any] = lambda params, x: edge.apply(params, x)  # noqa: E731
    return flops.count(apply, own, image)


def _progress(entry: Entry, seed: int, record: AttackRecord) -> str:
    quality = "diverged"
    if record.psnr_mean is not None and record.ssim_mean is not None:
        quality = f"{record.psnr_mean:.2f} dB / {record.ssim_mean:.3f}"
    usable = record.usable.value
    accuracy = "-" if usable is None else f"{usable:.2%}"
    return (
        f"  {entry.text} {record.defense.level_text}, seed {seed}, {record.threat} "
        f"{record.method}: {quality}, accuracy {accuracy}"
    )
