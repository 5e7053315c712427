"""Programs of Linen, NNX and Equinox modules and of functions: cuts, kinds, refusals."""

import subprocess
import sys
import textwrap

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinv import networks
from jaxinv.errors import UserError
from jaxinv.networks import from_function, from_linen, from_module, sequence


class Block(nn.Module):
    """A residual block of two convolutions with stored statistics."""

    @nn.compact
    def __call__(self, x):
        y = nn.Conv(4, (3, 3), use_bias=False, name="first")(x)
        y = nn.relu(nn.BatchNorm(use_running_average=True, name="norm")(y))
        return nn.relu(x + nn.Conv(4, (3, 3), name="second")(y))


class ResNet(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(4, (3, 3), name="stem")(x))
        for number in range(2):
            x = Block(name=f"block{number}")(x)
        x = nn.max_pool(x, (2, 2), (2, 2))
        return nn.Dense(3, name="head")(x.mean((1, 2)))


class Mixer(nnx.Module):
    def __init__(self, rngs):
        self.conv = nnx.Conv(1, 4, (3, 3), rngs=rngs)
        self.norm = nnx.BatchNorm(4, rngs=rngs)
        self.blocks = nnx.List([nnx.Conv(4, 4, (3, 3), rngs=rngs) for _ in range(2)])
        self.head = nnx.Linear(4, 3, rngs=rngs)

    def __call__(self, x):
        x = nnx.relu(self.norm(self.conv(x)))
        for block in self.blocks:
            x = x + nnx.silu(block(x))
        return self.head(x.mean((1, 2)))


class Channels(eqx.Module):
    """An Equinox network: of one example, channels first."""

    conv: eqx.nn.Conv2d
    mlp: eqx.nn.MLP

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.conv = eqx.nn.Conv2d(1, 4, 3, key=first)
        self.mlp = eqx.nn.MLP(4 * 36, 3, 8, 1, key=second)

    def __call__(self, x):
        return self.mlp(jax.nn.relu(self.conv(x)).ravel())


def linen():
    module = ResNet()
    variables = module.init(jax.random.key(0), jnp.zeros((1, 8, 8, 1)))
    varied = jax.tree.map(lambda leaf: leaf + 0.1, variables["batch_stats"])
    variables = {**variables, "batch_stats": varied}
    return *from_linen(module, variables, (8, 8, 1)), lambda x: module.apply(variables, x)


def of_nnx():
    module = Mixer(nnx.Rngs(0))
    module.eval()
    return *from_module(module, (8, 8, 1)), module


def of_equinox():
    module = Channels(jax.random.key(0))
    dtype = module.conv.weight.dtype  # of 64 bits, if JAX has them
    return *from_module(module, (1, 8, 8)), lambda x: jax.vmap(module)(x.astype(dtype))


MADE = {"linen": linen, "nnx": of_nnx, "equinox": of_equinox}
CUTS = {
    "linen": [
        *("stem", "relu", "block0.first", "block0.norm", "block0.relu", "block0.second"),
        *("block0.add", "block0", "block1", "max_pool", "head"),
    ],
    "nnx": ["conv", "norm", "relu", "blocks.0", "blocks.add", "add", "head"],
    "equinox": ["conv", "relu", "mlp.layers.0", "mlp.layers.relu", "mlp"],
}


@pytest.fixture(scope="module")
def made():
    return {name: make() for name, make in MADE.items()}


def images(network, count=4):
    rng = np.random.default_rng(0)
    return jnp.asarray(rng.random((count, *network.input_shape), "f"))


