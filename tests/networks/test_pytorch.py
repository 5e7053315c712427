"""PyTorch's layout of weights, against what PyTorch computes by its own definition."""

import flax.linen as nn
import jax
import numpy as np
import pytest

from jaxinv.errors import UserError
from jaxinv.networks import lenet5, pytorch, sequence
from jaxinv.networks.layers import max_pool

NETWORK = sequence(
    [
        ("conv", nn.Conv(3, (3, 3), padding="VALID")),
        ("norm", nn.BatchNorm(use_running_average=True)),
        ("flat", lambda x: x.reshape(len(x), -1)),
        ("fc1", nn.Dense(5)),
        ("fc2", nn.Dense(5)),
    ],
    (6, 5, 2),
)


def state(seed=0):
    """A state_dict of the same layers, named as their author named them."""
    rng = np.random.default_rng(seed)
    shapes = {
        "features.0.weight": (3, 2, 3, 3),
        "features.0.bias": (3,),
        **{f"features.1.{name}": (3,) for name in ("weight", "bias", "running_mean")},
        "features.1.running_var": (3,),
        "classifier.0.weight": (5, 3 * 4 * 3),
        "classifier.0.bias": (5,),
        "classifier.2.weight": (5, 5),
        "classifier.2.bias": (5,),
    }
    found = {name: rng.uniform(0.5, 1, shape).astype(np.float32) for name, shape in shapes.items()}
    return found | {"features.1.num_batches_tracked": np.array(7)}


def computed(own, x):
    """The network by PyTorch's definitions, of images [N, C, H, W]."""
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), axis=(2, 3))
    y = np.einsum("nchwij,ocij->nohw", windows, own["features.0.weight"])
    y = y + own["features.0.bias"][:, None, None]
    norm = {name: own[f"features.1.{name}"][:, None, None] for name in ("weight", "bias")}
    mean, var = (own[f"features.1.running_{name}"][:, None, None] for name in ("mean", "var"))
    y = (y - mean) / np.sqrt(var + 1e-5) * norm["weight"] + norm["bias"]
    y = y.reshape(len(y), -1)
    for layer in ("classifier.0", "classifier.2"):
        y = y @ own[f"{layer}.weight"].T + own[f"{layer}.bias"]
    return y


def test_a_state_dict_computes_what_it_did():
    own = state()
    params = pytorch.params_of(own, NETWORK)
    x = np.random.default_rng(1).uniform(size=(2, 6, 5, 2)).astype(np.float32)
    wanted = computed(own, np.moveaxis(x, 3, 1))
    np.testing.assert_allclose(NETWORK.apply(params, x), wanted, rtol=1e-4)


def test_layers_of_the_same_shapes_are_not_guessed_without_numbers():
    network = sequence([(name, nn.Dense(4)) for name in ("query", "key", "value")], (4,))
    weight, bias = np.eye(4, dtype=np.float32), np.arange(4, dtype=np.float32)

    def state_of(names):
        layers = [{f"{name}.weight": weight, f"{name}.bias": k * bias} for k, name in names]
        return {name: array for layer in layers for name, array in layer.items()}

    own = state_of(enumerate(("att.q", "att.k", "att.v")))
    with pytest.raises(UserError, match="layer query may be its att.k or its att.q"):
        pytorch.params_of(own, network)
    for names in (("query", "key", "value"), ("att.9", "att.10", "att.11")):
        params = pytorch.params_of(state_of(enumerate(names)), network)
        assert [params[name]["bias"][1] for name in ("query", "key", "value")] == [0, 1, 2]


class Block(nn.Module):
    """A residual block that computes its short way first."""

    short: str

    @nn.compact
    def __call__(self, x):
        way = nn.Dense(4, name=self.short)(x)
        return nn.Dense(4, name="second")(nn.relu(nn.Dense(4, name="first")(x))) + way


