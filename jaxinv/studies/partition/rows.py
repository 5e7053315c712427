"""The choices of a study as rows: what they cost, and what they leave to attackers. NumPy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jaxinv.constants.choices import CLOUD_ONLY, EDGE_ONLY
from jaxinv.constants.verdicts import FAILS, HOLDS, SPOILT
from jaxinv.defenses import NONE
from jaxinv.measures import costs, decision, latency, profiles, quality, verdicts
from jaxinv.store.record import AttackRecord
from jaxinv.studies import runs
from jaxinv.studies.defended.known import plain
from jaxinv.studies.partition import attacks
from jaxinv.studies.partition.attacks import Siege
from jaxinv.studies.partition.options import Option, PartitionConfig

WHOLE = (CLOUD_ONLY, EDGE_ONLY)
"""The choices that cut nothing: sending the image itself, and sending nothing."""


class Board:
    """All choices: sending the image, the options in order, and sending nothing.

    Attributes:
      options: the choices that cut.
      siege: everything that they can be attacked with.
    """

    def __init__(
        self,
        config: PartitionConfig,
        scene: runs.Scene,
        profile: profiles.Profile,
        options: Sequence[Option],
    ):
        self._config, self._scene, self._profile = config, scene, profile
        self.options, self.siege = options, Siege(config, scene)
        target = scene.target
        priced = costs.split_costs(target.network, target.params, scene.cuts)
        self.prices = {price.split: price for price in priced}

    def attacks(self) -> list[list[AttackRecord]]:
        """Returns the attacks that count on each choice."""
        return [[], *(attacks.on(option, self.options) for option in self.options), []]

    def rows(self) -> list[dict[str, Any]]:
        """Returns every choice as it is known by now, without bounds."""
        limited = self._config.constraints
        found = [
            self._whole(CLOUD_ONLY, leaked=1.0),
            *(self._row(option) for option in self.options),
            self._whole(EDGE_ONLY, leaked=0.0),
        ]
        for row, worth in zip(found, decision.pareto(found), strict=True):
            row |= {"pareto": worth, **limited.judged(row)}
        return found

    def allows(self, row: Mapping[str, Any]) -> bool:
        """Tells whether a choice leaves some layers to the cloud."""
        return row["split"] not in (*WHOLE, self._scene.target.network.cuts[-1])

    def recommended(self, rows: Sequence[Mapping[str, Any]]) -> tuple[int | None, int | None]:
        """Returns the places of the best choice, and of the best that splits."""
        limited, prefer = self._config.constraints, self._config.prefer
        best = decision.recommend(rows, limited, prefer=prefer)
        return best, decision.recommend(rows, limited, prefer=prefer, allowed=self.allows)

    def _row(self, option: Option) -> dict[str, Any]:
        price = self.prices[option.deployment.cut]
        counted = attacks.on(option, self.options)
        told = [_attacked(self._config, record) for record in counted]
        of_means = [one["psnr_of_mean"] for one in told if one["psnr_of_mean"] is not None]
        return {
            "split": option.deployment.cut,
            "defense": plain(option.defense.describe()),
            "effort": self.siege.effort(option),
            **_usability(option.attacks[0]),
            **_costs(price, self._profile, option.sent_bytes(price)),
            **decision.worst(counted),
            "psnr_of_mean": max(of_means, default=None),
            "attacks": told,
            "bounds": [],
        }

    def _whole(self, split: str, *, leaked: float) -> dict[str, Any]:
        """Sending the image itself, or nothing at all: what that leaves needs no attack."""
        price = self.prices[split]
        return {
            "split": split,
            "defense": NONE.describe(),
            "effort": "full",
            **self._scene.usability.fields,
            **_costs(price, self._profile, price.sent_bytes),
            "psnr_mean": quality.PSNR_CAP if leaked else None,
            "psnr_ci": [quality.PSNR_CAP] * 2 if leaked else [None, None],
            "psnr_of_mean": quality.PSNR_CAP if leaked else None,
            "ssim_mean": leaked,
            "ssim_ci": [leaked, leaked],
            "reid": leaked,
            "reid_ci": [leaked, leaked],
            "attacker": None,
            **dict.fromkeys(SPOILT, False),
            "safe": FAILS if leaked else HOLDS,
            "attacks": [],
            "bounds": [],
        }


def _usability(attack: AttackRecord) -> dict[str, Any]:
    """Returns the usability behind the defence that was attacked, on the whole test split."""
    return {
        "usability": msgspec.to_builtins(attack.usable),
        "accuracy": attack.accuracy,
        "accuracy_ci": list(attack.accuracy_ci),
    }


def _costs(price: costs.CutCost, profile: profiles.Profile, sent: float) -> dict[str, Any]:
    return {
        **latency.cost(price, profile, sent).fields(),
        "memory_bytes": price.memory_bytes,
        "edge_parameters": price.edge_parameters,
        "edge_flops": price.edge_flops,
        "cloud_flops": price.cloud_flops,
        "sent_bytes": sent,
    }


def _attacked(config: PartitionConfig, record: AttackRecord) -> dict[str, Any]:
    """Returns an attack as a choice tells it: its best way in each measure."""
    leaks = (verdicts.PSNR, *verdicts.LEAKS)
    return {
        **decision.attacker(record),
        **{leak.name: leak.highest(record) for leak in leaks},
        **{key: getattr(record, key) for key in ("diverged", "dead", "num_images", "psnr_of_mean")},
        "path": Path(record.path).relative_to(config.workdir).as_posix(),
    }