@pytest.mark.slow
@pytest.mark.parametrize("name", MADE)
def test_a_module_is_cut_anywhere(made, name):
    network, params, reference = made[name]
    x = images(network)
    wanted = np.asarray(reference(x))
    np.testing.assert_allclose(network.apply(params, x), wanted, atol=1e-6)
    assert set(network.cuts) <= set(network.all_cuts)
    assert network.all_cuts[-1] == network.cuts[-1]
    for cut in network.all_cuts[:: max(1, len(network.all_cuts) // 12)]:
        edge, cloud = network.split(cut)
        features = edge.apply(edge.select(params), x)
        assert features.shape == (4, *edge.output_shape) == (4, *cloud.input_shape)
        found = cloud.apply(cloud.select(params), features)
        np.testing.assert_allclose(found, wanted, atol=1e-6, err_msg=cut)


@pytest.mark.parametrize("name", MADE)
def test_cuts_are_named_after_modules(made, name):
    network = made[name][0]
    assert [cut for cut in network.all_cuts if cut in CUTS[name]] == CUTS[name]
    assert all(len(network.split(cut)[0].wire.shapes) == 1 for cut in network.cuts)


def test_two_arrays_cross_inside_a_residual_block(made):
    network, params, reference = made["linen"]
    edge, cloud = network.split("block1.first")
    assert edge.wire.shapes == ((8, 8, 4), (8, 8, 4))
    assert edge.wire.bytes == 2 * 256 * 4
    assert edge.output_shape == (512,)
    assert "block1.first" not in network.cuts
    x = images(network)
    features = edge.apply(params, x)
    first, second = edge.wire.unravel(features)
    np.testing.assert_array_equal(edge.wire.ravel([first, second]), features)
    skip, _ = network.split("block0")
    both = [np.asarray(part) for part in (first, second)]
    assert any(np.array_equal(part, skip.apply(params, x)) for part in both)
    np.testing.assert_allclose(cloud.apply(params, features), reference(x), atol=1e-6)


def test_statistics_are_parameters_of_the_side_that_reads_them(made):
    network, params, _ = made["linen"]
    edge, cloud = network.split("block0")
    assert set(edge.select(params)["batch_stats"]) == {"block0"}
    assert set(cloud.select(params)["batch_stats"]) == {"block1"}
    assert set(cloud.select(params)["params"]) == {"block1", "head"}


def test_one_example_where_the_program_of_one_is_another():
    """Broadcasting to one row leaves no trace, so the numbers of values differ."""

    def with_token(params, x):
        token = jnp.broadcast_to(params["token"][None], (len(x), 1, 4))
        return jnp.concatenate([token, x], axis=1).sum(1)

    network, params = from_function(with_token, {"token": jnp.ones((1, 4))}, (3, 4))
    assert not network.source.takes_one
    x = images(network, 2)
    np.testing.assert_allclose(network.apply(params, x[:1]), network.apply(params, x)[:1])


def test_segments_reach_a_cut_where_two_arrays_cross():
    """The last part has no constant: two arrays of one tell more than either."""

    def residual(params, x):
        first = x @ params["first"]
        return first + nn.relu(first @ params["second"])

    network, _ = from_function(residual, {"first": jnp.eye(3), "second": jnp.eye(3)}, (3,))
    wires = {cut: network.split(cut)[0] for cut in network.all_cuts}
    both = [edge for edge in wires.values() if len(edge.wire.shapes) == 2]
    for edge in both:
        assert edge.segments[-1].network.output_shape == edge.output_shape == (6,)
    assert [edge.segments[-1].kind for edge in both] == ["affine", "other"]


class ReluConv(nn.Conv):
    def __call__(self, x):
        return nn.relu(super().__call__(x))


class ReluDense(nn.Dense):
    def __call__(self, x):
        return jnp.maximum(super().__call__(x), 0)


@pytest.mark.parametrize("module", [ReluConv(2, (3, 3)), ReluDense(2)])
def test_a_subclass_that_ends_in_a_rectifier_is_not_affine(module):
    network = sequence([("layer", module)], (6, 6, 1))
    assert not network.is_affine
    assert network.before_rectifier().is_affine
    assert [segment.kind for segment in network.segments] == ["affine", "rectifier"]


@pytest.mark.parametrize(
    ("function", "affine"),
    [
        (lambda x: 2 * x - x[:, ::-1] + 1, True),
        (lambda x: x.reshape(len(x), -1) @ np.ones((16, 2), "f") / 3, True),
        (lambda x: jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))).mean((1, 2)), True),
        (lambda x: x * x, False),
        (lambda x: 1 / (1 + x), False),
        (nn.silu, False),
        (lambda x: jnp.where(x > 0, x, 0), False),
        (lambda x: x.astype(jnp.int32).astype(jnp.float32), False),
    ],
)
def test_affine_maps(function, affine):
    assert sequence([("map", function)], (4, 4, 1)).is_affine is affine


