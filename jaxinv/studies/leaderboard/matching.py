"""Levels of a defence that cost a wanted accuracy. NumPy."""

import math
from collections.abc import Callable, Sequence

from jaxinv.defenses import Mechanism

_EXTENSIONS = 2  # of a ladder at each end
_RUNGS = 3  # of an extension

Measure = Callable[[Sequence[float]], Sequence[float]]
"""Returns the accuracy behind a defence at each of some levels."""


def levels(mechanism: Mechanism, wanted: Sequence[float], measure: Measure) -> list[float]:
    """Returns the level at which a defence has about each wanted accuracy.

    The ladder of the mechanism's own levels, from the weakest, is measured, and made longer where
    all of it is too weak or too strong. Between two rungs the level is interpolated.

    Args:
      mechanism: whose level it is.
      wanted: accuracies.
      measure: of levels; it is called a few times with several.

    Returns:
      A level for each. Where none is weak or strong enough, the weakest or the strongest.
    """
    rungs = [level for level in mechanism.sweep if level]
    found = list(zip(rungs, measure(rungs), strict=True))
    for _ in range(_EXTENSIONS):
        if found[-1][1] > min(wanted) and (
            further := _beyond(mechanism, found[-2][0], found[-1][0])
        ):
            found += zip(further, measure(further), strict=True)
        elif found[0][1] < max(wanted) and (nearer := _beyond(mechanism, found[1][0], found[0][0])):
            found = [*reversed(list(zip(nearer, measure(nearer), strict=True))), *found]
    return [_between(mechanism, found, accuracy) for accuracy in wanted]


def _between(mechanism: Mechanism, found: Sequence[tuple[float, float]], accuracy: float) -> float:
    """Returns the level of an accuracy, from levels that grow stronger and their accuracies."""
    place = next((i for i, (_, own) in enumerate(found) if own < accuracy), len(found))
    if place in (0, len(found)):
        return found[min(place, len(found) - 1)][0]
    (weak, above), (strong, below) = found[place - 1], found[place]
    share = (above - accuracy) / (above - below)
    low, high = (_spread(mechanism, level) for level in (weak, strong))
    return _level(mechanism, low + share * (high - low))


def _beyond(mechanism: Mechanism, before: float, last: float) -> list[float]:
    """Returns levels that go on from two, in the same steps; fewer where there are no more."""
    start, step = _spread(mechanism, last), _spread(mechanism, last) - _spread(mechanism, before)
    further = [_level(mechanism, start + number * step) for number in range(1, _RUNGS + 1)]
    further = [level for level in further if 0 < level < mechanism.below and level != last]
    return list(dict.fromkeys(further))


def _spread(mechanism: Mechanism, level: float) -> float:
    """Returns a level on a scale where levels lie evenly: its logarithm, or that of its odds."""
    return math.log(level / (1 - level)) if mechanism.below == 1 else math.log(level)


def _level(mechanism: Mechanism, spread: float) -> float:
    """Undoes `_spread`, to four digits, or to a whole number."""
    level = math.exp(spread)
    if mechanism.below == 1:
        level = level / (1 + level)
    return float(round(level)) if mechanism.whole else float(f"{level:.4g}")
