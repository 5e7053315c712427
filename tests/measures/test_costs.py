import functools
import math

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.defenses import (
    BOTTLENECK,
    CODEBOOK,
    DROPOUT,
    GAUSSIAN,
    NONE,
    NOPEEK,
    PROJECT,
    PRUNE,
    QUANTIZE,
    Mechanism,
    plan,
)
from jaxinv.measures import costs
from jaxinv.networks import cifar_cnn, from_function, lenet5, max_pool, sequence

TINY = sequence(
    [
        ("conv", nn.Conv(2, (3, 3))),
        ("relu", nn.relu),
        ("pool", max_pool),
        ("fc", nn.DenseGeneral(5, axis=(-3, -2, -1))),
    ],
    (4, 4, 1),
    mean=(0.5,),
    std=(0.5,),
)


def taps(size, kernel, padding):
    """Pairs of a place and a tap inside the image, along one axis."""
    if padding == "VALID":
        return kernel * (size - kernel + 1)
    half = kernel // 2
    return sum(0 <= place + tap < size for place in range(size) for tap in range(-half, half + 1))


def hand_counts(network, spec):
    """Operations of each layer, counted by hand: `spec` is (kind, kernel, padding) of each."""
    shape = network.input_shape
    counts = {}
    for name, (kind, kernel, padding) in zip(network.cuts, spec, strict=True):
        out = network.shapes[name]
        values = math.prod(out)
        if kind == "conv":
            pairs = taps(shape[0], kernel, padding) * taps(shape[1], kernel, padding)
            counts[name] = 2 * pairs * shape[2] * out[2] + values
        elif kind == "dense":
            counts[name] = 2 * math.prod(shape) * values + values
        elif kind == "pool":
            counts[name] = 3 * values
        else:
            counts[name] = values
        shape = out
    return counts


LENET = [
    *(("conv", 5, "VALID"), ("relu", 0, ""), ("pool", 0, "")) * 2,
    *(("dense", 0, ""), ("relu", 0, "")) * 2,
    ("dense", 0, ""),
]
CIFAR = [
    *(*(("conv", 3, "SAME"), ("relu", 0, "")) * 2, ("pool", 0, "")) * 3,
    *(("dense", 0, ""), ("sigmoid", 0, ""), ("dense", 0, "")),
]


@pytest.mark.parametrize("make, spec", [(lenet5, LENET), (cifar_cnn, CIFAR)])
def test_flops_are_those_that_a_hand_counts(make, spec):
    network = make()
    counts = hand_counts(network, spec)
    done = 2 * math.prod(network.input_shape)  # normalisation
    total = done + sum(counts.values())
    cloud_only, *rows, edge_only = costs.split_costs(network)
    for row in rows:
        done += counts[row.split]
        assert row.edge_flops == pytest.approx(done, rel=0.02)
        assert row.edge_flops + row.cloud_flops == pytest.approx(total, rel=0.02)
    assert cloud_only.cloud_flops == edge_only.edge_flops == pytest.approx(total, rel=0.02)
    assert cloud_only.edge_flops == edge_only.cloud_flops == 0


def test_parameters_memory_and_bytes_are_those_of_the_layers():
    cloud_only, conv, relu, pool, fc, edge_only = costs.split_costs(TINY)
    parameters = [row.edge_parameters for row in (cloud_only, conv, relu, pool, fc, edge_only)]
    assert parameters == [0, 20, 20, 20, 65, 65]
    # 16 pixels and 32 features; the rectifier works in place; 32 and 8; 8 and 5.
    assert [row.activation_bytes for row in (conv, relu, pool, fc)] == [192, 192, 192, 192]
    assert conv.memory_bytes == 192 + 80
    assert [row.sent_bytes for row in (cloud_only, conv, relu, pool, fc, edge_only)] == [
        *(16, 128, 128, 32, 20, 0)
    ]
    assert conv.features == (4, 4, 2)


def test_later_cuts_ask_more_of_the_edge():
    for network in (lenet5(), cifar_cnn()):
        rows = costs.split_costs(network)
        for key in ("edge_flops", "edge_parameters", "memory_bytes"):
            values = [getattr(row, key) for row in rows]
            assert values == sorted(values)


def test_one_image_costs_one_where_it_is_computed_as_two():
    def with_token(params, x):
        token = jnp.broadcast_to(params["token"][None], (len(x), 4))
        return jnp.concatenate([token, x], axis=1) @ params["kernel"]

    ones = functools.partial(jnp.ones, dtype=jnp.float32)
    params = {"token": ones(4), "kernel": ones((7, 5))}
    network, params = from_function(with_token, params, (3,))
    assert not network.source.takes_one
    assert costs.split_costs(network, params)[0].cloud_flops == 2 * 7 * 5


def test_layers_without_arithmetic_cost_none():
    flat = sequence([("flat", lambda x: x.reshape(len(x), -1)), ("fc", nn.Dense(3))], (4, 4, 1))
    assert [row.edge_flops for row in costs.split_costs(flat)] == [0, 0, 99, 99]