def test_a_skip_connection_around_a_convolution_is_affine(made):
    class Skip(nn.Module):
        @nn.compact
        def __call__(self, x):
            return x + nn.Conv(1, (3, 3))(x)

    assert sequence([("skip", Skip())], (4, 4, 1)).is_affine


# --- Use ------------------------------------------------------------------------------------------


def test_one_number_normalises_all_channels():
    network = sequence([("a", nn.tanh)], (4, 4, 3), mean=0.5, std=0.25)
    x = images(network)
    np.testing.assert_allclose(network.apply({}, x), np.tanh((x - 0.5) / 0.25), atol=1e-6)


def test_wrong_shapes_and_lacking_parameters_are_told(made):
    network, params, _ = made["linen"]
    with pytest.raises(UserError, match=r"Expected inputs \[N, 8, 8, 1\], got \(2, 9, 8, 1\)"):
        network.apply(params, jnp.zeros((2, 9, 8, 1)))
    with pytest.raises(UserError, match="The parameters lack .*head"):
        network.apply(network.split("block1")[0].select(params), images(network))


# --- Modules among layers -------------------------------------------------------------------------


def test_layers_may_be_modules_that_hold_their_arrays():
    rngs = nnx.Rngs(0)
    network = sequence(
        [
            ("norm", nn.BatchNorm(use_running_average=True)),
            ("flatten", lambda x: x.reshape(len(x), -1)),
            ("nnx", nnx.Linear(16, 8, rngs=rngs)),
            ("eqx", eqx.nn.Linear(8, 2, key=jax.random.key(0))),
        ],
        (4, 4, 1),
    )
    params = network.init(jax.random.key(0))
    assert set(params["nnx"]) == {"kernel", "bias"}
    assert set(params["eqx"]) == {"weight", "bias"}
    assert set(params["norm"]) == {"params", "batch_stats"}
    x = images(network)
    gradient = jax.grad(lambda params: network.apply(params, x).sum())(params)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(gradient["nnx"]))


def test_half_precision_inside():
    network = sequence(
        [("conv", nn.Conv(4, (3, 3), dtype=jnp.bfloat16)), ("relu", nn.relu)], (6, 6, 1)
    )
    params, x = network.init(jax.random.key(0)), images(network)
    edge, cloud = network.split("conv")
    assert edge.wire.dtypes == (jnp.bfloat16,)
    assert edge.wire.bytes == 2 * 6 * 6 * 4
    np.testing.assert_array_equal(
        cloud.apply(params, edge.apply(params, x)), network.apply(params, x)
    )


def test_a_layer_may_have_statistics_and_no_parameters():
    norm = nn.BatchNorm(use_running_average=True, use_scale=False, use_bias=False)
    network = sequence([("norm", norm)], (4,))
    params = network.init(jax.random.key(0))
    assert set(params["norm"]) == {"batch_stats"}
    np.testing.assert_allclose(network.apply(params, jnp.ones((2, 4))), 1.0, atol=1e-4)


def test_a_layer_is_appended():
    layers = [("conv", nn.Conv(2, (3, 3))), ("act", nn.relu)]
    network = sequence(layers, (6, 6, 1), mean=0.5, std=0.5)
    longer = networks.append(network, "head", nn.Dense(3))
    assert longer.cuts == ("conv", "act", "head")
    params, x = longer.init(jax.random.key(0)), images(network)
    np.testing.assert_allclose(
        longer.split("act")[0].apply(params, x), network.apply(params, x), atol=1e-6
    )


# --- Identity -------------------------------------------------------------------------------------


def fingerprint(*layers, **constants):
    named = [(f"layer{number}", layer) for number, layer in enumerate(layers)]
    return sequence(named, (4, 4, 1), **constants).fingerprint


def test_fingerprints_are_of_what_is_computed():
    first = fingerprint(nn.Conv(2, (3, 3)), nn.relu)
    assert first == fingerprint(nn.Conv(2, (3, 3)), nn.relu)
    others = {
        fingerprint(nn.Conv(2, (3, 3)), nn.silu),
        fingerprint(nn.Conv(2, (3, 3), padding="VALID"), nn.relu),
        fingerprint(nn.Conv(2, (3, 3)), nn.relu, mean=0.5, std=0.5),
        fingerprint(lambda x: x * np.ones((1,) * 4, "f"), nn.relu),
        fingerprint(lambda x: x * np.full((1,) * 4, 2, "f"), nn.relu),
        first,
    }
    assert len(others) == 6


