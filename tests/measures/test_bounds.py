import dataclasses
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import defenses
from jaxinv.attacks.whitebox import adaptive
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.defenses import GAUSSIAN, LAPLACE, NONE, QUANTIZE, Release, clipped_gaussian
from jaxinv.measures import bounds
from jaxinv.measures.bounds import Channel
from jaxinv.networks import lenet5, max_pool, sequence

SHAPE = (12, 12, 1)
SIZE = math.prod(SHAPE)
EDGE = sequence(
    [
        ("conv1", nn.Conv(4, (3, 3), padding="VALID")),
        ("relu1", nn.relu),
        ("pool1", max_pool),
        ("conv2", nn.Conv(6, (3, 3), padding="VALID")),
        ("relu2", nn.relu),
    ],
    SHAPE,
    mean=(0.4,),
    std=(0.5,),
)
PARAMS = EDGE.init(jax.random.key(0))
AFFINE = EDGE.split("conv1")[0]
RNG = np.random.default_rng(0)


def blobs(count, seed=0):
    """Smooth random images in unit space."""
    small = np.random.default_rng(seed).uniform(size=(count, 4, 4, 1)).astype(np.float32)
    return np.asarray(jax.image.resize(small, (count, *SHAPE), "linear"))


IMAGES = blobs(12)


def features_of(network, images):
    return np.asarray(jax.jit(network.apply)(PARAMS, images))


def jacobian(network, image, params=PARAMS):
    """By forward mode, apart from what is tested."""
    flat = jnp.asarray(image.ravel())

    def run(pixels):
        return network.apply(params, pixels.reshape(1, *network.input_shape)).ravel()

    return np.asarray(jax.jacrev(run)(flat), np.float64)


@pytest.fixture(scope="module")
def known():
    return bounds.information(EDGE, PARAMS, IMAGES[:3], jax.random.key(1), draws=2)


# --- Which noise counts ---------------------------------------------------------------------------


def test_what_follows_the_first_step_adds_nothing():
    defense = GAUSSIAN.at("input", 0.5) + QUANTIZE.at("feature", 2)
    through = bounds.channel(EDGE, defense, releases=4)
    assert through.network.layers == {} and through.network.mean == EDGE.mean
    assert (through.noise, through.scale, through.releases) == ("gaussian", 0.5, 4)
    assert through.information == 16.0
    assert bounds.channel(EDGE, LAPLACE.at("feature", 2.0)).information == 0.25
    assert bounds.channel(EDGE, clipped_gaussian(7.0).at("feature", 0.1)).scale == pytest.approx(
        0.7
    )


def test_noise_at_the_input_comes_first_whatever_is_named_first():
    """Noise at the input lifts images over a rectifier: bounds on the features do not hold then."""
    relu = sequence([("relu", nn.relu)], (1, 1, 1))
    defense = GAUSSIAN.at("feature", 0.01) + GAUSSIAN.at("input", 0.3)
    through = bounds.channel(relu, defense)
    assert through.network.layers == {} and through.scale == 0.3
    images = np.array([-1.0, -0.2], np.float32).reshape(2, 1, 1, 1)
    released = [
        Release(relu, {}, np.repeat(image[None], 2000, axis=0), defense, jax.random.key(own))
        for own, image in enumerate(images)
    ]
    seen = np.stack([release[np.arange(2000)].ravel() for release in released])
    found = (seen[0] <= 0.03).mean() / 2 + (seen[1] > 0.03).mean() / 2
    clean = np.asarray(relu.apply({}, images))
    assert bounds.fano(Channel(relu, "gaussian", 0.01), clean) < found - 0.05
    assert found <= bounds.fano(through, images)


def test_what_noise_at_the_input_sees_is_the_same_network_each_time():
    """What is compiled and measured for one level and one cut serves all of them."""
    of_one, of_other = (
        bounds.channel(network, GAUSSIAN.at("input", level)).network
        for network, level in ((EDGE, 0.5), (AFFINE, 2.0))
    )
    assert of_one is of_other


@pytest.mark.parametrize(
    "defense",
    [NONE, GAUSSIAN.at("feature", 0), QUANTIZE.at("feature", 2) + GAUSSIAN.at("feature", 1)],
)
def test_without_noise_at_first_there_is_no_channel(defense):
    assert bounds.channel(EDGE, defense) is None


