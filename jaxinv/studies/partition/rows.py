"""The choices of a study as rows: what they cost, and what they leave to attackers. NumPy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from jaxinv.constants.choices import CLOUD_ONLY, EDGE_ONLY, FULL, SCREEN
from jaxinv.constants.halves import CHOICE, REPORT
from jaxinv.constants.kinds import Kind
from jaxinv.constants.verdicts import FAILS, GALLERY, HOLDS, SPOILT
from jaxinv.defenses import NONE
from jaxinv.measures import (
    bounds,
    costs,
    decision,
    intervals,
    latency,
    linkage,
    profiles,
    quality,
    usability,
    verdicts,
)
from jaxinv.measures.intervals import CONFIDENCE
from jaxinv.measures.leaks import LEAKS, PSNR
from jaxinv.store.record import AttackRecord
from jaxinv.studies import runs
from jaxinv.studies.defended.known import plain
from jaxinv.studies.partition import attacks
from jaxinv.studies.partition.attacks import Siege
from jaxinv.studies.partition.options import Option, PartitionConfig
from jaxinv.studies.partition.trials import Trials

WHOLE = (CLOUD_ONLY, EDGE_ONLY)
"""The choices that cut nothing: sending the image itself, and sending nothing."""


_OF_TRIALS = ("num_images", "seed", "threat_model", "releases", "surrogate")


class Board:
    """All choices: sending the image, the options in order, and sending nothing.

    All are attacked on choice images. Those that would be recommended are tried, one by one, on
    report images, and then known by what is found there.

    Attributes:
      options: the choices that cut.
      siege: everything that these can be attacked with on choice images.
      prices: costs of each cut, by its name.
    """

    def __init__(
        self,
        config: PartitionConfig,
        scenes: Mapping[str, runs.Scene],
        profile: profiles.Profile,
        options: Sequence[Option],
    ):
        self._config, self._scenes, self._profile = config, scenes, profile
        self.options, self.siege = options, Siege(config, scenes[CHOICE])
        self._trial, self._tried = Siege(config, scenes[REPORT]), dict[int, int]()
        self._commonest: dict[str, float] = {}  # of the candidates of each half
        self._trials = Trials(config.workdir, scenes[REPORT].key)
        target = scenes[CHOICE].target
        priced = costs.split_costs(target.network, target.params, scenes[CHOICE].cuts)
        self.prices = {price.split: price for price in priced}

    def attempt(self, places: Sequence[int]) -> None:
        """Attacks some choices on report images by the next of each threat model's attackers."""
        for place in places:
            if place not in self._tried:
                self._tried[place] = self._trials.number(self._named(place))
        self._trial.advance([option for option in map(self._option, places) if option])

    def has_stood(self, place: int) -> bool:
        """Tells whether a choice was attacked with everything on report images."""
        option = self._option(place)
        return place in self._tried and (option is None or self._trial.is_over(option))

    @property
    def constraints(self) -> decision.Constraints:
        """The limits that choices must meet."""
        return self._config.constraints

    @property
    def kind(self) -> Kind:
        """The kind of input."""
        return self._scenes[CHOICE].dataset.kind

    def scene(self, place: int) -> runs.Scene:
        """Returns the scene that a choice is known from."""
        return self._scenes[REPORT if place in self._tried else CHOICE]

    def confidence(self, place: int) -> float:
        """Returns the confidence of intervals: of those that are tried, all hold together."""
        tried = self._tried.get(place)
        return CONFIDENCE if tried is None else verdicts.spent(tried)

    @property
    def tried(self) -> list[int]:
        """The numbers of the choices that were tried, by which they are judged, in order."""
        return sorted(self._tried.values())

    def attacks(self) -> list[list[AttackRecord]]:
        """Returns the attacks that count on each choice."""
        own = [
            attacks.on(option, self.options, self.scene(place).half)
            for place, option in enumerate(self.options, 1)
        ]
        return [[], *own, []]

    def rows(self) -> list[dict[str, Any]]:
        """Returns every choice as it is known by now, without bounds."""
        counted = self.attacks()
        found = [
            self._whole(0, CLOUD_ONLY, leaked=1.0),
            *(self._row(place, counted[place]) for place in range(1, len(self.options) + 1)),
            self._whole(len(self.options) + 1, EDGE_ONLY, leaked=0.0),
        ]
        for row, worth in zip(found, decision.pareto(found), strict=True):
            row |= {"pareto": worth, **self.constraints.judged(row)}
        return found

    def is_broken(self, option: Option) -> bool:
        """Tells whether a choice breaks a limit already by its own attacks on choice images."""
        row = self._row(1 + self.options.index(option), option.on(CHOICE))
        return FAILS in self.constraints.verdicts(row).values()

    def allows(self, row: Mapping[str, Any]) -> bool:
        """Tells whether a choice leaves some layers to the cloud."""
        return row["split"] not in (*WHOLE, self._scenes[CHOICE].target.network.cuts[-1])

    def recommended(self, rows: Sequence[Mapping[str, Any]]) -> tuple[int | None, int | None]:
        """Returns the places of the best choice, and of the best that splits."""
        limited, prefer = self.constraints, self._config.prefer
        best = decision.recommend(rows, limited, prefer=prefer)
        return best, decision.recommend(rows, limited, prefer=prefer, allowed=self.allows)

    def usable(self, place: int) -> intervals.Share | intervals.Score | None:
        """Returns what the usability of a choice was measured on, if that is known."""
        scene, own = self.scene(place), self.attacks()[place]
        found = scene.usability.fields["usability"]
        if own:
            found = msgspec.to_builtins(own[0].usable)
        return usability.sample(found, len(scene.dataset.test))

    def _named(self, place: int) -> dict[str, Any]:
        """Returns what identifies a trial: the choice, its images, and its attackers."""
        option, config = self._option(place), self._config
        split = {0: CLOUD_ONLY}.get(place, EDGE_ONLY)
        return {
            "split": option.deployment.cut if option else split,
            "defense": option.defense.describe() if option else None,
            "retrain": option.deployment.retrain if option else None,
            **_together(option),
            **{name: getattr(config, name) for name in _OF_TRIALS},
        }

    def _option(self, place: int) -> Option | None:
        """Returns the choice at a place, if it cuts."""
        return self.options[place - 1] if 0 < place <= len(self.options) else None

    def _row(self, place: int, counted: Sequence[AttackRecord]) -> dict[str, Any]:
        option = self.options[place - 1]
        price = option.price(self.prices[option.deployment.cut])
        told = [_attacked(self._config, record) for record in counted]
        of_means = [one["psnr_of_mean"] for one in told if one["psnr_of_mean"] is not None]
        over = self.has_stood(place) if place in self._tried else self.siege.is_over(option)
        found = decision.worst(counted, self.confidence(place))
        if place in self._tried and not over:  # who is able may be among those that are to come
            found |= dict.fromkeys(("dead", "blind", "untold"), False)
        if not over:
            found["safe"] = verdicts.screened(found["safe"])
        return {
            "split": option.deployment.cut,
            "defense": plain(option.defense.describe()),
            "effort": FULL if over else SCREEN,
            **self._usability(place, msgspec.to_builtins(counted[0].usable)),
            **_costs(price, self._profile, option.sent_bytes(price)),
            **found,
            "certified_reid": self._certified(option, self.scene(place)),
            "psnr_of_mean": max(of_means, default=None),
            "attacks": told,
            "bounds": [],
        }

    def _certified(self, option: Option, scene: runs.Scene) -> float | None:
        """Returns the certified upper limit on the share of candidates that an attacker finds.

        It is about single releases, and about several of the same image where these are alike.
        """
        if self._config.releases > 1 and option.defense.is_random:
            return None
        if scene.half not in self._commonest:
            candidates = scene.dataset.test[:GALLERY].images
            self._commonest[scene.half] = linkage.commonest(candidates)
        bits = option.deployment.coded_bits(option.number)
        return bounds.certified_reid(bits, self._commonest[scene.half])

    def _usability(self, place: int, found: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the usability on all images of a half, its interval, and which half it is."""
        scene, sure = self.scene(place), self.confidence(place)
        told = usability.at_confidence(found, len(scene.dataset.test), sure)
        told.pop("scores", None)  # the attacks' records keep them
        right = told["kind"] == "accuracy"
        return {
            "usability": told,
            "accuracy": told["value"] if right else None,
            "accuracy_ci": told["ci"] if right else [None, None],
            "test_images": scene.half,
            "confidence": sure,
        }

    def _whole(self, place: int, split: str, *, leaked: float) -> dict[str, Any]:
        """Sending the image itself, or nothing at all: what that leaves needs no attack."""
        price = self.prices[split]
        return {
            "split": split,
            "defense": NONE.describe(),
            "effort": FULL,
            **self._usability(place, self.scene(place).usability.fields["usability"]),
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
            "certified_reid": None,
            "surrogate_images": None,
            "safe": FAILS if leaked else HOLDS,
            "attacks": [],
            "bounds": [],
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


def _together(option: Option | None) -> dict[str, Any]:
    """Returns the levels that are trained together, on which a trained choice depends."""
    if option is None or option.deployment.retrain == "none":
        return {}
    return {"levels": [each.levels.tolist() for each in option.deployment.family]}


_TOLD = ("diverged", "dead", "surrogate_images", "num_images", "psnr_of_mean")


def _attacked(config: PartitionConfig, record: AttackRecord) -> dict[str, Any]:
    """Returns an attack as a choice tells it: its best way in each measure."""
    leaks = (PSNR, *LEAKS)
    return {
        **decision.attacker(record),
        **{leak.name: leak.highest(record) for leak in leaks},
        **{key: getattr(record, key) for key in _TOLD},
        "path": Path(record.path).relative_to(config.workdir).as_posix(),
    }
