"""Verdicts on limits: a limit is kept or broken only where a whole interval says so.

What several attackers do at most, each by all of its ways, is judged by all their intervals. The
greatest of A lower ends exceeds the greatest leakage as soon as one of them is too high, so each is
taken at 1 - 5% / A (Bonferroni). The greatest of the upper ends is too low only if that of the one
strongest attack is, whichever that is, so that these need no correction (an intersection-union
test; Berger, Technometrics 24, 1982). Both ends hold together in 95% of cases, whatever is chosen
by looking at the means.

Among many choices the one that looks safest is also the luckiest, so that its intervals are too
kind. It is attacked again on images that no choice has seen. Where several are tried there in turn,
each is judged at a confidence that is fixed before (`spent`): together they err in at most 5% of
cases, however many it takes.
"""

from collections.abc import Iterable, Sequence

from jaxinv.constants.threats import FLOOR
from jaxinv.constants.verdicts import FAILS, HOLDS, LEAST_SURROGATES, UNDECIDED, Verdict
from jaxinv.measures import intervals
from jaxinv.measures.intervals import Ends, Sample
from jaxinv.measures.leaks import LEAKS, Leak
from jaxinv.store.record import AttackRecord


def at_most(ends: Sequence[float | None], limit: float, *, noise: float = 0.0) -> Verdict:
    """Judges that a value is at most a limit.

    Args:
      ends: of its interval; None where there is none.
      limit: that it must keep.
      noise: by which the interval's ends may be off.
    """
    low, high = ends
    if low is None or high is None:
        return UNDECIDED
    if high + noise <= limit:
        return HOLDS
    return FAILS if low - noise > limit else UNDECIDED


def at_least(ends: Sequence[float | None], limit: float) -> Verdict:
    """Judges that a value is at least a limit; see `at_most`."""
    low, high = ends
    negative = (None if end is None else -end for end in (high, low))
    return at_most(tuple(negative), -limit)


def together(found: Iterable[Verdict]) -> Verdict:
    """Returns the verdict on several limits: all must hold, and one that fails is enough."""
    told = set(found)
    return FAILS if FAILS in told else UNDECIDED if UNDECIDED in told else HOLDS


def spent(number: int) -> float:
    """Returns the confidence of the verdict on the choice that is tried as this number, from 1.

    The errors that this allows, 5% / (n (n + 1)), add up to no more than 5% however many are tried.
    """
    return 1 - (1 - intervals.CONFIDENCE) / (number * (number + 1))


def confidence(attacks: int, sure: float = intervals.CONFIDENCE) -> float:
    """Returns the confidence of each of so many intervals whose lower ends hold together."""
    return 1 - (1 - sure) / max(attacks, 1)


def highest(attacks: Sequence[AttackRecord], leak: Leak) -> float | None:
    """Returns the highest mean of several attacks; None if all images of all diverged."""
    means = (leak.highest(each) for each in attacks)
    return max((mean for mean in means if mean is not None), default=None)


def greatest(
    attacks: Sequence[AttackRecord], leak: Leak, sure: float = intervals.CONFIDENCE
) -> Ends:
    """Returns an interval of the greatest leakage of several attacks on one release, by any way.

    It ends where the highest of their intervals end, that over attackers of several seeds (shadows)
    among them; where nobody compared releases, at all that linkage can be. There is none if one of
    them has none, such as an attack on a single image, or one that was not measured. Attacks in
    which every image diverged reconstruct nothing, and are passed over in that. `sure` is its
    confidence.
    """
    measured = [each for each in attacks if not (leak.scores and each.is_lost)]
    samples = [leak.samples(each) for each in measured]
    if not all(samples):
        return Ends()
    found = greatest_of([sample for own in samples for sample in own], sure)
    if found.low is None or found.high is None:
        return found
    if not leak.is_known(measured):
        return Ends(found.low, leak.most)
    return Ends(found.low, max(found.high, *(leak.over_seeds(each, sure) for each in measured)))