# --- Information ----------------------------------------------------------------------------------


def test_spectra_are_those_of_the_jacobian(known):
    for values, image in zip(known.at.values, IMAGES, strict=False):
        expected = np.linalg.svd(jacobian(EDGE, image), compute_uv=False) ** 2
        found = np.sort(values)[::-1][: len(expected)]
        np.testing.assert_allclose(found, expected[: len(found)], atol=1e-4 * expected[0])
    np.testing.assert_allclose(known.at.weights.sum(axis=1), 1)


def test_nowhere_does_an_edge_tell_more_than_its_layers_allow(known):
    assert known.rigorous and not known.exact
    first = jacobian(AFFINE, IMAGES[0])
    most = first.T @ first
    most *= known.most.values.max() / np.linalg.eigvalsh(most).max()
    for image in (IMAGES[0], IMAGES[1], RNG.uniform(-1, 2, SHAPE).astype(np.float32)):
        own = jacobian(EDGE, image)
        assert np.linalg.eigvalsh(most - own.T @ own).min() > -1e-4 * most.max()


def test_products_are_not_rounded_more_than_they_must_be():
    asked = []

    def spy(x):
        asked.append(jax.config.jax_default_matmul_precision)
        return x

    network = sequence([("conv", nn.Conv(1, (3, 3))), ("spy", spy)], (4, 4, 1))
    params = network.init(jax.random.key(0))
    asked.clear()
    bounds.information(network, params, np.zeros((1, 4, 4, 1), "f"), jax.random.key(1), draws=1)
    # Shapes are found out by what multiplies nothing.
    assert "highest" in asked


def test_networks_within_one_are_made_once():
    for make in (bounds._cut, bounds._layer):
        argument = 1 if make is bounds._cut else "conv1"
        assert make(EDGE, argument) is make(EDGE, argument)


def test_what_edges_share_is_measured_once(monkeypatch):
    monkeypatch.setattr(bounds, "_found", {})
    measured = []

    def eigenvalues(network, params, copies):
        measured.append([*network.layers])
        return original(network, params, copies)

    original = bounds._eigenvalues
    monkeypatch.setattr(bounds, "_eigenvalues", eigenvalues)
    network = sequence(
        [
            ("conv", nn.Conv(1, (3, 3))),
            ("relu", nn.relu),
            ("fc", nn.DenseGeneral(3, axis=(1, 2, 3))),
        ],
        (4, 4, 1),
    )
    params = network.init(jax.random.key(0))

    def most(cut, params):
        edge, _ = network.split(cut)
        return bounds._most(edge, edge.select(params))[0].values.max()

    first = [most(cut, params) for cut in ("conv", "relu", "fc")]
    assert sorted(measured) == [["conv"], ["fc"]]
    doubled = jax.tree.map(lambda leaf: 2 * leaf, params)
    np.testing.assert_allclose(
        [most(cut, doubled) for cut in ("conv", "relu", "fc")],
        np.array([4, 4, 16]) * first,
        rtol=1e-5,
    )


def test_windows_that_overlap_count():
    overlapping = sequence([("pool", lambda x: nn.max_pool(x, (3, 3), strides=(1, 1)))], (6, 6, 2))
    disjoint = sequence([("pool", max_pool)], (6, 6, 2))
    assert bounds._most_windows(overlapping, {}) == 9
    assert bounds._most_windows(disjoint, {}) == 1


def test_an_unknown_layer_has_no_constant():
    odd = sequence([("conv", nn.Conv(2, (3, 3))), ("square", jnp.square)], SHAPE)
    params = odd.init(jax.random.key(0))
    found = bounds.information(odd, params, IMAGES[:1], jax.random.key(1), draws=1)
    assert found.most is None
    features = np.asarray(odd.apply(params, IMAGES))
    through = bounds.channel(odd, GAUSSIAN.at("feature", 1.0))
    names = [bound.name for bound in bounds.evaluate(through, found, IMAGES, features, bits=1e6)]
    assert names == ["rate", "Cramer-Rao", "van Trees", "two-point", "Fano"]


