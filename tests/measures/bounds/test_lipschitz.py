"""Bounds on an edge's information from its layers."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from small_edge import AFFINE, EDGE, IMAGES, SHAPE, jacobian

from jaxinv.defenses import GAUSSIAN
from jaxinv.measures import bounds
from jaxinv.measures.bounds import lipschitz
from jaxinv.networks import max_pool, sequence

RNG = np.random.default_rng(0)


def test_nowhere_does_an_edge_tell_more_than_its_layers_allow(known):
    assert known.rigorous and not known.exact
    first = jacobian(AFFINE, IMAGES[0])
    most = first.T @ first
    most *= known.most.values.max() / np.linalg.eigvalsh(most).max()
    for image in (IMAGES[0], IMAGES[1], RNG.uniform(-1, 2, SHAPE).astype(np.float32)):
        own = jacobian(EDGE, image)
        assert np.linalg.eigvalsh(most - own.T @ own).min() > -1e-4 * most.max()


def test_what_edges_share_is_measured_once(monkeypatch):
    monkeypatch.setattr(lipschitz, "_found", {})
    measured = []

    def eigenvalues(network, params, copies):
        measured.append([*network.cuts])
        return original(network, params, copies)

    original = lipschitz.eigenvalues
    monkeypatch.setattr(lipschitz, "eigenvalues", eigenvalues)
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
        return lipschitz.most(edge, edge.select(params))[0].values.max()

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
    assert lipschitz._most_windows(overlapping, {}) == 9
    assert lipschitz._most_windows(disjoint, {}) == 1


def test_an_unknown_layer_has_no_constant():
    odd = sequence([("conv", nn.Conv(2, (3, 3))), ("square", jnp.square)], SHAPE)
    params = odd.init(jax.random.key(0))
    found = bounds.information(odd, params, IMAGES[:1], jax.random.key(1), draws=1)
    assert found.most is None
    features = np.asarray(odd.apply(params, IMAGES))
    through = bounds.channel(odd, GAUSSIAN.at("feature", 1.0))
    names = [bound.name for bound in bounds.evaluate(through, found, IMAGES, features, bits=1e6)]
    assert names == ["rate", "Cramer-Rao", "van Trees", "two-point", "Fano"]


def test_constants_are_of_one_size_of_image():
    """A convolution of other images has the same equations and parameters, and another spectrum."""
    layers, found = [("conv", nn.Conv(1, (3, 3), use_bias=False)), ("relu", nn.relu)], []
    for side in (4, 6):
        network = sequence(layers, (side, side, 1))
        params = {"conv": {"kernel": jnp.ones((3, 3, 1, 1))}}
        found.append(lipschitz.most(network, params)[0])
    assert [spectrum.values.size for spectrum in found] == [16, 36]
