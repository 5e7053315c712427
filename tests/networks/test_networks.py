"""Networks: names and shapes, the two halves of every cut, and what a user's own layers get."""

import functools

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import networks
from jaxinv.errors import UsageError, UserError
from jaxinv.networks import Layer, cifar_cnn, for_images, lenet5, max_pool

LENET5 = {
    "conv1": (24, 24, 8),
    "relu1": (24, 24, 8),
    "pool1": (12, 12, 8),
    "conv2": (8, 8, 16),
    "relu2": (8, 8, 16),
    "pool2": (4, 4, 16),
    "fc1": (120,),
    "relu3": (120,),
    "fc2": (84,),
    "relu4": (84,),
    "fc3": (10,),
}
CIFAR_CNN = {
    "conv11": (32, 32, 64),
    "relu11": (32, 32, 64),
    "conv12": (32, 32, 64),
    "relu12": (32, 32, 64),
    "pool1": (16, 16, 64),
    "conv21": (16, 16, 128),
    "relu21": (16, 16, 128),
    "conv22": (16, 16, 128),
    "relu22": (16, 16, 128),
    "pool2": (8, 8, 128),
    "conv31": (8, 8, 128),
    "relu31": (8, 8, 128),
    "conv32": (8, 8, 128),
    "relu32": (8, 8, 128),
    "pool3": (4, 4, 128),
    "fc1": (512,),
    "sigmoid1": (512,),
    "fc2": (10,),
}
BUILT_IN = {"lenet5": (lenet5, LENET5), "cifar_cnn": (cifar_cnn, CIFAR_CNN)}
ALL_CUTS = [(net, cut) for net, (_, shapes) in BUILT_IN.items() for cut in shapes]


@functools.cache
def trained(name):
    """A network, its parameters with biases that are not zero, and a batch of images."""
    network = BUILT_IN[name][0]()
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda p: p + 0.01 * rng.standard_normal(p.shape).astype("f"),
        jax.jit(network.init)(jax.random.key(0)),
    )
    return network, params, jnp.asarray(rng.random((3, *network.input_shape), "f"))


@functools.cache
def outputs(name):
    network, params, x = trained(name)
    return np.asarray(network.apply(params, x))


@pytest.mark.parametrize(("name", "cut"), ALL_CUTS)
def test_cloud_of_edge_is_the_network(name, cut):
    network, params, x = trained(name)
    edge, cloud = network.split(cut)
    features = edge.apply(edge.select(params), x)
    assert features.shape == (3, *BUILT_IN[name][1][cut]) == (3, *edge.output_shape)
    assert cloud.input_shape == edge.output_shape
    assert edge.cuts + cloud.cuts == network.cuts
    result = cloud.apply(cloud.select(params), features)
    np.testing.assert_array_equal(np.asarray(result), outputs(name))


@pytest.mark.parametrize("name", BUILT_IN)
def test_names_shapes_and_parameters(name):
    network, params, _ = trained(name)
    shapes = BUILT_IN[name][1]
    assert dict(network.shapes) == shapes
    assert network.cuts == tuple(shapes)
    assert network.output_shape == (10,)
    learned = [layer for layer in shapes if layer.startswith(("conv", "fc"))]
    assert list(params) == learned
    for layer in learned:
        assert set(params[layer]) == {"kernel", "bias"}
        assert params[layer]["bias"].shape == (shapes[layer][-1],)


def test_kernels_have_the_papers_sizes():
    for name, conv, size in (("lenet5", "conv2", (5, 5, 8, 16)), ("cifar_cnn", "conv31", None)):
        _, params, _ = trained(name)
        assert params[conv]["kernel"].shape == (size or (3, 3, 128, 128))


