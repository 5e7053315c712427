"""Bounds on the error, against estimators that reach them."""

import math

import jax
import numpy as np
import pytest
from small_edge import AFFINE, EDGE, IMAGES, PARAMS, SHAPE, SIZE, jacobian

from jaxinv.defenses import QUANTIZE
from jaxinv.measures import bounds
from jaxinv.networks import lenet5

RNG = np.random.default_rng(0)


def test_least_squares_meets_cramer_rao_at_conv1():
    """The bound is exact where the edge is affine: no attacker without bias does better."""
    edge = lenet5().split("conv1")[0]
    params = edge.init(jax.random.key(0))
    sigma, image = 0.01, RNG.uniform(size=(1, 28, 28, 1)).astype(np.float32)
    known = bounds.information(edge, params, image, jax.random.key(1))
    assert known.exact and known.rigorous
    bound = bounds.cramer_rao(bounds.Channel(edge, "gaussian", sigma), known)
    map_ = jacobian(edge, image[0], params)
    noise = sigma * RNG.normal(size=(len(map_), 40))
    errors = np.linalg.lstsq(map_, noise, rcond=None)[0]
    assert (errors**2).mean() == pytest.approx(bound.mean(), rel=0.03)


def test_laplace_noise_tells_twice_as_much_as_gaussian_noise_of_its_variance(known):
    gaussian = bounds.van_trees(bounds.Channel(EDGE, "gaussian", math.sqrt(2)), known.at, 0.1)
    laplace = bounds.van_trees(bounds.Channel(EDGE, "laplace", 1.0), known.at, 0.1)
    assert (laplace < gaussian).all()
    four = bounds.van_trees(bounds.Channel(EDGE, "laplace", 2.0, releases=4), known.at, 0.1)
    np.testing.assert_allclose(laplace, four)


def test_van_trees_is_the_bayes_risk_of_an_affine_edge():
    """A Gaussian dither has a known posterior, whose variance is the bound."""
    dither, sigma = 0.1, 0.3
    known = bounds.information(AFFINE, PARAMS, IMAGES[:1], jax.random.key(0), dither=dither)
    bound = bounds.van_trees(bounds.Channel(AFFINE, "gaussian", sigma), known.most, dither).mean()
    map_ = jacobian(AFFINE, IMAGES[0])
    moved = dither * RNG.normal(size=(SIZE, 400))
    seen = map_ @ moved + sigma * RNG.normal(size=(len(map_), 400))
    precision = map_.T @ map_ / sigma**2 + np.eye(SIZE) / dither**2
    found = np.linalg.solve(precision, map_.T @ seen) / sigma**2
    assert ((found - moved) ** 2).mean() == pytest.approx(bound, rel=0.02)


def test_the_rate_bounds_a_quantiser():
    """The best of 2^b cells of a normal distribution (Lloyd's) errs more, and not much more."""
    dither = 0.1
    values = np.sort(dither * RNG.normal(size=100_000))
    for bits in (1, 2, 3):
        means = np.quantile(values, (np.arange(2**bits) + 0.5) / 2**bits)
        for _ in range(30):
            cells = np.searchsorted(values, (means[1:] + means[:-1]) / 2)
            means = np.array([part.mean() for part in np.split(values, cells)])
        sizes = [len(part) for part in np.split(values, cells)]
        error = np.average([part.var() for part in np.split(values, cells)], weights=sizes)
        bound = bounds.rate(bits * 5, 5, dither)
        assert bound <= error < 3 * bound


def test_entropy_is_that_of_every_place():
    """Places of 1, 0 and 1.75 bits, and one that repeats another: it counts again.

    Without its correction the entropy of 50 draws would be .072 bits too low.
    """
    rng = np.random.default_rng(5)
    coin = rng.integers(0, 2, (3000, 50, 1))
    uneven = rng.choice(4, (3000, 50, 1), p=[0.5, 0.25, 0.125, 0.125])
    symbols = np.concatenate([coin, np.full_like(coin, 3), uneven, coin], axis=2)
    found = np.mean([bounds.entropy(each, 2) for each in symbols])
    assert found == pytest.approx(1 + 0 + 1.75 + 1, abs=0.015)


def test_entropy_is_never_more_than_symbols_have_bits():
    symbols = np.repeat(np.arange(4), 8)[:, None, None] + np.zeros((1, 2, 3), int)
    assert bounds.entropy(symbols, 2) == 2 * 6  # the correction alone would make it 2.07 each
    assert bounds.entropy(symbols, 8) > 2.05 * 6
    assert bounds.entropy(np.zeros((10, 4, 4, 1), int), 2) == 0


