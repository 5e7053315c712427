"""Likelihoods of released features, for attackers who know the defense."""

import jax
from jax import Array

from jaxinv.defenses.mechanism import Defense, Mechanism, Step, Structure, acting

_DRAWS = 8  # draws that stand for a mechanism without a residual of its own


def in_order(defense: Defense) -> tuple[Step, ...]:
    """Returns the steps of levels above 0, as the device applies them: those at the input first.

    Steps that consist of training are left out.
    """
    given = [step for step in defense.steps if step.level and step.mechanism.acts]
    return tuple(sorted(given, key=lambda step: step.site != "input"))


def last_noise(defense: Defense) -> tuple[Mechanism, float] | None:
    """Returns the mechanism of a defense's only random step, and its level.

    The log-likelihood of a release is exact where that step is the last one, at the features, and
    has a log-likelihood of its own: all before it is certain. None for other defenses.
    """
    steps = in_order(defense)
    random = [step for step in steps if step.mechanism.random]
    if len(random) != 1 or steps[-1] != random[0] or random[0].site != "feature":
        return None
    mechanism, _, level = random[0]
    return None if mechanism.log_likelihood is None else (mechanism, level)


def before_noise(defense: Defense) -> Defense:
    """Returns the steps before the last one, which draw nothing where `last_noise` is known."""
    return Defense(in_order(defense)[:-1])


def is_noisy(structure: Structure) -> bool:
    """Returns True if the residual of features is in standard deviations of noise."""
    steps = _at_features(structure)
    return len(steps) == 1 and steps[0][0].noisy


def _at_features(structure: Structure) -> list[tuple[Mechanism, int]]:
    """Returns the mechanisms that act at the features, and their numbers.

    Of none that acts there, the one that is trained in, whose features cross as they are.
    """
    numbers = [number for number, (_, site) in enumerate(structure) if site == "feature"]
    shown = [number for number in acting(structure) if number in numbers]
    return [(structure[number][0], number) for number in shown or numbers[:1]]


def residual(
    structure: Structure, before: Array, clean: Array, observed: Array, levels: Array
) -> Array:
    """Computes the residual of observed features behind a defense; see `Mechanism.residual`.

    Args:
      structure: of the defense. Steps at the input are ignored.
      before, clean, observed: `[B, ...]`, features before a final rectifier, the features, and the
        released features.
      levels: `[B, P]`, of the steps, as combined releases have them.

    Returns:
      `[B, ...]`.
    """
    steps = _at_features(structure)
    known = steps[0][0].residual if len(steps) == 1 else None
    if known is not None:
        return jax.vmap(known)(before, clean, observed, levels[:, steps[0][1]])

    def draw(key: Array, x: Array, levels: Array) -> Array:
        for mechanism, number in steps:
            x = mechanism.apply(jax.random.fold_in(key, number), x, levels[number])
        return x

    def expected(x: Array, levels: Array) -> Array:
        keys = jax.random.split(jax.random.key(0), _DRAWS)
        return jax.vmap(draw, (0, None, None))(keys, x, levels).mean(axis=0)

    return jax.vmap(expected)(clean, levels) - observed
