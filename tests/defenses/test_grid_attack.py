"""Attacks by the grid that noise lies on: whoever knows the noise's numbers looks for them."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from behind import NETWORK, PARAMS

from jaxinv.defenses import GAUSSIAN, LAPLACE, Mechanism, Release, clipped_gaussian

CANDIDATES = np.random.default_rng(5).random((20, 28, 28, 1)).astype("f")
CUTS = ("relu2", "fc1", "relu4")


def on_grid_of_normal(noise):
    """Tells which float32 values `jax.random.normal` can give: those of 2^23 uniform numbers."""
    low = np.nextafter(np.float32(-1), np.float32(0))
    place = np.asarray(jax.lax.erf(jnp.asarray(noise / 2**0.5, jnp.float32)), float)
    number = np.round((place - low) / 2 * 2**23)
    near = number[..., None] + np.arange(-3, 4)
    uniform = (near * 2.0**-23 * 2 + low).astype("f")
    uniform = np.clip(uniform, low, np.float32(1 - 2**-24))
    values = np.sqrt(np.float32(2)) * jax.lax.erf_inv(uniform)
    apart = np.abs(np.asarray(values, float) - noise[..., None]).min(axis=-1)
    return apart <= 6e-8 * np.abs(noise)


def on_grid_of_ours(noise):
    """Tells which values are nearer to the grid of releases than chance, in units of the scale."""
    return np.abs(noise * 64 - np.round(noise * 64)) < 0.02


def found(mechanism, level, cut, on_grid, scale):
    """Returns the share of releases whose image is the candidate with most values on the grid."""
    edge = NETWORK.split(cut)[0]
    features = np.asarray(jax.jit(edge.apply)(PARAMS, CANDIDATES), float)
    release = Release(edge, PARAMS, CANDIDATES, mechanism.at("feature", level), jax.random.key(9))
    seen = np.asarray(release[np.arange(len(CANDIDATES))], float)
    hits = np.stack(
        [
            on_grid((one[None] - features) / scale).reshape(len(features), -1).mean(axis=1)
            for one in seen
        ]
    )
    guesses = (hits + 1e-9 * np.random.default_rng(0).random(hits.shape)).argmax(axis=1)
    return (guesses == np.arange(len(CANDIDATES))).mean()


def naive(key, x, level):
    return x + level * jax.random.normal(key, x.shape, x.dtype)


MECHANISMS = [(GAUSSIAN, 64.0, 64.0), (LAPLACE, 64.0, 64.0), (clipped_gaussian(2.0), 32.0, 64.0)]


@pytest.mark.parametrize("cut", CUTS)
def test_noise_that_is_not_rounded_tells_who_it_is(cut):
    """The attack works where it can: at a noise that hides all else."""
    assert found(Mechanism("naive", naive), 64.0, cut, on_grid_of_normal, 64.0) == 1


@pytest.mark.slow
@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("on_grid", [on_grid_of_normal, on_grid_of_ours])
@pytest.mark.parametrize(
    ("mechanism", "level", "scale"), MECHANISMS, ids=lambda each: getattr(each, "name", "")
)
def test_a_release_tells_no_more_by_a_grid_than_chance(mechanism, level, scale, on_grid, cut):
    """Chance finds one of 20 candidates; more than five in one of a thousand times."""
    assert scipy.stats.binom.sf(5, 20, 1 / 20) < 1e-3
    assert found(mechanism, level, cut, on_grid, scale) <= 5 / 20


def flagged(apply):
    """Returns the shares of zeros and of others whose release lies on the noise's grid."""
    x = np.maximum(np.random.default_rng(1).normal(size=60_000), 0).astype("f")
    seen = jax.jit(apply)(jax.random.key(2), jnp.asarray(x), jnp.float32(2.0))
    hits = on_grid_of_normal(np.asarray(seen, float) / 2)
    return hits[x == 0].mean(), hits[x > 0].mean()


def test_rectified_zeros_stand_out_behind_noise_that_is_not_rounded():
    zeros, others = flagged(naive)
    assert zeros == 1 and others < 0.2


@pytest.mark.parametrize("mechanism", [GAUSSIAN, LAPLACE], ids=lambda each: each.name)
def test_rectified_zeros_do_not_stand_out_in_a_release(mechanism):
    """Blind cleaning needs values that lie on the grid more often where the feature was zero."""
    x = np.maximum(np.random.default_rng(1).normal(size=60_000), 0).astype("f")
    seen = np.asarray(
        jax.jit(partial(mechanism.apply, jax.random.key(2)))(jnp.asarray(x), jnp.float32(2.0))
    )
    step = mechanism.at("feature", 2.0).describe()["grid"]
    np.testing.assert_array_equal(seen / step, np.round(seen / step))  # all of them lie on it
    # Nor are its multiples odd, or those of a coarser grid, more often for either.
    for coarser in (2, 4, 8):
        hits = (np.round(seen / step) % coarser) == 0
        shares = [hits[x == 0].mean(), hits[x > 0].mean()]
        assert abs(shares[0] - shares[1]) < 5 * np.sqrt(0.25 / 30_000 * 2)