def test_fresh_parameters_depend_on_the_key_and_differ_between_layers():
    init = jax.jit(cifar_cnn().init)
    first, again, other = (init(jax.random.key(seed)) for seed in (0, 0, 1))
    kernel = np.asarray(first["conv22"]["kernel"])
    np.testing.assert_array_equal(kernel, again["conv22"]["kernel"])
    assert not np.array_equal(kernel, other["conv22"]["kernel"])
    assert not np.array_equal(kernel, first["conv31"]["kernel"])  # of one shape


def test_lenet5_starts_as_pytorch_does():
    params = jax.jit(lenet5().init)(jax.random.key(3))
    for name, fan_in in (("conv1", 25), ("conv2", 200), ("fc1", 256), ("fc2", 120), ("fc3", 84)):
        for leaf in params[name].values():
            assert np.abs(leaf).max() <= fan_in**-0.5
        assert np.std(params[name]["kernel"]) == pytest.approx((3 * fan_in) ** -0.5, rel=0.15)
    assert np.abs(params["conv1"]["bias"]).min() > 0


@pytest.mark.parametrize("name", BUILT_IN)
def test_normalisation_is_the_first_step(name):
    network, params, x = trained(name)
    mean, std = (np.asarray(constant, "f") for constant in (network.mean, network.std))
    bare = network.without_normalization
    normalised = (np.asarray(x) - mean) / std
    np.testing.assert_allclose(bare.apply(params, normalised), outputs(name), rtol=1e-4, atol=1e-5)
    assert not np.allclose(bare.apply(params, x), outputs(name), rtol=1e-2)


def test_normalisation_constants():
    assert (lenet5().mean, lenet5().std) == ((0.5,), (0.5,))
    assert cifar_cnn().mean == (0.485, 0.456, 0.406)
    assert cifar_cnn().std == (0.229, 0.224, 0.225)
    assert lenet5().split("conv1")[0].mean == (0.5,)
    assert lenet5().split("conv1")[1].mean is None


def test_examples_of_a_batch_are_independent():
    network, params, x = trained("lenet5")
    np.testing.assert_allclose(network.apply(params, x[1:2]), outputs("lenet5")[1:2], atol=1e-5)


@pytest.mark.parametrize("spelling", ["ReLU2", "relu2", "RELU2"])
def test_resolve_takes_the_papers_spelling(spelling):
    assert lenet5().resolve(spelling) == "relu2"
    assert lenet5().split(spelling)[0].cuts[-1] == "relu2"


def test_resolve_suggests_what_was_meant():
    with pytest.raises(UsageError, match="^split=conv3: .*did you mean conv") as caught:
        lenet5().resolve("conv3")
    assert caught.value.exit_code == 2
    assert ", ".join(LENET5) in str(caught.value)
    with pytest.raises(UsageError) as caught:
        lenet5().split("zzzz")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize(("name", "cut"), ALL_CUTS)
def test_before_rectifier(name, cut):
    network, params, x = trained(name)
    edge = network.split(cut)[0]
    before = edge.before_rectifier()
    if not cut.startswith(("relu", "pool")):
        assert before is None
        return
    result = before.apply(params, x)
    assert result.min() < 0
    np.testing.assert_array_equal(nn.relu(result), edge.apply(params, x))
    assert edge.rectifier_limit == np.inf


def test_networks_of_a_network_are_made_once():
    """Programs compiled for them are kept by who they are."""
    edge = networks.lenet5().split("pool2")[0]
    assert edge.before_rectifier() is edge.before_rectifier()
    assert edge.without_normalization is edge.without_normalization


def test_before_rectifier_needs_a_rectifier():
    assert networks.sequence([("pool", max_pool)], (4, 4, 1)).before_rectifier() is None
    assert networks.sequence([("a", nn.relu), ("b", nn.tanh)], (4,)).before_rectifier() is None


def test_select_keeps_the_layers_of_a_half():
    network, params, _ = trained("lenet5")
    edge, cloud = network.split("pool1")
    assert list(edge.select(params)) == ["conv1"]
    assert list(cloud.select(params)) == ["conv2", "fc1", "fc2", "fc3"]
    assert edge.select(params)["conv1"]["kernel"] is params["conv1"]["kernel"]