def test_sampled_spectra_give_nearly_the_bound_of_calculated_ones(monkeypatch, known):
    monkeypatch.setattr(bounds, "_DENSE_PIXELS", 10)
    sampled = bounds.information(EDGE, PARAMS, IMAGES[:3], jax.random.key(1), draws=2)
    assert sampled.at.values.shape != known.at.values.shape
    for sigma in (0.05, 0.5, 2.0):
        through = Channel(EDGE, "gaussian", sigma)
        exact = bounds.van_trees(through, known.at, 0.1)
        np.testing.assert_allclose(bounds.van_trees(through, sampled.at, 0.1), exact, rtol=0.1)


def test_an_edge_that_forgets_is_known_from_a_sampled_spectrum(monkeypatch):
    """Half of the directions are lost, of which Lanczos' steps see some alone."""
    halved = sequence([("halves", lambda x: x * (jnp.arange(12) < 6)[None, None, :, None])], SHAPE)
    monkeypatch.setattr(bounds, "_DENSE_PIXELS", 10)
    sampled = bounds.information(halved, {}, IMAGES[:2], jax.random.key(0))
    assert sampled.at.values.shape[-1] < SIZE
    assert np.isinf(bounds.cramer_rao(Channel(halved, "gaussian", 1.0), sampled)).all()
    fewer = sequence([("conv", nn.Conv(1, (3, 3), (2, 2))), ("relu", nn.relu)], SHAPE)
    known = bounds.information(fewer, fewer.init(jax.random.key(0)), IMAGES[:2], jax.random.key(0))
    # Steps that see nothing of what is lost: the shape alone tells.
    seen = bounds.Spectrum(np.ones_like(known.at.values), known.at.weights)
    known = dataclasses.replace(known, at=seen)
    assert np.isinf(bounds.cramer_rao(Channel(fewer, "gaussian", 1.0), known)).all()


# --- The error ------------------------------------------------------------------------------------


def test_least_squares_meets_cramer_rao_at_conv1():
    """The bound is exact where the edge is affine: no attacker without bias does better."""
    edge = lenet5().split("conv1")[0]
    params = edge.init(jax.random.key(0))
    sigma, image = 0.01, RNG.uniform(size=(1, 28, 28, 1)).astype(np.float32)
    known = bounds.information(edge, params, image, jax.random.key(1))
    assert known.exact and known.rigorous
    bound = bounds.cramer_rao(Channel(edge, "gaussian", sigma), known)
    map_ = jacobian(edge, image[0], params)
    noise = sigma * RNG.normal(size=(len(map_), 40))
    errors = np.linalg.lstsq(map_, noise, rcond=None)[0]
    assert (errors**2).mean() == pytest.approx(bound.mean(), rel=0.03)


def test_laplace_noise_tells_twice_as_much_as_gaussian_noise_of_its_variance(known):
    gaussian = bounds.van_trees(Channel(EDGE, "gaussian", math.sqrt(2)), known.at, 0.1)
    laplace = bounds.van_trees(Channel(EDGE, "laplace", 1.0), known.at, 0.1)
    assert (laplace < gaussian).all()
    four = bounds.van_trees(Channel(EDGE, "laplace", 2.0, releases=4), known.at, 0.1)
    np.testing.assert_allclose(laplace, four)


def test_where_the_edge_forgets_nobody_is_without_bias(known):
    through = Channel(EDGE, "gaussian", 0.1)
    assert np.isinf(bounds.cramer_rao(through, known)).all()
    (bound,) = [
        b
        for b in bounds.evaluate(through, known, IMAGES, features_of(EDGE, IMAGES), bits=1e5)
        if b.name == "Cramer-Rao"
    ]
    assert math.isnan(bound.value) and "no attacker without bias" in bound.assumptions
    assert "or tells so little of it" in bound.assumptions  # which it is cannot be told


def test_a_bound_that_was_sampled_says_how_often_and_where_that_leads(known):
    through = Channel(EDGE, "gaussian", 0.1)
    found = bounds.evaluate(through, known, IMAGES, features_of(EDGE, IMAGES), bits=1e5)
    (text,) = [b.assumptions for b in found if b.kind == "estimated" and b.name == "van Trees"]
    assert "3 images and 2 dithers of each" in text and "on average is too low" in text
    # The very thing: of more dithers the bound is higher.
    few, many = (
        bounds.information(EDGE, PARAMS, IMAGES[:3], jax.random.key(2), draws=draws).dithered
        for draws in (1, 16)
    )
    errors = [bounds.van_trees(through, spectrum, 0.1).mean() for spectrum in (few, many)]
    assert errors[0] > errors[1]