@pytest.mark.parametrize("deviation", [3.0, 100.0, 3000.0])
def test_entropy_is_not_too_low_where_symbols_are_more_than_draws(deviation):
    """Draws 256 values of a normal distribution, the least certain one of its variance."""
    normal = np.random.default_rng(2).normal(size=(256, 400)) * deviation
    exact = np.log2(2 * np.pi * np.e * deviation**2) / 2
    found = bounds.entropy(np.round(normal).astype(int), 16) / 400
    assert exact - 0.02 < found < exact + 0.05
    even = np.random.default_rng(3).integers(0, 2**12, (256, 400))
    assert 12 <= bounds.entropy(even, 16) / 400 < 12.3
    assert bounds.entropy(even, 12) == 12 * 400


@pytest.mark.parametrize("level", [1, 2, 3])
def test_what_entropy_allows_nobody_beats(level):
    """Pixels with dither, sent as they are but rounded: the mean of each cell errs more."""
    rng, dither, low, high = np.random.default_rng(1), 0.1, -0.5, 0.5
    pixels = dither * rng.normal(size=(50_000, 1))
    ends = np.broadcast_to([low, high], (len(pixels), 2))
    sent = np.concatenate([np.clip(pixels, low, high), ends], axis=1).astype(np.float32)
    rounded = jax.vmap(QUANTIZE.apply, (None, 0, None))(jax.random.key(0), sent, float(level))
    symbols = np.asarray(jax.vmap(QUANTIZE.coding.symbols, (0, None))(rounded, float(level)))
    assert symbols.min() == 0 and symbols.max() == 2**level - 1
    np.testing.assert_allclose(low + symbols / (2**level - 1) * (high - low), rounded, atol=1e-6)
    cells = symbols[:, 0]
    means = np.array([pixels[cells == cell].mean() if cell in cells else 0 for cell in range(8)])
    error = ((means[cells] - pixels[:, 0]) ** 2).mean()
    bits = bounds.entropy(symbols[:, :1], level)
    assert 0 < bits <= level
    assert bounds.rate(level, 1, dither) <= bounds.rate(bits, 1, dither) <= error


def bayes_risk_of_two(through, first, second, images, draws=4000):
    """Mean squared error of the posterior mean between two images, by simulation."""
    rng = np.random.default_rng(1)
    flat = np.stack([first.ravel(), second.ravel()]).astype(np.float64)

    def log_likelihood(seen, clean):
        if through.noise == "gaussian":
            return -((seen - clean) ** 2).sum(axis=1) / 2 / through.scale**2
        if through.noise == "laplace":
            return -np.abs(seen - clean).sum(axis=1) / through.scale
        kept, rate = seen != 0, through.scale
        possible = np.where(
            kept, np.where(seen == clean, 1 - rate, 0), np.where(clean == 0, 1, rate)
        )
        with np.errstate(divide="ignore"):
            return np.log(possible).sum(axis=1)

    total = 0.0
    for own in (0, 1):
        shape = (draws, flat.shape[1])
        if through.noise == "dropout":
            seen = flat[own] * (rng.uniform(size=shape) >= through.scale)
        else:
            noise = (
                rng.normal(size=shape) if through.noise == "gaussian" else rng.laplace(size=shape)
            )
            seen = flat[own] + through.scale * noise
        logs = np.stack([log_likelihood(seen, clean) for clean in flat])
        posterior = np.exp(logs[1 - own] - np.logaddexp(*logs))
        total += (posterior**2).mean() / 2
    return total * ((images[0] - images[1]) ** 2).mean()


@pytest.mark.parametrize(
    "noise, scales",
    [("gaussian", (1, 2, 8)), ("laplace", (0.5, 2, 8)), ("dropout", (0.5, 0.9, 0.99))],
)
def test_two_points_bound_the_best_that_can_be_made_of_them(noise, scales):
    features = np.maximum(np.random.default_rng(1).normal(size=(2, 30)), 0)
    images = IMAGES[:2]
    for scale in scales:
        through = bounds.Channel(EDGE, noise, scale)
        bound = bounds.two_point(through, images, features)
        risk = bayes_risk_of_two(through, *features, images)
        assert bound <= risk * 1.05 + 1e-6
        if noise == "gaussian" and scale > 1:  # else errors are too rare to be simulated
            assert bound == pytest.approx(risk, rel=0.08)


def test_of_images_that_look_the_same_one_can_only_guess():
    same = np.ones((2, 5))
    through = bounds.Channel(EDGE, "gaussian", 1.0)
    bound, drawn = bounds.two_point(through, IMAGES[:2], same), bounds.total_variation(through, 5)
    assert bound == pytest.approx(((IMAGES[0] - IMAGES[1]) ** 2).mean() * (0.5 - drawn) / 2)


def test_pairs_are_those_that_tell_most():
    """An image is best mistaken for one that is far away and whose features are near."""
    images = np.zeros((4, *SHAPE), np.float32)
    images[2:] = 1
    features = np.array([[0.0], [50.0], [0.0], [50.0]])
    bound = bounds.two_point(bounds.Channel(EDGE, "gaussian", 1.0), images, features)
    assert bound == pytest.approx(0.25, rel=1e-3)
