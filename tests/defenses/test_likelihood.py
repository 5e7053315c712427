"""Residuals, against the likelihood of the noise."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from behind import CLIP, IMAGES, LEVEL, PIXELS, PLAIN, apply, normal, released

from jaxinv import defenses
from jaxinv.defenses import (
    DROPOUT,
    GAUSSIAN,
    LAPLACE,
    NONE,
    NOPEEK,
    PROJECT,
    PRUNE,
    QUANTIZE,
    Defense,
    Mechanism,
    query_function,
)
from jaxinv.errors import UsageError


def residual(defense, before, observed, clean=None, releases=1):
    clean = before if clean is None else clean
    levels = np.broadcast_to(defense.combined(releases), (len(before), len(defense.steps)))
    return np.asarray(
        defenses.residual(
            defense.structure, *map(jnp.asarray, (before, clean, observed)), jnp.asarray(levels)
        )
    )


def half_squares(*args, **options):
    left = residual(*args, **options)
    return 0.5 * (left.reshape(len(left), -1) ** 2).sum(axis=1)


def test_the_residual_of_gaussian_noise_is_its_likelihood():
    clean, observed = normal(6, 40), normal(6, 40, seed=1)
    for releases in (1, 4):
        log_density = scipy.stats.norm(clean, LEVEL / releases**0.5).logpdf(observed).sum(axis=1)
        found = half_squares(GAUSSIAN.at("feature", LEVEL), clean, observed, releases=releases)
        constant = found + log_density
        np.testing.assert_allclose(constant, constant[0], rtol=1e-4, atol=1e-3)


def test_the_residual_of_laplace_noise_is_its_likelihood():
    rng = np.random.default_rng(0)
    clean = normal(6, 40)
    distance = LEVEL * rng.uniform(1, 8, (6, 40)) * rng.choice([-1, 1], (6, 40))
    observed = (clean + distance).astype("f")
    log_density = scipy.stats.laplace(clean, LEVEL).logpdf(observed).sum(axis=1)
    constant = half_squares(LAPLACE.at("feature", LEVEL), clean, observed) + log_density
    # Near the truth the corner is rounded off.
    np.testing.assert_allclose(constant, constant[0], atol=40 * 0.01)
    assert np.ptp(log_density) > 10


def test_the_residual_of_a_clipped_release_is_its_likelihood():
    clean, observed = normal(6, 40), 0.3 * normal(6, 40, seed=1)
    seen = 2 * clean / np.linalg.norm(clean, axis=1, keepdims=True)
    log_density = scipy.stats.norm(seen, 2 * 0.1).logpdf(observed).sum(axis=1)
    constant = half_squares(CLIP.at("feature", 0.1), clean, observed) + log_density
    np.testing.assert_allclose(constant, constant[0], rtol=1e-4, atol=0.01)


def rectified(count=5, size=60):
    before = normal(count, size)
    return before, np.maximum(before, 0)


@pytest.mark.parametrize("mechanism", [DROPOUT, PRUNE, PROJECT, NOPEEK], ids=lambda each: each.name)
@pytest.mark.parametrize("level", [0.0, 0.6])
@pytest.mark.parametrize("rectify", [False, True])
def test_without_noise_nothing_is_left_at_the_truth(mechanism, level, rectify):
    before, clean = rectified()
    before = before if rectify else clean + 0.1
    clean = clean if rectify else before
    observed = np.stack([apply(mechanism, x, level, seed) for seed, x in enumerate(clean)])
    defense = mechanism.at("feature", level)
    left = residual(defense, before, observed, clean)
    np.testing.assert_allclose(left, 0, atol=1e-5)
    assert not defenses.is_noisy(defense.structure)
    # Of another image there is something.
    other, clean_other = before[::-1], clean[::-1]
    assert np.abs(residual(defense, other, observed, clean_other)).max() > 0.1


def test_what_was_dropped_tells_nothing_and_what_was_not_tells_all():
    clean = np.array([[1.0, 2.0, 3.0]], "f")
    observed = np.array([[0.0, 1.5, 0.0]], "f")
    dropped = residual(DROPOUT.at("feature", 0.5), clean, observed)
    np.testing.assert_allclose(dropped, [[0, 0.5, 0]], atol=1e-6)
    np.testing.assert_allclose(
        residual(DROPOUT.at("feature", 0.0), clean, observed), [[1, 0.5, 3]], atol=1e-6
    )


def test_what_was_pruned_is_smaller_than_what_was_kept():
    clean = np.array([[1.0, -4.0, 3.5, 0.5]], "f")
    observed = np.array([[0.0, 0.0, 3.0, 0.0]], "f")
    left = residual(PRUNE.at("feature", 0.7), clean, observed)
    np.testing.assert_allclose(left, [[0, -1, 0.5, 0]], atol=1e-6)


@pytest.mark.parametrize("rectify", [False, True])
def test_a_quantised_value_lies_in_its_cell(rectify):
    before, clean = rectified(size=400)
    before = before if rectify else clean
    defense = QUANTIZE.at("feature", 3)
    observed = np.stack([apply(QUANTIZE, x, 3) for x in clean])
    assert defenses.is_noisy(defense.structure)
    left = residual(defense, before, observed, clean)
    assert np.abs(left).max() <= 3**0.5 * (1 + 1e-3)
    inside = observed > 0
    assert np.std(left[inside]) == pytest.approx(1, abs=0.1)
    assert np.abs(residual(defense, before[::-1], observed, clean[::-1])).max() > 3


def test_of_several_an_attacker_expects_the_mean_of_draws():
    clean = 1 + np.abs(normal(3, 2000))
    both = DROPOUT.at("feature", LEVEL) + GAUSSIAN.at("feature", 0.1)
    left = residual(both, clean, np.zeros_like(clean))
    np.testing.assert_allclose(left.mean(axis=1), LEVEL * clean.mean(axis=1), rtol=0.05)
    np.testing.assert_array_equal(left, residual(both, clean, np.zeros_like(clean)))
    np.testing.assert_allclose(residual(both, clean, clean), left - clean, atol=1e-5)
    assert not defenses.is_noisy(both.structure)


def test_a_step_at_the_input_is_not_looked_at():
    clean, observed = normal(6, 40), normal(6, 40, seed=1)
    both = DROPOUT.at("input", 0.9) + GAUSSIAN.at("feature", LEVEL)
    alone = residual(GAUSSIAN.at("feature", LEVEL), clean, observed)
    np.testing.assert_allclose(residual(both, clean, observed), alone, rtol=1e-6)
    assert defenses.is_noisy(both.structure)
    assert not defenses.is_noisy(GAUSSIAN.at("input", 1.0).structure)
    assert not defenses.is_noisy(())


def test_a_mechanism_of_ones_own_takes_a_few_lines():
    def blur(key, x, level):
        return (1 - level) * x + level * x.mean()

    mine = Mechanism("blur", blur, below=1.0)
    defense = mine.at("feature", LEVEL)
    expected = 0.5 * PIXELS + 0.5 * PIXELS.mean(axis=(1, 2, 3), keepdims=True)
    np.testing.assert_allclose(released(defense, edge=PLAIN), expected, rtol=1e-4, atol=1e-5)
    keys = jax.random.split(jax.random.key(0), 8)
    asked = query_function(PLAIN, {}, defense, releases=2)(keys, IMAGES)
    np.testing.assert_allclose(asked, expected, rtol=1e-4, atol=1e-5)
    left = residual(defense, PIXELS, expected)
    np.testing.assert_allclose(left, 0, atol=1e-4)
    with pytest.raises(UsageError, match="level=1.0: blur"):
        mine.at("feature", 1.0)
    assert isinstance(defense + NONE, Defense)


def test_of_equal_values_the_first_are_kept_and_no_more_than_there_may_be():
    x = np.array([2.0, -1.0, 3.0, 1.0, 1.0, 0.5, -1.0, 0.0], "f")
    np.testing.assert_array_equal(apply(PRUNE, x, 0.5), [2, -1, 3, 1, 0, 0, 0, 0])
    background = np.full((6, 6, 2), 0.3, "f")
    made = apply(PRUNE, background, 0.75)
    np.testing.assert_array_equal(np.flatnonzero(made), np.arange(18))
    np.testing.assert_array_equal(apply(PRUNE, background, 0), background)
    # The attacker's likelihood finds no fault with what is true.
    defense = PRUNE.at("feature", 0.75)
    for each in (background, normal(6, 6, 2).round(1)):
        released = apply(PRUNE, each, 0.75)
        np.testing.assert_array_equal(residual(defense, each[None], released[None]), 0)
