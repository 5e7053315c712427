"""Choices of where to split, as the record of a study holds them, in base units."""

from msgspec import Struct, field

from jaxinv.constants.choices import SCREEN
from jaxinv.constants.halves import ALL
from jaxinv.store.fields import (
    UNKNOWN,
    Amount,
    Count,
    Interval,
    Psnr,
    RecordedDefense,
    RecordedUsability,
    Share,
    ShareInterval,
    Ssim,
)


class RecordedAttacker(Struct):
    """Who attacked; `surrogate` is "same" if it learned from the target's own training images."""

    threat_model: str
    method: str
    surrogate: str | None = None


class Attempt(RecordedAttacker, kw_only=True):
    """An attack on a choice; `path` is that of its record, from the work folder."""

    psnr_mean: Psnr | None = None
    ssim_mean: Ssim | None = None
    reid: Share | None = None
    diverged: Count = 0
    dead: Count | None = None
    surrogate_images: Count | None = None
    path: str = ""


class RecordedBound(Struct):
    """Limit by theory, of `quantity` "psnr" (dB) or "reid" (a share); None for no limit.

    `ci` is the interval of a value that was simulated.
    """

    name: str
    kind: str
    quantity: str
    assumptions: str
    value: float | None = None
    dithered: bool = True
    ci: Interval = UNKNOWN


class RecordedChoice(Struct, kw_only=True):
    """A cut and a defence: what they cost, and what they leave to the strongest attacker.

    Attributes:
      meets: True only if every limit is shown to be kept; quick attacks show none of those on
        leakage, so that a choice that they alone attacked meets these by certificates.
      fails, undecided: names of limits that are broken, and of those within an interval.
      images_needed: how many images settle an undecided limit; None if no number does.
      safe: the verdict on `SAFE_SSIM` and `SAFE_REID` together.
      diverged, dead, blind, few_surrogates, untold: whether attacks prove no protection, and why;
        see `SPOILT`.
      certified_reid: certified upper limit on the share of 1,000 candidates, or of as many as there
        are, that any attacker finds, on average over them; None where there is none, and in older
        records.
      surrogate_images: number of images that attackers of each threat model had to learn from, the
        least of these; None where none learned, or where one does not tell.
      effort: "full" if every attack of every experiment was run on it that the threat models allow,
        "screen" if few quick ones were.
      test_images: the half of the test split that its figures are of; "report" if it was tried
        there, where nothing was chosen.
      confidence: of its intervals, which allow for all choices that were tried.
    """

    split: str
    defense: RecordedDefense
    accuracy: Share | None
    accuracy_ci: ShareInterval = UNKNOWN
    usability: RecordedUsability | None = None
    latency_s: Amount | None
    edge_s: Amount | None
    uplink_s: Amount | None
    cloud_s: Amount | None
    latency_p95_s: Amount | None = None
    energy_j: Amount | None
    edge_j: Amount | None = None
    uplink_j: Amount | None = None
    wait_j: Amount | None = None
    tail_j: Amount | None = None
    wire_bytes: Amount | None = None
    memory_bytes: Amount | None
    sent_bytes: Amount | None
    psnr_mean: Psnr | None
    psnr_ci: Interval = UNKNOWN
    psnr_of_mean: Psnr | None = None
    ssim_mean: Ssim | None
    ssim_ci: Interval = UNKNOWN
    reid: Share | None
    reid_ci: ShareInterval = UNKNOWN
    attacker: RecordedAttacker | None = None
    diverged: bool = False
    dead: bool = False
    blind: bool = False
    few_surrogates: bool = False
    untold: bool = False
    certified_reid: Share | None = None
    surrogate_images: Count | None = None
    attacks: list[Attempt] = field(default_factory=list)
    bounds: list[RecordedBound] = field(default_factory=list)
    pareto: bool
    meets: bool
    fails: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    images_needed: dict[str, int | None] = field(default_factory=dict)
    safe: str | None = None
    effort: str = SCREEN
    test_images: str = ALL
    confidence: Share = 0.95

    @property
    def usable(self) -> RecordedUsability:
        """Usability of the choice; older records know accuracy alone."""
        known = (self.accuracy, None, self.accuracy_ci)
        return self.usability or RecordedUsability("accuracy", *known)


class RecordedProfile(Struct, kw_only=True):
    """A device, its uplink and the cloud; `edge_times` are seconds by cut, if they are measured."""

    name: str
    description: str = ""
    source: str = ""
    edge_flops_per_s: Amount | None = None
    edge_joules_per_flop: Amount | None = None
    uplink_bits_per_s: Amount | None = None
    uplink_joules_per_bit: Amount | None = None
    round_trip_s: Amount | None = None
    cloud_flops_per_s: Amount | None = None
    uplink_p5_bits_per_s: Amount | None = None
    edge_times: dict[str, Amount] = field(default_factory=dict)


class Certain(Struct):
    """Gaussian noise that holds re-identification down at a cut, and the usability left.

    The latter is `accuracy`, or another kind where that is how usability is measured.
    `sigma` surely does; at `bayes_sigma` the Bayes rate `bayes_reid` of simulated releases is low.
    Codes of `code_bits` surely do, without noise; None where no code is short enough.
    """

    split: str
    sigma: Amount | None
    accuracy: Ssim | None
    bayes_sigma: Amount | None = None
    bayes_accuracy: Ssim | None = None
    bayes_reid: Share | None = None
    bayes_reid_ci: ShareInterval = UNKNOWN
    code_bits: Count | None = None


class CutQuality(Struct):
    """Quality that the strongest attacker gets at a cut."""

    split: str
    ssim_mean: Ssim | None
    ssim_ci: Interval = UNKNOWN
    reid: Share | None = None
    reid_ci: ShareInterval = UNKNOWN


class JudgedThreat(Struct):
    """The paper's advice under one threat model, by attacks on so many images."""

    threat_model: str
    verdict: str
    num_images: Count = 0
    ssim_mean: Ssim | None = None
    ssim_ci: Interval = UNKNOWN
    reid: Share | None = None
    reid_ci: ShareInterval = UNKNOWN


class Advice(Struct):
    """The paper's advice, tested: the cuts before and after the first dense layer.

    `holds` is True only where that is shown; `verdict` may be undecided. Both are about all
    attackers, and `threats` about those of each threat model.
    """

    before: CutQuality
    after: CutQuality
    holds: bool
    verdict: str | None = None
    threats: list[JudgedThreat] = field(default_factory=list)
