"""All bounds on a release, with their assumptions in words."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from jaxinv.measures import linkage
from jaxinv.measures.bounds import counting
from jaxinv.measures.bounds.channels import Channel
from jaxinv.measures.bounds.errors import cramer_rao, rate, two_point, van_trees
from jaxinv.measures.bounds.fisher import DITHER, Information
from jaxinv.measures.bounds.imperfection import least_error, total_variation
from jaxinv.measures.bounds.linkage import fano
from jaxinv.measures.intervals import Share

Certainty = Literal["certified", "estimated"]


class Bound(NamedTuple):
    """One bound.

    Attributes:
      name: of the theorem.
      kind: "certified", or "estimated" where a number in it was sampled.
      quantity: "psnr": no attacker's PSNR of the mean squared error is above `value`, dB; "reid":
        no attacker finds more than a share `value` of the images.
      value: NaN where the theorem gives no bound.
      dithered: True if it is about images with dither, not about the test images themselves.
      assumptions: in words.
      ci: 95% limits of a value that was simulated; None where there are none.
    """

    name: str
    kind: Certainty
    quantity: Literal["psnr", "reid"]
    value: float
    dithered: bool
    assumptions: str
    ci: tuple[float | None, float | None] = (None, None)


def evaluate(
    through: Channel | None,
    known: Information | None,
    gallery: np.ndarray,
    features: np.ndarray | None,
    *,
    bits: float,
    coded: float = math.inf,
    entropies: Sequence[float] = (),
) -> list[Bound]:
    """Computes all bounds on a release.

    Args:
      through: the channel of the defense; None where it adds no noise.
      known: the information of its map; None without a channel.
      gallery: `[M, H, W, C]`: test images, among which an attacker looks for one.
      features: `[M, ...]`, of the channel's map, without noise; None without a channel.
      bits: that cross the wire, of each release.
      coded: bits of a code: at most two to their power releases differ.
      entropies: upper bounds on these bits at some images with dither, where they were measured.
    """
    size, dither = gallery[0].size, known.dither if known else DITHER
    dithered = f"images with Gaussian dither of {dither:g}, which the attacker may know without it"
    found = _rates(through.releases if through else 1, size, dither, dithered, bits, entropies)
    is_few = coded < math.log2(len(gallery))
    if not is_few and through is None:
        return found
    commonest = linkage.commonest(gallery)
    among = _among(len(gallery), commonest)
    if is_few:
        found += _counting(coded, gallery, commonest, among)
    if through is None or known is None or features is None:
        return found
    if through.noise != "dropout":
        found += [_cramer_rao(through, known), *_van_trees(through, known, dithered)]
    value, text = _psnr(two_point(through, gallery, features)), among + _drawn(through)
    found.append(Bound("two-point", "certified", "psnr", value, False, text))
    share = fano(through, features, commonest)
    return [*found, Bound("Fano", "certified", "reid", _share(share), False, text)]


def bayes(rate: Share, among: int) -> Bound:
    """Returns the Bayes rate of linkage as a bound, with its exact interval.

    Args:
      rate: the share of simulated releases whose input is the likeliest of all candidates.
      among: number of candidates.
    """
    text = (
        f"each of {among:,} test images as likely, which the attacker may know; copies are one; "
        f"{rate.number:,} simulated releases of images drawn among them; noise as it is defined"
    )
    ends = rate.interval()
    return Bound("Bayes", "estimated", "reid", rate.mean, False, text, (ends.low, ends.high))


def _rates(
    releases: int,
    size: int,
    dither: float,
    dithered: str,
    bits: float,
    entropies: Sequence[float],
) -> list[Bound]:
    value = _psnr(rate(bits * releases, size, dither))
    found = [Bound("rate", "certified", "psnr", value, True, dithered)]
    if entropies:
        error = np.mean([rate(each * releases, size, dither) for each in entropies])
        text = (
            f"{dithered}; the entropy sampled at {_images(len(entropies))}; what values have in "
            "common counts several times, and so the bound is higher than it might be"
        )
        found.append(Bound("rate", "estimated", "psnr", _psnr(float(error)), True, text))
    return found


def _counting(coded: float, gallery: np.ndarray, commonest: float, among: str) -> list[Bound]:
    text = f"{2**coded:,.0f} different releases, however they are made; {among}"
    share = counting.found_among(coded, commonest)
    error = counting.least_error(coded, gallery)
    return [
        Bound("counting", "certified", "psnr", _psnr(error), False, text),
        Bound("counting", "certified", "reid", _share(share), False, text),
    ]


def _van_trees(through: Channel, known: Information, dithered: str) -> list[Bound]:
    found: list[Bound] = []
    if known.most is not None:
        kind: Certainty = "certified" if known.rigorous else "estimated"
        error = float(van_trees(through, known.most, known.dither).mean())
        value = _psnr(least_error(error, known.dither, through))
        text = f"{dithered}; the information from the layers' Lipschitz constants{_drawn(through)}"
        found.append(Bound("van Trees", kind, "psnr", value, True, text))
    if not known.exact:
        error = float(van_trees(through, known.dithered, known.dither).mean())
        value = _psnr(least_error(error, known.dither, through))
        text = f"{dithered}; {_sampled(known)}{_drawn(through)}"
        found.append(Bound("van Trees", "estimated", "psnr", value, True, text))
    return found


def _cramer_rao(through: Channel, known: Information) -> Bound:
    error = cramer_rao(through, known).mean()
    kind: Certainty = "certified" if known.exact else "estimated"
    text = "an attacker without bias behind noise as it is defined, not as it is drawn"
    if not known.exact:
        text += f", at {_images(len(known.at.values))}"
    if not math.isfinite(error):
        text = (
            "there is no attacker without bias: the edge forgets a part of its input, or tells so "
            "little of it that single precision cannot say whether"
        )
    return Bound("Cramer-Rao", kind, "psnr", _psnr(error), False, text)


def _share(value: float) -> float:
    """Returns a share of images; NaN where it is all of them, which says nothing."""
    return value if value < 1 else math.nan


def _among(count: int, commonest: float) -> str:
    text = (
        f"each of {count:,} test images as likely, which the attacker may know; the average over "
        "all of these, and no word on others"
    )
    if commonest > 1 / count:
        text += f"; copies are one, and the commonest is {commonest:.1%} of the images"
    return text


def _drawn(through: Channel) -> str:
    """Says what noise is assumed, and what the bound allows for."""
    drawn = total_variation(through, math.prod(through.network.output_shape))
    return (
        "; random bits as good as independent ones, of which noise is drawn that differs from its "
        f"definition by at most {drawn:.1e} in total variation, which the bound "
        "includes"
    )


def _sampled(known: Information) -> str:
    """Says how a spectrum was sampled. Few dithers lower the bound: a trace inverse is convex."""
    draws = known.draws
    return (
        f"the information sampled at {_images(len(known.dithered.values))} and {draws} "
        f"dither{'s' * (draws > 1)} of each; the fewer dithers, the lower is the bound, which on "
        "average is too low"
    )


def _images(count: int) -> str:
    return f"{count} image{'s' * (count > 1)}"


def _psnr(error: float) -> float:
    """Converts a mean squared error to dB; NaN where an error of that size says nothing."""
    return -10 * math.log10(error) if 0 < error < math.inf else math.nan
