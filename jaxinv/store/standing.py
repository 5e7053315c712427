"""Standings of a leaderboard, as its record holds them: a defence at one loss of accuracy."""

from msgspec import Struct, field

from jaxinv.constants.threats import THREATS
from jaxinv.store.fields import UNKNOWN, Amount, Count, Interval, Psnr, Share, Ssim


def points(loss: float) -> str:
    """Returns a loss of accuracy in words: `1 point`."""
    return f"{loss:g} point{'s' * (loss != 1)}"


class OverSeeds(Struct):
    """A share over trainings of several seeds; the spread is None of one training."""

    mean: Share | None
    std: Amount | None = None
    by_seed: list[Share | None] = field(default_factory=list)


class Reconstructed(Struct):
    """Quality that one attacker reconstructs, over trainings and images.

    `way` is the way that this is of; None for the attacker's own answer.
    """

    threat_model: str
    method: str
    psnr_mean: Psnr | None
    ssim_mean: Ssim | None
    psnr_ci: Interval = UNKNOWN
    ssim_ci: Interval = UNKNOWN
    diverged: Count = 0
    dead: Count = 0
    way: str | None = None

    @property
    def attacker(self) -> str:
        """`white-box, adaptive`, and the way."""
        who = (THREATS.get(self.threat_model, self.threat_model), self.method, self.way)
        return ", ".join(filter(None, who))


class Standing(Struct):
    """A defence at the level that costs so many points of accuracy.

    Attributes:
      defense, level: as flags spell them.
      loss: points of accuracy that the level was searched for.
      usability: accuracy that the trainings have.
      claimed: the attacker that the defence's paper judges it by.
      strongest: of all attackers by SSIM of any of their ways; `strongest_psnr` by PSNR.
      reid: greatest share of images that an attacker re-identifies.
      certified_reid: share of all candidates that no attacker finds more than, where so few
        releases differ.
      verdict: of these attacks; "undecided" at best.
      error_ratio: how many times less the strongest errs than the claimed one, and its interval.
      sent_bytes: that cross for one image.
      edge_flops_ratio: arithmetic of the edge beside that of the undefended one.
      attacks_s: seconds that all attacks took together: learning, compiling, attacking.
    """

    defense: str
    level: str
    loss: Amount
    usability: OverSeeds
    verdict: str
    claimed: Reconstructed | None = None
    strongest: Reconstructed | None = None
    strongest_psnr: Reconstructed | None = None
    reid: Share | None = None
    certified_reid: Share | None = None
    error_ratio: Amount | None = None
    error_ratio_ci: Interval = UNKNOWN
    sent_bytes: Amount | None = None
    edge_flops_ratio: Amount | None = None
    attacks_s: Amount | None = None
