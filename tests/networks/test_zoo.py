"""The zoo: sizes as in the papers, names of cuts, the halves of a cut, and any size of images."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import UsageError
from jaxinv.machine import flops
from jaxinv.networks import statistics, zoo
from jaxinv.networks.convolution import computed_as

CUTS = {  # of networks for images of 16 x 16 pixels, in turn: affine, some within, the last
    "lenet5": ("conv1", "pool2", "fc3"),
    "cifar_cnn": ("conv11", "pool2", "fc2"),
    "resnet20": ("stem", "stem.relu", "stage1.block1", "stage2.block1", "stage3.block3", "head"),
    "vgg11": ("conv1", "relu1", "pool4", "relu8", "head"),
    "mobilenet_v2": ("stem", "block1", "block17", "last.relu", "head"),
    "vit_tiny": ("stem", "block1", "block3", "block6", "pool", "head"),
    "mlp": ("fc1", "relu1", "fc2", "fc3"),
    "conv1d": ("conv1", "relu1", "pool2", "fc2"),
}
SHAPES = {
    "resnet20": {"stem": (16, 16, 16), "stage2.block1": (8, 8, 32), "stage3.block3": (4, 4, 64)},
    "vgg11": {"conv1": (16, 16, 64), "pool4": (1, 1, 512)},
    "mobilenet_v2": {"block1": (16, 16, 16), "block17": (2, 2, 320), "pool": (1280,)},
    "vit_tiny": {"stem": (64, 128), "block6": (64, 128)},
    "mlp": {"fc1": (64,), "relu2": (32,)},
    "conv1d": {"conv1": (16, 1, 16), "pool2": (4, 1, 32)},
}


@functools.cache
def built(name):
    """A network for five classes, parameters that nobody trained, and some images or series."""
    shape = (16, 1 if name == "conv1d" else 16, 3)
    network = zoo.build(name, shape, 5)
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(rng.uniform(0.5, 1.5, leaf.shape) / leaf.size**0.5, leaf.dtype),
        jax.eval_shape(network.init, jax.random.key(0)),
    )
    return network, params, jnp.asarray(rng.random((2, *shape), "f"))


@pytest.mark.parametrize(("name", "cut"), [("resnet20", "stage2.block1"), ("vit_tiny", "block3")])
def test_halves_of_a_cut_are_the_network(name, cut):
    network, params, x = built(name)
    edge, cloud = network.split(cut)

    @jax.jit
    def both(params, x):
        features = edge.apply(params, x)
        return network.apply(params, x), cloud.apply(params, features)

    whole, result = both(params, x)
    assert whole.shape == (2, 5)
    np.testing.assert_allclose(result, whole, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.ENTRIES)
def test_cuts(name):
    network = built(name)[0]
    assert [cut for cut in network.cuts if cut in CUTS[name]] == list(CUTS[name])
    assert {cut: network.shapes[cut] for cut in SHAPES.get(name, {})} == SHAPES.get(name, {})
    assert network.cuts[-1] == CUTS[name][-1]
    first, second, *_ = network.cuts
    assert network.split(first)[0].is_affine
    assert not network.split(second)[0].is_affine


@pytest.mark.parametrize(("name", "high"), [("resnet20", np.inf), ("mobilenet_v2", 6)])
def test_rectifiers_behind_batchnorm_are_seen(name, high):
    network, params, x = built(name)
    edge = network.split("stem.relu")[0]
    before = edge.before_rectifier()
    assert edge.rectifier_limit == high
    given = jnp.clip(before.apply(params, x), 0, high)
    np.testing.assert_array_equal(given, edge.apply(params, x))
    block = network.split("stage1.block2" if name == "resnet20" else "block2")[0]
    assert (block.before_rectifier() is not None) == (name == "resnet20")


def count(tree):
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def sizes(network):
    """Returns the number of trained parameters, and that of multiplications and additions."""
    params = jax.eval_shape(network.init, jax.random.key(0))
    held = jax.tree.leaves(statistics.mask(params))
    leaves = zip(jax.tree.leaves(params), held, strict=True)
    x = jax.ShapeDtypeStruct((1, *network.input_shape), jnp.float32)
    with computed_as("lax"):
        done = flops.count(lambda params, x: network.apply(params, x), params, x)
    return sum(leaf.size for leaf, is_held in leaves if not is_held), done / 2e6


def test_resnet20_has_the_papers_size():
    parameters, products = sizes(zoo.resnet20())
    assert parameters == 269_722
    assert 36 < products < 42  # 41 M with those that padding multiplies by zero


def test_mobilenet_v2_has_the_papers_size():
    parameters, products = sizes(zoo.mobilenet_v2(num_classes=1000))
    assert parameters == 3_504_872
    assert 300 < products < 330


def test_vgg11_has_the_papers_size():
    parameters, products = sizes(zoo.vgg11(num_classes=1000))
    assert parameters == 132_868_840
    assert 7200 < products < 7700


def test_vit_tiny_has_the_papers_size():
    """The paper's has a class token more, with an offset."""
    network = zoo.vit_tiny(num_classes=1000)
    assert network.shapes["stem"] == (196, 192)
    params = jax.eval_shape(network.init, jax.random.key(0))
    assert count(params) == 5_717_416 - 2 * 192


@pytest.mark.parametrize(("side", "tokens"), [(8, 64), (28, 49), (30, 64), (64, 64), (96, 196)])
def test_tokens_of_images_of_any_size(side, tokens):
    layer = zoo.transformer.patches((side, side, 1))
    out = jax.eval_shape(layer.init_with_output, jax.random.key(0), jnp.zeros((1, side, side, 1)))
    assert out[0].shape[1] == tokens


@pytest.mark.parametrize("name", ["lenet5", "cifar_cnn"])
def test_networks_of_the_paper_take_larger_images(name):
    network = zoo.build(name, (40, 24, 1), 3)
    assert network.output_shape == (3,)
    assert len(network.mean) == 1
    assert network is zoo.build(name, [40, 24, 1], 3)


def test_large_images_pass_a_strided_stem():
    layers = zoo.resnet20((96, 65, 3), 2).shapes
    assert layers["stem"] == (48, 33, 16) and layers["stem.pool"] == (24, 17, 16)


def test_means_on_a_grid_are_pytorchs():
    x = jnp.asarray(np.random.default_rng(0).random((2, 10, 3, 4), "f"))
    found = zoo.vgg.mean_on_grid(x)
    assert found.shape == (2, 7, 7, 4)
    np.testing.assert_allclose(found[:, 1, 2], x[:, 1:3, 0:2].mean((1, 2)), rtol=1e-5)
    np.testing.assert_allclose(found[:, 6, 6], x[:, 8:, 2].mean(1), rtol=1e-5)


@pytest.mark.parametrize(("name", "shape"), [("lenet5", (15, 28, 1)), ("cifar_cnn", (32, 7, 3))])
def test_images_that_are_too_small_are_refused(name, shape):
    with pytest.raises(UsageError, match=f"^network={name}: takes images .* at least"):
        zoo.build(name, shape)


def test_only_images_are_taken():
    with pytest.raises(UsageError, match="^network=resnet20: takes images"):
        zoo.resnet20((32, 32))
    with pytest.raises(UsageError, match="^network=resnet: expected one of lenet5, cifar_cnn, "):
        zoo.build("resnet")