def test_cut_after_the_last_layer_leaves_an_identity():
    network, params, x = trained("lenet5")
    cloud = network.split("fc3")[1]
    assert cloud.cuts == ()
    assert cloud.output_shape == (10,)
    logits = network.apply(params, x)
    np.testing.assert_array_equal(cloud.apply({}, logits), logits)


def test_is_affine():
    assert lenet5().split("conv1")[0].is_affine
    assert not lenet5().split("relu1")[0].is_affine
    assert cifar_cnn().split("conv11")[0].is_affine
    assert not cifar_cnn().split("conv12")[0].is_affine


class Residual(nn.Module):
    @nn.compact
    def __call__(self, x):
        return x + nn.Conv(x.shape[-1], (3, 3), name="inner")(x)


def test_a_network_of_linen_modules():
    network = networks.sequence(
        [
            ("stem", nn.Conv(4, (3, 3), strides=2)),
            ("block", Residual()),
            ("Act", nn.relu),
            ("flat", lambda x: x.reshape(len(x), -1)),
            ("head", nn.Dense(5)),
        ],
        (8, 8, 3),
    )
    params = network.init(jax.random.key(0))
    assert list(params) == ["stem", "block", "head"]
    assert set(params["block"]["inner"]) == {"kernel", "bias"}
    assert network.shapes["stem"] == (4, 4, 4)
    assert network.resolve("act") == "Act"
    x = jnp.asarray(np.random.default_rng(1).random((2, 8, 8, 3), "f"))
    expected = Residual().apply(
        {"params": params["block"]},
        nn.Conv(4, (3, 3), strides=2).apply({"params": params["stem"]}, x),
    )
    edge, cloud = network.split("block")
    np.testing.assert_allclose(edge.apply(params, x), expected, rtol=1e-5, atol=1e-6)
    expected = nn.Dense(5).apply({"params": params["head"]}, nn.relu(expected).reshape(2, -1))
    result = cloud.apply(params, edge.apply(params, x))
    np.testing.assert_allclose(result, expected, rtol=1e-4, atol=1e-6)


def test_a_network_of_pure_functions():
    scale = Layer(
        lambda key, x: {"scale": jnp.full(x.shape[1:], 2.0)},
        lambda params, x: x * params["scale"][None],
    )
    network = networks.sequence([("scale", scale), ("square", jnp.square)], (3,))
    params = network.init(jax.random.key(0))
    assert list(params) == ["scale"]
    result = network.apply(params, jnp.array([[1.0, 2.0, 3.0]]))
    np.testing.assert_allclose(result, [[4.0, 16.0, 36.0]])
    assert network.split("scale")[0].is_affine
    assert not network.is_affine


@pytest.mark.parametrize(("height", "width", "window"), [(4, 6, 2), (5, 7, 2), (7, 9, 3)])
def test_max_pool_is_that_of_flax(height, width, window):
    x = jnp.asarray(np.random.default_rng(0).standard_normal((2, height, width, 3)), jnp.float32)

    def reference(x):
        return nn.max_pool(x, (window, window), (window, window))

    np.testing.assert_array_equal(max_pool(x, window), reference(x))
    weights = jnp.arange(reference(x).size, dtype=jnp.float32).reshape(reference(x).shape)
    ours, theirs = (
        jax.grad(lambda x, pool=pool: (pool(x) * weights).sum())(x)
        for pool in (functools.partial(max_pool, window=window), reference)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_for_images():
    assert for_images((28, 28, 1), 10) is lenet5(num_classes=10)
    assert for_images((32, 32, 3), 7).output_shape == (7,)
    with pytest.raises(UserError, match="64x64x3; known are 28x28x1 or 32x32x3") as caught:
        for_images((64, 64, 3), 10)
    assert caught.value.exit_code == 1