def test_bounds_are_of_the_dither_that_the_information_is_of():
    wide = bounds.information(AFFINE, PARAMS, IMAGES[:1], jax.random.key(0), dither=0.3)
    through = Channel(AFFINE, "gaussian", 0.1)
    found = bounds.evaluate(through, wide, IMAGES, features_of(AFFINE, IMAGES), bits=40.0)
    rate, trees = (next(b for b in found if b.name == name) for name in ("rate", "van Trees"))
    assert "dither of 0.3" in rate.assumptions and "dither of 0.3" in trees.assumptions
    assert rate.value == pytest.approx(-10 * math.log10(bounds.rate(40.0, SIZE, 0.3)))
    error = bounds.van_trees(through, wide.most, 0.3).mean()
    assert trees.value == pytest.approx(-10 * math.log10(error))


def test_van_trees_is_the_bayes_risk_of_an_affine_edge():
    """Of a Gaussian dither the posterior is known: its variance is the bound."""
    dither, sigma = 0.1, 0.3
    known = bounds.information(AFFINE, PARAMS, IMAGES[:1], jax.random.key(0), dither=dither)
    bound = bounds.van_trees(Channel(AFFINE, "gaussian", sigma), known.most, dither).mean()
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
    """Of 256 draws of a normal distribution, which is the least certain of its variance."""
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
    symbols = np.asarray(jax.vmap(QUANTIZE.symbols, (0, None))(rounded, float(level)))
    assert symbols.min() == 0 and symbols.max() == 2**level - 1
    np.testing.assert_allclose(low + symbols / (2**level - 1) * (high - low), rounded, atol=1e-6)
    cells = symbols[:, 0]
    means = np.array([pixels[cells == cell].mean() if cell in cells else 0 for cell in range(8)])
    error = ((means[cells] - pixels[:, 0]) ** 2).mean()
    bits = bounds.entropy(symbols[:, :1], level)
    assert 0 < bits <= level
    assert bounds.rate(level, 1, dither) <= bounds.rate(bits, 1, dither) <= error


# --- Two points -----------------------------------------------------------------------------------


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
    [("gaussian", (0.5, 2, 8)), ("laplace", (0.5, 2, 8)), ("dropout", (0.5, 0.9, 0.99))],
)
def test_two_points_bound_the_best_that_can_be_made_of_them(noise, scales):
    features = np.maximum(RNG.normal(size=(2, 30)), 0) * np.array([[1.0]])
    images = IMAGES[:2]
    for scale in scales:
        through = Channel(EDGE, noise, scale)
        bound = bounds.two_point(through, images, features)
        risk = bayes_risk_of_two(through, *features, images)
        assert bound <= risk * 1.05 + 1e-6
        if noise == "gaussian" and scale > 1:  # else errors are too rare to be simulated
            assert bound == pytest.approx(risk, rel=0.08)


def test_of_images_that_look_the_same_one_can_only_guess():
    same = np.ones((2, 5))
    bound = bounds.two_point(Channel(EDGE, "gaussian", 1.0), IMAGES[:2], same)
    assert bound == pytest.approx(((IMAGES[0] - IMAGES[1]) ** 2).mean() / 4)


def test_pairs_are_those_that_tell_most():
    """An image is best mistaken for one that is far away and whose features are near."""
    images = np.zeros((4, *SHAPE), np.float32)
    images[2:] = 1
    features = np.array([[0.0], [50.0], [0.0], [50.0]])
    bound = bounds.two_point(Channel(EDGE, "gaussian", 1.0), images, features)
    assert bound == pytest.approx(0.25)


# --- Re-identification ----------------------------------------------------------------------------


@pytest.mark.parametrize("noise", ["gaussian", "laplace"])
def test_nobody_finds_more_than_fano_allows(noise):
    rng = np.random.default_rng(2)
    features = rng.normal(size=(50, 20))
    last = 1.1
    for scale in (0.3, 1.0, 3.0, 10.0, 100.0):
        bound = bounds.fano(Channel(EDGE, noise, scale), features)
        draw = rng.normal if noise == "gaussian" else rng.laplace
        seen = features[:, None] + scale * draw(size=(50, 200, 20))
        apart = np.abs(seen[:, :, None] - features) ** (2 if noise == "gaussian" else 1)
        found = apart.sum(axis=-1).argmin(axis=-1) == np.arange(50)[:, None]
        assert found.mean() <= bound <= last
        last = bound
    assert last < 0.15  # chance is .02; the bound tells something
    assert bounds.fano(Channel(EDGE, noise, 1e-3), features) == 1


