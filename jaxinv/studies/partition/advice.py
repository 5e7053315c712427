"""The paper's advice, put to the test: a fully connected layer on the edge protects. NumPy.

The paper argues from query-free attackers. What protects against these need not protect against
attackers who know more, so there is a verdict for each threat model.
Source: He, Zhang & Lee 2021, section IV-C.
"""

from collections.abc import Sequence
from typing import Any

from jaxinv.constants.choices import FULL
from jaxinv.constants.threats import THREATS, within
from jaxinv.constants.verdicts import HOLDS, UNDECIDED
from jaxinv.measures import decision, verdicts
from jaxinv.networks import Network
from jaxinv.store.record import AttackRecord
from jaxinv.studies.partition.options import Option

_KEYS = ("ssim_mean", "ssim_ci", "reid", "reid_ci")


def cuts(network: Network) -> tuple[str, ...]:
    """Returns the cut before the first fully connected layer and the one behind it, if both are."""
    names = list(network.shapes)
    first = next((i for i, name in enumerate(names) if len(network.shapes[name]) == 1), 0)
    return tuple(names[first - 1 : first + 1]) if first else ()


def tested(
    network: Network,
    rows: Sequence[dict[str, Any]],
    options: Sequence[Option],
    attacks: Sequence[Sequence[AttackRecord]],
) -> dict[str, Any] | None:
    """Compares the undefended cut before the first fully connected layer with the one behind it.

    Args:
      network: the target.
      rows: all choices.
      options: those that cut.
      attacks: on each of these.

    Returns:
      `before` and `after`, what is left at either cut; `verdict`, whether all attacks stay below
      the limits behind the layer, and are not spoilt (`verdicts.spoilt`); `holds`, True only where
      that is shown; and `threats`, the same for each threat model. None unless both cuts are
      choices.
    """
    plain = {row["split"]: row for row in rows if row["defense"]["kind"] == "none"}
    compared = cuts(network)
    if not compared or not plain.keys() >= set(compared):
        return None
    before, first = compared
    undefended = next(
        own
        for option, own in zip(options, attacks, strict=True)
        if option.deployment.cut == first and option.is_undefended
    )
    keys = ("split", *_KEYS, "psnr_mean")
    sure = plain[first]["confidence"]
    threats = [_judged(threat, undefended, sure) for threat in THREATS]
    verdict = plain[first]["safe"]
    if plain[first]["effort"] != FULL:
        threats = [one | {"verdict": verdicts.screened(one["verdict"])} for one in threats]
    return {
        "before": {key: plain[before][key] for key in keys},
        "after": {key: plain[first][key] for key in keys},
        "holds": verdict == HOLDS,
        "verdict": verdict,
        "threats": threats,
    }


def _judged(threat: str, attacks: Sequence[AttackRecord], sure: float) -> dict[str, Any]:
    """Judges the attacks that a threat model allows; without one of its own nothing is proved."""
    own = [one for one in attacks if one.threat in within(threat)]
    if not any(one.threat == threat and one.is_able for one in own):
        nothing = dict.fromkeys(_KEYS) | {"ssim_ci": [None] * 2, "reid_ci": [None] * 2}
        return {"threat_model": threat, "num_images": 0, "verdict": UNDECIDED, **nothing}
    found = decision.worst(own, sure)
    return {
        "threat_model": threat,
        "num_images": min(one.num_images for one in own),
        "verdict": found["safe"],
        **{key: found[key] for key in _KEYS},
    }