def greatest_of(samples: Sequence[Sample], sure: float = intervals.CONFIDENCE) -> Ends:
    """Returns an interval of the greatest of several means; see `greatest`."""
    each = confidence(len(samples), sure)
    lows = [end for sample in samples if (end := sample.interval(each).low) is not None]
    highs = [end for sample in samples if (end := sample.interval(sure).high) is not None]
    if not samples or len(highs) < len(samples):
        return Ends()
    return Ends(max(lows), max(highs))


def kept(
    attacks: Sequence[AttackRecord],
    leak: Leak,
    limit: float,
    sure: float = intervals.CONFIDENCE,
) -> Verdict:
    """Judges that no attack leaks more than a limit; see `spoilt`."""
    found = at_most(greatest(attacks, leak, sure), limit, noise=leak.noise)
    return UNDECIDED if found == HOLDS and any(spoilt(attacks).values()) else found


def spoilt(attacks: Sequence[AttackRecord]) -> dict[str, bool]:
    """Tells why attacks on one release prove no protection, by the reason.

    "diverged" is so where an image of any attack diverged; "dead" where attackers of a threat model
    did not move from their start, and no other who knows as much did; "blind" where nobody looked
    at the release; "few_surrogates" where those of a threat model who learned had fewer than
    `LEAST_SURROGATES` images; "untold" where attackers of a threat model do not tell of either.
    """
    able = {each.threat for each in attacks if each.is_able}
    unable = [each.dead for each in attacks if each.threat not in able]
    learned = _surrogates(attacks)
    return {
        "diverged": any(each.has_diverged for each in attacks),
        "dead": any(unable),
        "blind": all(each.method == FLOOR for each in attacks),
        "few_surrogates": any(0 < count < LEAST_SURROGATES for count in learned),
        "untold": None in unable or 0 in learned,
    }


def surrogate_images(attacks: Sequence[AttackRecord]) -> int | None:
    """Returns how many images attackers of each threat model had to learn from, the least of these.

    None where none learned, and where those of one do not tell.
    """
    return min(_surrogates(attacks), default=0) or None


def _surrogates(attacks: Sequence[AttackRecord]) -> list[int]:
    """Returns the most images that an attacker of each threat model learned from, if any did.

    Zero where none of them tells.
    """
    most: dict[str, int] = {}
    for each in attacks:
        if each.learned:
            most[each.threat] = max(most.get(each.threat, 0), each.surrogate_images or 0)
    return list(most.values())


def safe(attacks: Sequence[AttackRecord], sure: float = intervals.CONFIDENCE) -> Verdict:
    """Judges that attacks give nothing away: neither a picture nor whose it is."""
    return together(kept(attacks, leak, leak.safe, sure) for leak in LEAKS)


def screened(verdict: Verdict) -> Verdict:
    """Returns what quick attacks show: what they break is broken, and the rest is undecided."""
    return UNDECIDED if verdict == HOLDS else verdict


def images_needed(
    attacks: Sequence[AttackRecord],
    leak: Leak,
    limit: float,
    sure: float = intervals.CONFIDENCE,
) -> int | None:
    """Returns how many images settle a limit if all attacks go on as they did on theirs.

    One attack that leaks more settles it; else all must be seen to leak less. None if no number of
    images settles it, as where nobody compared releases, or if an attack was on too few to tell.
    """
    samples = [sample for each in attacks for sample in leak.samples(each)]
    above = [sample for sample in samples if sample.mean > limit]
    each = confidence(len(samples), sure) if above else sure
    counts = [leak.needed(sample, limit, each) for sample in above or samples]
    known = [count for count in counts if count is not None]
    if above:
        return min(known, default=None)
    settled = leak.is_known(attacks) and len(known) == len(counts)
    return max(known, default=None) if settled else None


def images_to_be_safe(
    attacks: Sequence[AttackRecord], sure: float = intervals.CONFIDENCE
) -> int | None:
    """Returns how many images settle whether attacks give nothing away; see `images_needed`."""
    counts = [
        images_needed(attacks, leak, leak.safe, sure)
        for leak in LEAKS
        if kept(attacks, leak, leak.safe, sure) == UNDECIDED
    ]
    known = [count for count in counts if count is not None]
    unsettled = len(known) < len(counts) or any(spoilt(attacks).values())
    return None if unsettled else max(known, default=None)