@pytest.mark.parametrize("count", [2, 3, 10, 50, 1000])
def test_where_nothing_is_told_one_can_only_guess_who_it_is(count):
    found = bounds.fano(Channel(EDGE, "gaussian", 1.0), np.ones((count, 3)))
    assert found == pytest.approx(1 / count, abs=1e-6)


def test_equal_images_are_one_to_be_found(known):
    """Either counts as found: who cannot tell them apart finds both."""
    twice = np.concatenate([IMAGES, IMAGES[:6]])
    np.testing.assert_array_equal(bounds.distinct(twice), np.arange(len(IMAGES)))
    through = Channel(EDGE, "gaussian", 10.0)

    def fano(images):
        found = bounds.evaluate(through, known, images, features_of(EDGE, images), bits=1e5)
        return next(bound for bound in found if bound.name == "Fano")

    assert fano(twice).value == pytest.approx(fano(IMAGES).value)
    assert "each of 12 test images" in fano(twice).assumptions
    assert "equal images are one" in fano(twice).assumptions
    assert "equal" not in fano(IMAGES).assumptions
    assert "attacks are on the first" in fano(IMAGES).assumptions


def test_dropout_certifies_nothing_of_retrieval():
    assert bounds.fano(Channel(EDGE, "dropout", 0.9), np.ones((5, 3))) == 1


def test_the_noise_that_is_wanted_is_the_least():
    features = np.random.default_rng(3).normal(size=(40, 10))
    sigma = bounds.reid_sigma(features, 0.25)
    assert bounds.fano(Channel(EDGE, "gaussian", sigma), features) <= 0.25
    assert bounds.fano(Channel(EDGE, "gaussian", 0.99 * sigma), features) > 0.25
    assert bounds.reid_sigma(features, 0.0) == math.inf


def test_bisection_finds_where_a_bound_falls_to():
    assert bounds.least_noise(lambda scale: 1 / scale, 0.25) == pytest.approx(4, rel=2e-3)
    assert bounds.least_noise(lambda scale: math.nan, 0.25) == math.inf


# --- Attacks against bounds -----------------------------------------------------------------------


def test_no_attack_beats_a_certified_bound(known):
    """On dithered images; and who knows each original does not beat those that allow for that."""
    originals, defense = blobs(40, seed=7), GAUSSIAN.at("feature", 1.0)
    rng = np.random.default_rng(8)
    dithered = (originals + known.dither * rng.normal(size=originals.shape)).astype(np.float32)
    release = Release(EDGE, PARAMS, dithered, defense, jax.random.key(3))
    settings = whitebox.Settings("adam", 100, box=False, hinge=False, scale="mean", tv_weight=0.1)
    learned = adaptive.learn(
        EDGE,
        PARAMS,
        blobs(300, seed=9),
        [defense],
        key=jax.random.key(4),
        fit_steps=30,
        correct=False,
    )
    attacks = {
        "originals": originals,
        "rMLE": whitebox.invert(EDGE, PARAMS, release, settings).images,
        "adaptive": learned.invert([release]).images[0],
    }
    through = bounds.channel(EDGE, defense)
    found = bounds.evaluate(through, known, dithered, features_of(EDGE, dithered), bits=32 * 150)
    certified = [b for b in found if b.kind == "certified" and b.quantity == "psnr"]
    assert {bound.name for bound in certified} == {"rate", "van Trees", "two-point"}
    for name, images in attacks.items():
        reached = -10 * math.log10(((images - dithered) ** 2).mean())
        for bound in certified:
            if name != "originals" or bound.name != "two-point":
                assert not reached > bound.value, (name, bound)
    assert any(bound.value < 30 for bound in certified)  # they are worth something


def test_defences_say_what_noise_they_come_to():
    for mechanism in defenses.MECHANISMS.values():
        assert (mechanism.noise is not None) == (
            mechanism.name in ("gaussian", "laplace", "dropout")
        )