@pytest.mark.parametrize("short", ["shortcut", "conv_proj", "other"])
def test_a_short_way_around_a_block_is_told_by_its_name_or_not_at_all(short):
    """By the order of use it would get the weights of the block's first layer."""
    network = sequence([("block0", Block(short)), ("block1", Block(short))], (4,))
    names = [f"layer1.{k}.{name}" for k in (0, 1) for name in ("conv1", "conv2", "downsample.0")]
    own = {f"{name}.weight": np.eye(4, dtype=np.float32) for name in names}
    own |= {f"{name}.bias": np.full(4, k, np.float32) for k, name in enumerate(names)}
    if short == "other":
        told = "layer block0.other may be its layer1.0.conv1 or its layer1.0.downsample.0"
        with pytest.raises(UserError, match=told):
            pytorch.params_of(own, network)
        return
    params = pytorch.params_of(own, network)
    found = [
        params[f"block{k}"]["params"][name]["bias"][0]
        if "params" in params[f"block{k}"]
        else params[f"block{k}"][name]["bias"][0]
        for k in (0, 1)
        for name in ("first", "second", short)
    ]
    assert found == [0, 1, 2, 3, 4, 5]


def test_words_tell_layers_whose_names_are_out_of_order():
    network = sequence([(name, nn.Dense(4)) for name in ("stem", "block1", "block2")], (4,))
    own = {f"{name}.weight": np.eye(4, dtype=np.float32) for name in ("blocks.0.a", "blocks.1.a")}
    own |= {"stem.weight": np.eye(4, dtype=np.float32)}
    biases = {name.replace("weight", "bias"): k for k, name in enumerate(own)}
    own |= {name: np.full(4, k, np.float32) for name, k in biases.items()}
    own = {name.replace("stem.", "stem.linear."): array for name, array in own.items()}
    params = pytorch.params_of(own, network)
    assert [params[name]["bias"][0] for name in ("stem", "block1", "block2")] == [2, 0, 1]


def test_a_dense_layer_over_all_axes_reads_maps_channel_by_channel():
    layers = [("pool", max_pool), ("head", nn.DenseGeneral(4, axis=(-3, -2, -1)))]
    network = sequence(layers, (4, 6, 3))
    rng = np.random.default_rng(0)
    weight, x = rng.normal(size=(4, 18)).astype(np.float32), rng.normal(size=(1, 4, 6, 3))
    own = {"head.weight": weight, "head.bias": np.zeros(4, np.float32)}
    x = x.astype(np.float32)
    pooled = x.reshape(1, 2, 2, 3, 2, 3).max(axis=(2, 4))
    wanted = np.moveaxis(pooled, 3, 1).reshape(1, -1) @ weight.T
    np.testing.assert_allclose(
        network.apply(pytorch.params_of(own, network), x), wanted, rtol=1e-4, atol=1e-5
    )


def test_the_papers_networks_take_the_layout_of_their_layers():
    params = lenet5().init(jax.random.key(0))
    own = {}
    for name, layer in params.items():
        kernel = np.asarray(layer["kernel"])
        if name.startswith("conv"):
            kernel = np.moveaxis(kernel, (-1, -2), (0, 1))
        elif kernel.ndim == 4:
            kernel = np.moveaxis(kernel, (3, 2), (0, 1)).reshape(kernel.shape[3], -1)
        else:
            kernel = kernel.T
        own |= {f"{name}.weight": kernel, f"{name}.bias": np.asarray(layer["bias"])}
    assert pytorch.is_layout(own)
    found = pytorch.params_of(own, lenet5())
    jax.tree.map(np.testing.assert_array_equal, found, dict(params))


@pytest.mark.parametrize(
    "changes, told",
    [
        (
            {"features.0.weight": np.zeros((4, 2, 3, 3)), "features.0.bias": np.zeros(4)},
            r"the network's layer conv has bias \[3\], weight \[3, 2, 3, 3\], and its features.0 "
            r"has bias \[4\], weight \[4, 2, 3, 3\]",
        ),
        (
            {"more.weight": np.zeros(2)},
            r"its layer more with weight \[2\] is none of the network's",
        ),
    ],
)
def test_the_first_difference_is_named(changes, told):
    with pytest.raises(UserError, match=told):
        pytorch.params_of(state() | changes, NETWORK)


def test_our_own_layout_is_not_taken_for_it():
    assert not pytorch.is_layout(["conv1/kernel", "conv1/bias"])
