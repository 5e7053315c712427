"""Objectives and layers of the defenses that are trained in, against NumPy and closed forms."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.stats
from behind import apply, normal

from jaxinv.constants.trained import NAMES, UNCHANGED
from jaxinv.defenses import (
    BIDO,
    BOTTLENECK,
    CEM,
    CLOAK,
    CODEBOOK,
    DISCO,
    DROPOUT,
    GAUSSIAN,
    MECHANISMS,
    NONE,
    NOPEEK,
    PROJECT,
    QUANTIZE,
    SCA,
    SHAPED,
    TRAINED,
    VIB,
    Lesson,
    Release,
    Shapes,
    clipped_gaussian,
    is_noisy,
    last_noise,
    plan,
    residual,
)
from jaxinv.defenses.trained import (
    bido,
    bottleneck,
    cem,
    cloak,
    codebook,
    decoder,
    disco,
    sca,
    scaled,
    shaped,
    vib,
)
from jaxinv.defenses.training import FIXED, Beginning
from jaxinv.errors import UsageError
from jaxinv.networks import lenet5, sequence

EVERY = pytest.mark.parametrize("mechanism", TRAINED, ids=[each.name for each in TRAINED])
NETWORK = lenet5()
LABELS = np.repeat(np.arange(4), 10).astype("i")


def lesson(features, *, released=None, images=None, labels=LABELS, layer=None, clean=None):
    images = normal(len(features), 4, 4, 1, seed=9) if images is None else images
    clean = features if clean is None else clean
    return Lesson(images, labels, features, clean, clean if released is None else released, layer)


@EVERY
def test_each_tells_its_source_and_its_module_its_equation(mechanism):
    assert mechanism.source and mechanism.unit
    assert len(mechanism.sweep) > 3 and mechanism.sweep[0] == 0


def test_those_that_send_features_as_they_are():
    x = normal(6, 5)
    same = {each.name for each in TRAINED if np.array_equal(apply(each, x, 0.5), x)}
    assert same == UNCHANGED


# --- Objectives -----------------------------------------------------------------------------------


def by_numpy(x, z):
    """Normalised HSIC with Gaussian kernels, float64 (Gretton et al. 2005)."""

    def kernel(values):
        flat = np.asarray(values, np.float64).reshape(len(values), -1)
        squared = ((flat[:, None] - flat[None]) ** 2).sum(axis=-1)
        centre = np.eye(len(flat)) - 1 / len(flat)
        return centre @ np.exp(-squared / squared.mean()) @ centre

    a, b = kernel(x), kernel(z)
    return np.trace(a @ b) / np.sqrt(np.trace(a @ a) * np.trace(b @ b))


def test_dependence_is_the_normalised_criterion():
    x = normal(40, 4, 4, 1)
    z = np.tanh(x.reshape(40, -1)[:, :5]) + 0.3 * normal(40, 5, seed=1)
    assert float(bido.dependence(x, z)) == pytest.approx(by_numpy(x, z), abs=1e-4)
    assert float(bido.dependence(x, x)) == pytest.approx(1, abs=1e-4)
    assert float(bido.dependence(z, 7 * z + 3)) == pytest.approx(1, abs=1e-3)
    assert np.isfinite(jax.grad(bido.dependence, argnums=1)(x, np.zeros((40, 3), "f"))).all()


def test_bido_weighs_the_class_ten_times():
    features = normal(40, 5) + LABELS[:, None]
    own = lesson(features)
    classes = np.eye(4, dtype="f")[LABELS] @ np.eye(4, dtype="f")[LABELS].T
    expected = by_numpy(own.images, features) - 10 * by_numpy(classes, features)
    assert float(BIDO.training.loss(own, {}, jnp.float32(0.3))) == pytest.approx(
        0.3 * expected, abs=2e-3
    )


def test_information_beyond_the_class_is_that_of_pooled_variances():
    clean = normal(40, 6) * np.arange(1, 7, dtype="f") + LABELS[:, None]
    noise = 0.5 * normal(40, 6, seed=1)
    within = sum(10 * clean[each == LABELS].var(axis=0) for each in range(4)) / 36
    least = (noise**2).mean()
    assert least > 0.01 * clean.var(axis=0).mean()
    expected = np.log1p(within / least).mean() / 2
    found = float(cem.information(clean, clean + noise, LABELS))
    assert found == pytest.approx(expected, rel=1e-4)
    assert float(CEM.training.loss(lesson(clean), {}, jnp.float32(2))) == pytest.approx(
        2 * np.log1p(within / (0.01 * clean.var(axis=0).mean())).mean() / 2, rel=1e-4
    )


def test_without_noise_smaller_features_tell_no_less_and_behind_noise_they_do():
    clean, noise = normal(40, 6), normal(40, 6, seed=1)
    alone = [float(cem.information(size * clean, size * clean, LABELS)) for size in (1, 0.01)]
    assert alone[1] == pytest.approx(alone[0], rel=1e-3)
    behind = [float(cem.information(size * clean, size * clean + noise, LABELS)) for size in (1, 3)]
    assert behind[0] < 0.6 * behind[1]


def test_a_class_of_one_image_has_no_variance():
    clean = normal(4, 3)
    assert float(cem.information(clean, clean, np.arange(4))) == pytest.approx(0, abs=1e-5)


def test_divergence_is_the_integral():
    clean = np.array([[0.5, -2.0], [1.0, 3.0]], "f")
    params = {"mean": np.array([0.02, -0.1], "f"), "log_scale": np.array([0.05, -0.03], "f")}

    def integrand(z, u, mean, log_scale):
        own = scipy.stats.norm.logpdf(z, u)
        prior = scipy.stats.norm.logpdf(z, 10 * mean, np.exp(10 * log_scale))
        return np.exp(own) * (own - prior)

    expected = np.mean(
        [
            sum(
                scipy.integrate.quad(integrand, u - 9, u + 9, args=(u, m, s))[0]
                for u, m, s in zip(row, *params.values(), strict=True)
            )
            for row in clean
        ]
    )
    assert float(vib.divergence(lesson(clean), params)) == pytest.approx(expected, rel=1e-4)
    assert float(VIB.training.loss(lesson(clean), params, jnp.float32(0.1))) == pytest.approx(
        0.1 * expected, rel=1e-4
    )


def test_the_error_of_a_decoder_is_in_the_variance_of_the_images():
    shapes = Shapes((8, 8, 1), (4, 4, 3), 10)
    images = np.random.default_rng(0).random((40, 8, 8, 1)).astype("f")
    params = decoder.DECODER.init(jax.random.key(0), shapes)
    own = lesson(normal(40, 4, 4, 3), images=images)
    decoded = decoder._Decoder((8, 8, 1)).apply({"params": params}, own.released)
    expected = ((decoded - images) ** 2).mean() / images.var(axis=0).mean()
    assert float(decoder.error(own, params)) == pytest.approx(float(expected), rel=1e-4)
    assert float(decoder.gain(own, params)) == pytest.approx(max(0, 1 - float(expected)), abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("features", [(4, 4, 3), (7,), (5, 6)])
@pytest.mark.parametrize("image", [(8, 8, 3), (12, 1, 2)])
def test_a_decoder_fits_all_features_and_images(features, image):
    params = decoder.DECODER.init(jax.random.key(0), Shapes(image, features, 10))
    images = np.random.default_rng(0).random((40, *image)).astype("f")
    assert float(decoder.error(lesson(normal(40, *features), images=images), params)) > 0


# --- Layers ---------------------------------------------------------------------------------------


def begun(mechanism, features, level=0.5):
    """The layer as training begins, and what crosses."""
    layer = mechanism.training.layer
    given = Beginning(jnp.asarray(features), jnp.asarray(features), jnp.float32(level))
    params = layer.init(jax.random.key(0), given)
    return layer, params, np.asarray(layer.encode(params, features))


@pytest.mark.parametrize("mechanism", [VIB, CLOAK], ids=["vib", "cloak"])
def test_unit_noise_behind_a_scale_is_noise_of_that_scale(mechanism):
    features = 4 * normal(50, 8)
    layer, params, crossing = begun(mechanism, features)
    np.testing.assert_allclose(scaled.scale(params), 0.1 * features.std(), rtol=1e-5)
    params = {**params, "log_scale": np.linspace(-0.1, 0.2, 8).astype("f")}
    scale = np.asarray(scaled.scale(params))
    crossing = np.asarray(layer.encode(params, features))
    noisy = np.stack([apply(mechanism, row, 0.01, seed) for seed, row in enumerate(crossing)])
    error = np.asarray(layer.decode(params, noisy)) - features
    np.testing.assert_allclose(error.std(axis=0) / scale, 1, atol=0.35)
    assert (error / scale).std() == pytest.approx(1, abs=0.1)
    np.testing.assert_array_equal(apply(mechanism, crossing[0], 0), crossing[0])


def test_a_learned_scale_has_gaussian_likelihood_and_combines():
    clean, observed = normal(9), normal(9, seed=1)
    one = jnp.float32(1)
    for level in (1e-4, 0.3):
        given = (clean, observed, jnp.float32(level))
        np.testing.assert_allclose(
            VIB.log_likelihood(*given), GAUSSIAN.log_likelihood(clean, observed, one), rtol=1e-6
        )
        np.testing.assert_allclose(VIB.residual(clean, *given), clean - observed, rtol=1e-5)
        assert VIB.noise_scale(level) == 1
        four = jnp.float32(VIB.combined(level, 4))
        np.testing.assert_allclose(
            VIB.residual(clean, clean, observed, four), 2 * (clean - observed), rtol=1e-5
        )
    assert VIB.at("feature", 0.3).steps[0].grid == GAUSSIAN.at("feature", 1.0).steps[0].grid
    assert VIB.combined(0.0, 4) == 0 and VIB.combined(0.3, 1) == 0.3


def test_cloak_lets_the_mean_scale_grow():
    _, params, crossing = begun(CLOAK, normal(40, 6))
    params = {**params, "log_scale": np.full(6, 0.1, "f")}
    own = lesson(normal(40, 6), layer=params, clean=crossing)
    found = float(CLOAK.training.loss(own, {}, jnp.float32(0.5)))
    assert found == pytest.approx(-0.5, rel=1e-5)
    assert CLOAK.training.part == "cloud"


def test_codes_of_orthogonal_atoms_are_shrunk_projections():
    features = normal(7, 5)
    turned = np.linalg.qr(normal(5, 5, seed=3))[0].astype("f")
    params = {"atoms": 3 * turned, FIXED: {"threshold": jnp.float32(0.4)}}
    found = sca.codes(params, features)
    np.testing.assert_allclose(found, np.maximum(features @ turned.T - 0.4, 0), atol=1e-5)


def test_codes_come_near_the_least_of_their_objective():
    features = np.abs(normal(30, 6))
    _, params, codes = begun(SCA, features, 0.1)
    rows, threshold = np.asarray(sca.atoms(params)), float(params[FIXED]["threshold"])
    assert rows.shape == (12, 6) and codes.shape == (30, 12) and (codes >= 0).all()
    assert threshold == pytest.approx(0.1 * np.linalg.norm(features, axis=1).mean(), rel=1e-4)

    def objective(code):
        return ((features - code @ rows) ** 2).sum(1) / 2 + threshold * code.sum(1)

    least = np.zeros_like(codes)
    for _ in range(5000):
        slope = least @ rows @ rows.T - features @ rows.T + threshold
        least = np.maximum(least - slope / np.linalg.norm(rows, 2) ** 2, 0)
    zero = objective(0 * codes)
    assert (objective(codes) < objective(least) + 0.1 * (zero - objective(least))).all()
    own = lesson(features, clean=codes, layer=params)
    expected = ((features - codes @ rows) ** 2).sum() / (features**2).sum()
    assert float(sca.unexplained(own)) == pytest.approx(expected, rel=1e-3)


@pytest.mark.parametrize(("share", "kept"), [(0.0, 10), (0.25, 8), (0.5, 5), (0.95, 1)])
def test_channels_are_pruned_whole_and_by_the_image(share, kept):
    features = 0.1 + np.abs(normal(20, 1, 1, 10)) + np.abs(normal(20, 3, 3, 10))
    _, params, crossing = begun(DISCO, features, share)
    left = (crossing != 0).any(axis=(1, 2))
    assert (left == (crossing != 0).all(axis=(1, 2))).all() and (left.sum(axis=1) == kept).all()
    np.testing.assert_array_equal(crossing[crossing != 0], features[crossing != 0])
    if 0 < share < 0.9:
        assert len(np.unique(left, axis=0)) > 1
        gradient = jax.grad(lambda own: disco.mask(own, features).sum())(params)
        assert np.abs(gradient["weights"]).max() > 0


def test_a_bottleneck_begins_with_the_largest_components():
    hidden = normal(400, 2) * [3, 1]
    features = (hidden @ normal(2, 8, seed=1) + 2).astype("f")
    layer, params, crossing = begun(BOTTLENECK, features)
    assert crossing.shape == (400, 2) and crossing.min() > 0 and crossing.max() < 1
    back = np.asarray(layer.decode(params, crossing))
    assert ((back - features) ** 2).mean() < 0.1 * features.var(axis=0).mean()


def test_shaped_noise_is_the_least_of_what_it_minimises():
    rng = np.random.default_rng(0)
    mixed = rng.normal(size=(6, 6))
    features = (rng.normal(size=(4000, 6)) @ mixed).astype("f")
    slopes = (0.1 * rng.normal(size=(4000, 6)) * [1, 2, 0.5, 0.1, 3, 1]).astype("f")
    level = 0.01
    forth, back = (
        np.asarray(each, np.float64)
        for each in shaped.water_filled(features, slopes, jnp.float32(level))
    )
    np.testing.assert_allclose(forth @ back, np.eye(6), atol=1e-4)
    known, needed = np.cov(features.T, bias=True), slopes.T @ slopes / 4000
    needed = needed + 1e-3 * np.trace(needed) / 6 * np.eye(6)

    def cost(noise):
        told = np.linalg.slogdet(np.eye(6) + np.linalg.solve(noise, known))[1]
        return np.trace(needed @ noise) / 2 + level * told / 2

    noise = back.T @ back
    least = cost(noise)
    for seed in range(20):
        step = np.random.default_rng(seed).normal(size=(6, 6))
        moved = noise @ (np.eye(6) + 0.02 * step)
        moved = (moved + moved.T) / 2
        if (np.linalg.eigvalsh(moved) > 0).all():
            assert cost(moved) > least - 1e-7
    isotropic = min(cost(scale * np.eye(6)) for scale in np.geomspace(1e-4, 1e4, 200))
    assert least < 0.95 * isotropic


def test_directions_that_the_cloud_does_not_need_have_noise_too():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(500, 40)) * np.geomspace(0.01, 20, 40)).astype("f")
    features[:, 7] = 0
    slopes = np.zeros((500, 40), "f")
    slopes[:, 30:] = rng.normal(size=(500, 10))
    back = np.asarray(shaped.water_filled(features, slopes, jnp.float32(30))[1], np.float64)
    noise, known = back.T @ back, np.cov(features.T, bias=True)
    told = np.linalg.slogdet(np.eye(40) + np.linalg.solve(noise, known))[1] / 2
    needed = slopes.T @ slopes / 500
    isotropic = np.trace(needed @ noise) / np.trace(needed) * np.eye(40)
    assert told < 0.95 * np.linalg.slogdet(np.eye(40) + np.linalg.solve(isotropic, known))[1] / 2
    assert (np.diag(noise)[:30] > 10 * np.diag(known)[:30]).all()
    assert np.linalg.eigvalsh(noise)[0] > 0


def test_shaped_noise_has_that_covariance_at_the_cloud():
    features = (normal(300, 4) @ normal(4, 4, seed=2)).astype("f")
    layer = SHAPED.training.layer
    given = Beginning(features, 0.1 * normal(300, 4, seed=3), jnp.float32(0.01))
    params = layer.init(jax.random.key(0), given)
    np.testing.assert_allclose(
        layer.decode(params, layer.encode(params, features)), features, atol=1e-3
    )
    noisy = np.stack([apply(SHAPED, np.zeros(4, "f"), 0.01, seed) for seed in range(2000)])
    found = np.cov(np.asarray(layer.decode(params, noisy)).T)
    back = np.asarray(params[FIXED]["back"])
    np.testing.assert_allclose(found, back.T @ back, rtol=0.2, atol=0.05 * np.abs(found).max())


@pytest.mark.parametrize("bits", [1, 2, 8])
def test_values_of_a_bottleneck_are_few(bits):
    x = np.random.default_rng(0).random((40, 6)).astype("f")
    made = apply(BOTTLENECK, x, bits)
    steps = 2**bits - 1
    np.testing.assert_allclose(made * steps, np.round(x * steps), atol=1e-4)
    gradient = jax.grad(lambda x: bottleneck._apply(None, x, jnp.float32(bits)).sum())(x)
    np.testing.assert_array_equal(gradient, 1)


@pytest.mark.parametrize("bits", [1, 3, 6])
def test_releases_of_a_codebook_are_two_to_its_bits(bits):
    x = np.random.default_rng(0).random((3000, 16)).astype("f")
    made = np.asarray(jax.vmap(lambda row: codebook._apply(None, row, jnp.float32(bits)))(x))
    assert len(np.unique(made, axis=0)) == 2**bits
    np.testing.assert_array_equal(made[:, :bits], np.round(x[:, :bits]))
    np.testing.assert_array_equal(made[:, bits:], 0.5)
    assert CODEBOOK.coding.sent(16, bits) == bits
    slope = jax.grad(lambda row: codebook._apply(None, row, jnp.float32(bits)).sum())(x[0])
    np.testing.assert_array_equal(slope, [1] * bits + [0] * (16 - bits))


def test_a_codebook_begins_with_planes_that_the_logits_need():
    features, slopes = normal(600, 2, 2, 5), normal(600, 2, 2, 5, seed=1)
    slopes[:, :, :, 1:] = 0
    given = Beginning(features, slopes, jnp.float32(6))
    layer = CODEBOOK.training.layer
    params = layer.init(jax.random.key(0), given)
    crossing = np.asarray(layer.encode(params, features))
    assert crossing.shape == (600, 16) and crossing.min() > 0 and crossing.max() < 1
    np.testing.assert_allclose((crossing > 0.5).mean(axis=0), 0.5, atol=0.1)
    others = features.copy()
    others[:, :, :, 1:] += 1
    np.testing.assert_array_equal(layer.encode(params, others), crossing)
    # The map back is the least squares: the codes explain nothing of what it leaves.
    codes = np.asarray(jax.vmap(lambda row: codebook._apply(None, row, jnp.float32(6)))(crossing))
    left = features - np.asarray(layer.decode(params, codes))
    apart = codes - codes.mean(axis=0)
    shared = apart.T @ left.reshape(600, -1) / 600
    before = apart.T @ features.reshape(600, -1) / 600
    assert np.abs(shared).max() < 0.1 * np.abs(before).max()
    assert np.abs(left.mean(axis=0)).max() < 1e-4


def test_a_value_on_the_side_of_its_bit_fits():
    clean, observed = jnp.array([0.9, 0.4, 0.9, 0.1]), jnp.array([1.0, 1.0, 0.0, 0.5])
    found = CODEBOOK.residual(clean, clean, observed, jnp.float32(3))
    logits = np.log([0.6 / 0.4, 0.9 / 0.1])
    np.testing.assert_allclose(found, [0, *4 * logits, 0], rtol=1e-5)
    # However sure the edge is, there is a slope back to the side that was observed.
    wrong = jax.grad(lambda x: CODEBOOK.residual(x, x, observed, jnp.float32(3)).sum())(clean)
    assert (np.abs(wrong[1:3]) > 1).all()
    exact = CODEBOOK.residual(clean, clean, clean + 1e-4, jnp.float32(0))
    assert (np.abs(exact) > 10).all()


KEY = jax.random.key(0)
CODED = [each for each in MECHANISMS.values() if each.coding]


@pytest.mark.parametrize("mechanism", CODED, ids=lambda each: each.name)
def test_outputs_are_no_more_than_their_coding_says_whatever_the_input(mechanism):
    level, count = 1.0, 3
    rows = [
        *itertools.product([-np.inf, -1e30, 0, 0.3, 0.5, 0.7, 1, 1e30, np.inf, np.nan], repeat=3)
    ]
    x = np.array(rows, "f")
    if mechanism is QUANTIZE:  # between an example's least and greatest, which are sent, too
        x = x[np.isfinite(x).all(axis=1)]
        x = np.column_stack([np.tile([[0, 1]], (len(x), 1)), np.clip(x, 0, 1)]).astype("f")
    made = np.asarray(jax.vmap(lambda row: mechanism.apply(KEY, row, jnp.float32(level)))(x))
    beside = mechanism.coding.sent(0, level)
    assert len(np.unique(made, axis=0)) <= 2 ** (mechanism.coding.sent(count, level) - beside)
    own = dataclasses.replace(mechanism, code="mine")
    assert mechanism.at("feature", level).coded_bits(count) == mechanism.coding.sent(count, level)
    assert own.at("feature", level).coded_bits(count) == np.inf  # nobody checked it


def test_bits_are_those_of_the_step_that_has_the_fewest():
    code, noise = CODEBOOK.at("feature", 6), GAUSSIAN.at("feature", 0.1)
    rounded = QUANTIZE.at("feature", 4)
    for defense in (code, code + noise, code + NOPEEK.at("feature", 1), code + rounded):
        assert defense.coded_bits(16) == 6
    assert (noise + rounded).coded_bits(16) == 64 + 64
    for defense in (noise, CODEBOOK.at("feature", 0), QUANTIZE.at("input", 2), NONE):
        assert defense.coded_bits(16) == np.inf


@pytest.mark.slow
@pytest.mark.parametrize("level", [1, 3])
def test_an_edge_with_a_codebook_sends_two_to_its_bits(level):
    defense = CODEBOOK.at("feature", level)
    planned = plan(NETWORK, "relu2", defense.structure)
    base = jax.jit(NETWORK.init)(jax.random.key(0))
    images = np.random.default_rng(0).random((200, 28, 28, 1)).astype("f")
    edge = planned.network.split(planned.cut)[0]
    features = np.asarray(NETWORK.split("relu2")[0].apply(base, images))
    slopes = np.random.default_rng(1).normal(size=features.shape).astype("f")
    (params,) = planned.start(base, features, slopes, np.array([[level]], "f"), KEY)
    sent = Release(edge, params, images, defense, KEY)[np.arange(200)]
    assert 1 < len(np.unique(sent, axis=0)) <= 2**level


# --- In a network ---------------------------------------------------------------------------------


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("cut", ["relu2", "fc1"])
def test_the_cloud_takes_what_the_edge_sends(mechanism, cut):
    planned = plan(NETWORK, cut, mechanism.at("feature", mechanism.sweep[1]).structure)
    assert planned is plan(NETWORK, cut, mechanism.at("feature", mechanism.sweep[2]).structure)
    base = jax.jit(NETWORK.init)(jax.random.key(0))
    images = np.random.default_rng(0).random((5, 28, 28, 1)).astype("f")
    features = np.asarray(NETWORK.split(cut)[0].apply(base, images))
    levels = np.array([mechanism.sweep[1:3]], "f").T
    starts = planned.start(base, features, features, levels, jax.random.key(1))
    edge, cloud = planned.network.split(planned.cut)
    for params in starts:
        crossing = edge.apply(params, images)
        assert cloud.apply(params, crossing).shape == (5, 10)
        if mechanism.training.layer in (None, scaled.LAYER, SHAPED.training.layer):
            np.testing.assert_allclose(
                cloud.apply(params, crossing), NETWORK.apply(base, images), atol=1e-4
            )
    assert (planned.cut == cut) == (mechanism.training.layer is None)


def test_a_layer_ends_the_edge():
    noise, layer = GAUSSIAN.at("feature", 1), SCA.at("feature", 0.1)
    assert plan(NETWORK, "relu2", (GAUSSIAN.at("input", 1) + layer + noise).structure).number == 1
    with pytest.raises(UsageError, match=r"gaussian\+sca: sca ends the edge"):
        plan(NETWORK, "relu2", (noise + layer).structure)
    with pytest.raises(UsageError, match=r"sca\+vib: expected one"):
        plan(NETWORK, "relu2", (layer + VIB.at("feature", 1)).structure)
    assert plan(NETWORK, "relu2", (NOPEEK.at("feature", 1) + noise).structure).layer is None


def test_clip_is_of_the_features_before_a_layer():
    clip = clipped_gaussian(2.0).at("feature", 0.1)
    with pytest.raises(UsageError, match=r"sca\+clip: clip clips to the length of features"):
        plan(NETWORK, "relu2", (SCA.at("feature", 0.1) + clip).structure)
    assert plan(NETWORK, "relu2", (NOPEEK.at("feature", 0.1) + clip).structure).layer is None


@pytest.mark.parametrize("other", [GAUSSIAN, DROPOUT, QUANTIZE], ids=lambda each: each.name)
def test_training_changes_nothing_of_what_another_step_is(other):
    """`cem+gaussian` is Gaussian noise at another edge, for attackers, too."""
    level = 2.0 if other is QUANTIZE else 0.5
    training = CEM.at("feature", 1.0)
    alone, both = other.at("feature", level), training + other.at("feature", level)
    clean, observed = np.abs(normal(4, 6)), np.abs(normal(4, 6, seed=1))
    for releases in (1, 4):
        levels = [np.tile(each.combined(releases), (4, 1)) for each in (alone, both)]
        assert levels[1][0, 1] == levels[0][0, 0] and levels[1][0, 0] == 1
        found = [
            np.asarray(residual(each.structure, clean, clean, observed, own))
            for each, own in zip((alone, both), levels, strict=True)
        ]
        np.testing.assert_array_equal(*found)
    assert is_noisy(both.structure) == is_noisy(alone.structure)
    noise = [last_noise(each) for each in (alone, both, other.at("feature", level) + training)]
    assert noise[0] == noise[1] == noise[2]
    assert not is_noisy(training.structure)


def test_releases_behind_training_are_combined_as_without_it():
    images = np.random.default_rng(0).random((3, 28, 28, 1)).astype("f")
    edge, _ = NETWORK.split("conv1")
    params = jax.jit(NETWORK.init)(jax.random.key(0))
    defense = CEM.at("feature", 1) + DROPOUT.at("feature", 0.6)
    made = Release(edge, params, images, defense, jax.random.key(1), releases=6)
    both = made[np.arange(3)]
    clean = np.asarray(edge.apply(params, images))
    survived = both != 0
    np.testing.assert_allclose(both[survived], clean[survived], rtol=1e-5)
    assert survived.mean() == pytest.approx(1 - 0.6**6, abs=0.02)


@pytest.mark.parametrize("level", [0.0, 1e-6, 1e3])
@pytest.mark.parametrize("size", [1e-3, 1.0, 30.0])
def test_shaped_noise_is_finite_at_any_level_and_size(level, size):
    features, slopes = size * normal(200, 6), size * normal(200, 6, seed=1)
    forth, back = shaped.water_filled(features, slopes, jnp.float32(level))
    assert np.isfinite(forth).all() and np.isfinite(back).all()
    np.testing.assert_allclose(np.asarray(forth) @ np.asarray(back), np.eye(6), atol=1e-3)


def test_an_exact_bottleneck_is_compared_exactly():
    x = np.random.default_rng(0).random((4, 5)).astype("f")
    found = [
        np.abs(BOTTLENECK.residual(x, x, x + 1e-3, jnp.float32(level))).mean()
        for level in (0, 8, 1)
    ]
    assert found[0] > 100 * found[1] > 100 * found[2]
    assert found[1] == pytest.approx(1e-3 * 255 * 12**0.5, rel=1e-3)


def test_channels_that_a_layer_cannot_mix_are_refused():
    wide = sequence([("flat", lambda x: x.reshape(len(x), -1))], (80, 80, 1))
    with pytest.raises(UsageError, match="split=flat: has 6,400 channels, sca takes up to 4,096"):
        plan(wide, "flat", SCA.at("feature", 0.1).structure)
    assert plan(wide, "flat", VIB.at("feature", 0.1).structure).layer


def test_a_defense_that_is_trained_in_says_so():
    assert tuple(each.name for each in TRAINED) == NAMES
    assert CEM.at("feature", 0).describe()["trained"] is True
    assert (GAUSSIAN.at("feature", 1) + NOPEEK.at("feature", 1)).describe()["trained"] is True
    assert "trained" not in PROJECT.at("feature", 0.5).describe()
    assert cloak.CLOAK.at("feature", 0.1).is_trained


def test_a_layer_stands_at_a_cut_whose_name_no_layer_may_have():
    network = sequence([("out", lambda x: jnp.tanh(x.reshape(len(x), -1)) * 2)], (6, 6, 1))
    assert "input+1" in network.all_cuts
    planned = plan(network, "input+1", CODEBOOK.at("feature", 4).structure)
    assert planned.cut == "input_1.codebook" and planned.cut in planned.network.cuts
