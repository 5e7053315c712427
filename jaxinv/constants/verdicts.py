"""Verdicts, and limits below which a reconstruction is said to give nothing away."""

from typing import Literal

Verdict = Literal["holds", "fails", "undecided"]

HOLDS: Verdict = "holds"
"""The whole interval is on the side of the limit that is asked for."""

FAILS: Verdict = "fails"
"""The whole interval is on the other side."""

UNDECIDED: Verdict = "undecided"
"""The limit lies within the interval, or there is no interval."""

LEAST_SURROGATES = 1000
"""Images that attackers of a threat model must learn from, at least, before a limit holds.

With fewer they show what little data can do: somebody else has more.
"""

SPOILT = {
    "diverged": "diverged",
    "dead": "did not move from its start",
    "blind": "did not look at what is released",
    "few_surrogates": f"had fewer than {LEAST_SURROGATES:,} images to learn from",
    "untold": "does not tell whether it left its start, or how many images it learned from (it is "
    "imported, or an older version's)",
}
"""Names, with their words, of what makes an attack prove nothing."""

GALLERY = 1000
"""Test images among which reconstructions are looked for, and reconstructions, at most."""

SAFE_SSIM = 0.25
"""Structural similarity; Wang et al. 2004. The whole interval of the strongest attacker counts."""

SAFE_REID = 0.1
"""Share of inputs that are re-identified. The whole interval of the strongest attacker counts."""