@pytest.mark.parametrize(
    "defense, expected",
    [
        (NONE, 400),
        (GAUSSIAN.at("feature", 1), 400),
        (QUANTIZE.at("feature", 3), 38 + 8),
        (QUANTIZE.at("feature", 0), 400),
        (QUANTIZE.at("input", 3), 400),
        (PRUNE.at("feature", 0.9), 13 + 40),
        (PRUNE.at("feature", 0.01), 400),  # the bitmap would cost more than it saves
        (DROPOUT.at("feature", 0.5), 13 + 200),
        (PROJECT.at("feature", 0.75), 100),
        (GAUSSIAN.at("feature", 1) + QUANTIZE.at("feature", 1), 13 + 8),
        (DROPOUT.at("input", 0.5) + PROJECT.at("feature", 0.5), 200),
        (PRUNE.at("feature", 0.9) + PRUNE.at("feature", 0.5), 13 + 40),
        (PRUNE.at("feature", 0.9) + QUANTIZE.at("feature", 8), 13 + 40),
        (QUANTIZE.at("feature", 1) + GAUSSIAN.at("feature", 1), 400),  # noise is not quantised
        (QUANTIZE.at("feature", 1) + GAUSSIAN.at("feature", 0), 13 + 8),
        (QUANTIZE.at("feature", 1) + NOPEEK.at("feature", 1), 13 + 8),
        (QUANTIZE.at("feature", 1) + DROPOUT.at("feature", 0.5), 13 + 8 + 13),  # zero is new
        (QUANTIZE.at("feature", 8) + DROPOUT.at("feature", 0.95), 13 + 20),
        (QUANTIZE.at("feature", 8) + PRUNE.at("feature", 0.95), 13 + 20),
        (QUANTIZE.at("feature", 1) + PRUNE.at("feature", 0.5), 13 + 8 + 13),
        (DROPOUT.at("feature", 0.9) + GAUSSIAN.at("feature", 1), 400),
        (PRUNE.at("feature", 0.9) + PROJECT.at("feature", 0.5), 200),
        (PROJECT.at("feature", 0.9) + QUANTIZE.at("feature", 8), 100 + 8),
        (CODEBOOK.at("feature", 6), 1),
        (CODEBOOK.at("feature", 12), 2),
        (CODEBOOK.at("feature", 6) + GAUSSIAN.at("feature", 1), 400),
        (CODEBOOK.at("feature", 6) + DROPOUT.at("feature", 0.5), 1 + 13),
        (Mechanism("own", lambda key, x, level: x).at("feature", 1), 400),
    ],
)
def test_bytes_behind_a_defense(defense, expected):
    assert costs.sent_bytes((5, 5, 4), defense.describe()) == expected


def test_a_layer_of_a_defense_is_paid_for():
    network = lenet5()
    params = jax.jit(network.init)(jax.random.key(0))
    made = plan(network, "relu2", BOTTLENECK.at("feature", 2).structure)
    features = np.random.default_rng(0).random((40, 8, 8, 16)).astype("f")
    (own,) = made.start(params, features, features, np.array([[2.0]], "f"), jax.random.key(1))
    (cut,) = (each for each in costs.split_costs(network, params) if each.split == "relu2")
    found = costs.with_layer(cut, *made.network.split(made.cut), own)
    assert found.features == (8, 8, 4) and found.sent_bytes == 8 * 8 * 4 * 4
    # The cloud's half is not read on the device.
    assert found.edge_parameters - cut.edge_parameters == 16 * 4 + 4
    assert found.parameter_bytes - cut.parameter_bytes == 4 * (16 * 4 + 4)
    assert found.edge_flops - cut.edge_flops >= 2 * 64 * 16 * 4
    assert found.cloud_flops - cut.cloud_flops >= 2 * 64 * 16 * 4
    assert found.memory_bytes >= cut.memory_bytes


# --- Profiles -------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_costs_half(dtype):
    layers = [("conv", nn.Conv(2, (3, 3), dtype=dtype, param_dtype=dtype)), ("relu", nn.relu)]
    conv = costs.split_costs(sequence(layers, (4, 4, 1)))[1]
    assert (conv.sent_bytes, conv.parameter_bytes) == (64, 40)
    sent = {
        mechanism.name: costs.sent_bytes(
            conv.features, mechanism.at("feature", level).describe(), dense=conv.sent_bytes
        )
        for mechanism, level in ((DROPOUT, 0.5), (QUANTIZE, 8), (GAUSSIAN, 0.1), (PROJECT, 0.5))
    }
    # Noise and projections make float32 of them.
    assert sent == {"dropout": 4 + 32, "quantize": 32 + 4, "gaussian": 128, "project": 64}
    assert costs.sent_bytes(conv.features, NONE.describe(), dense=conv.sent_bytes) == 64