def test_an_image_of_another_size_is_another_network():
    layers = [("conv", nn.Conv(2, (3, 3))), ("act", nn.relu)]
    sizes = [sequence(layers, (size, size, 1)).fingerprint for size in (4, 6)]
    sizes += [sequence([], (size,)).fingerprint for size in (4, 6)]
    assert len(set(sizes)) == 4


def test_fingerprints_are_the_same_in_another_process():
    code = """
        import flax.linen as nn
        from jaxinv.networks import sequence
        layers = [("a", nn.Conv(2, (3, 3))), ("b", nn.relu), ("c", nn.softmax), ("d", nn.gelu)]
        print(sequence(layers, (4, 4, 1)).fingerprint)
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    layers = [nn.Conv(2, (3, 3)), nn.relu, nn.softmax, nn.gelu]
    own = sequence(list(zip("abcd", layers, strict=True)), (4, 4, 1)).fingerprint
    assert done.stdout.split()[-1] == own


# --- Convolutions inside modules ------------------------------------------------------------------


class Pair(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = nn.relu(nn.Conv(8, (3, 3), name="a")(x))
        return nn.Conv(8, (3, 3), name="b")(x)


def test_convolutions_inside_a_module_have_the_fast_form():
    """They are the very program that a layer list makes."""
    inside = sequence([("pair", Pair())], (8, 8, 4))
    listed = sequence(
        [("a", nn.Conv(8, (3, 3))), ("act", nn.relu), ("b", nn.Conv(8, (3, 3)))], (8, 8, 4)
    )
    params = inside.init(jax.random.key(0))
    same = params["pair"]
    x = images(inside, 2)

    def text(network, params):
        gradient = jax.grad(lambda x: (network.apply(params, x) ** 2).sum())
        return [eqn.primitive.name for eqn in jax.make_jaxpr(gradient)(x).eqns]

    mine, theirs = text(inside, params), text(listed, same)
    assert "linear_call" in mine or "dot_general" in mine
    assert [name for name in mine if name != "name"] == [name for name in theirs if name != "name"]
    np.testing.assert_array_equal(inside.apply(params, x), listed.apply(same, x))


@pytest.mark.parametrize(
    "options",
    [
        {"strides": 2},
        {"kernel_dilation": 2},
        {"feature_group_count": 2},
        {"padding": "VALID"},
        {"padding": ((2, 0), (1, 3))},
    ],
)
def test_every_convolution_is_that_of_flax(options):
    module = nn.Conv(4, (3, 3), **options)
    variables = module.init(jax.random.key(0), jnp.zeros((1, 9, 9, 2)))
    network, params = from_linen(module, variables, (9, 9, 2))
    x = images(network, 2)
    np.testing.assert_allclose(network.apply(params, x), module.apply(variables, x), atol=1e-5)


def test_channels_first():
    def convolve(params, x):
        return jax.lax.conv_general_dilated(
            x, params["w"], (1, 1), "SAME", dimension_numbers=("NCHW", "OIHW", "NCHW")
        )

    rng = np.random.default_rng(0)
    own = {"w": jnp.asarray(rng.standard_normal((5, 2, 3, 3)), jnp.float32)}
    network, params = from_function(convolve, own, (2, 7, 7))
    x = images(network, 2)
    np.testing.assert_allclose(network.apply(params, x), convolve(own, x), atol=1e-5)
    wanted = jax.grad(lambda x: (convolve(own, x) ** 2).sum())(x)
    found = jax.grad(lambda x: (network.apply(params, x) ** 2).sum())(x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_a_network_is_traced_once_for_a_size_of_batch():
    calls = []

    def function(params, x):
        calls.append(len(x))
        return x * params["w"]

    network, params = from_function(function, {"w": jnp.ones(())}, (3,))
    for _ in range(3):
        network.apply(params, jnp.ones((5, 3)))
        network.split("output")[0].apply(params, jnp.ones((5, 3)))
    assert sorted(calls) == [1, 2, 3, 5]
