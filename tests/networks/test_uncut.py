"""Refusals: functions and modules that cannot be cut, and attacked example by example."""

import equinox as eqx
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxinv.errors import UserError
from jaxinv.networks import from_function, from_module, sequence


class OfTheBatch(nn.Module):
    @nn.compact
    def __call__(self, x):
        return (x - x.mean(0, keepdims=True)) / (x.std(0, keepdims=True) + 1e-3)


HELD = jnp.arange(3.0)
REFUSED = {
    "the mean of the batch": (OfTheBatch(), "does not compute the same in a batch of 3 and of 2"),
    "the order of the batch": (lambda x: x[::-1], "At layer an example depends on the others"),
    "sorted over the batch": (lambda x: jnp.sort(x, axis=0), "an example depends on the others"),
    "summed over the batch": (lambda x: jnp.cumsum(x, axis=0), "At layer an example depends"),
    "the place in the batch": (
        lambda x: x * jnp.cumsum(jnp.ones_like(x), axis=0),
        "does not compute|its place there",
    ),
    "BatchNorm in training": (
        nn.BatchNorm(use_running_average=False),
        "BatchNorm changes its state.*use_running_average=True",
    ),
    "dropout in training": (nn.Dropout(0.5, deterministic=False), "Dropout changes its state"),
    "squeeze": (lambda x: x.mean((1, 2)).squeeze(), r"Layer layer.*\(\) of a batch of 1"),
    "one row": (lambda x: x.reshape(1, -1), r"\(1, 16\) of a batch of .*first axis"),
    "ravel": (lambda x: x.ravel(), r"of a batch of 1.*x.reshape\(len\(x\), -1\)"),
    "randomness": (lambda x: x * np.random.rand(), "be pure"),
    "side effects": (lambda x: [jax.debug.print("{}", x), x][1], "side effects"),
    "held arrays": (lambda x: x * HELD[None, None, None], r"\[3\] that are not among its param"),
    "shapes": (lambda x: x @ np.ones((7, 7), "f"), "Layer layer: "),
}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_in_a_line(what):
    layer, message = REFUSED[what]
    with pytest.raises(UserError, match=message) as caught:
        sequence([("layer", layer)], (4, 4, 1))
    assert "\n" not in str(caught.value)


def test_a_bound_module_is_not_taken_for_a_function():
    module = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="not among its parameters"):
        from_function(lambda params, x: module(x), {}, (3,))
    with pytest.raises(UserError, match="no NNX or Equinox module.*from_linen"):
        from_module(nn.Dense(2), (3,))


# --- Outputs --------------------------------------------------------------------------------------

OUTPUTS = {
    "none": (lambda x: None, "returns no array"),
    "empty": (lambda x: (), "returns no array"),
    "text": (lambda x: "a", "returns a str: expected arrays"),
    "object": (lambda x: [x, object()], "returns a object: expected arrays"),
    "complex": (lambda x: x * 1j, "returns complex.*: expected floats"),
    "truth": (lambda x: x > 0, "returns bool: expected floats"),
    "whole": (lambda x: x.argmax(1), "returns int.*: expected floats"),
    "one of two": (lambda x: (x, x.astype(jnp.int32)), "returns int32: expected floats"),
    "constant": (lambda x: np.ones((len(x), 2), "f"), "does not depend on its input"),
    "ones": (lambda x: jnp.ones((len(x), 2)), "does not depend on its input"),
    "zeros": (lambda x: jnp.zeros_like(x), "does not depend on its input"),
    "a constant beside": (lambda x: (x, np.ones((len(x), 2), "f")), "does not depend"),
    "no values": (lambda x: x[:, :0], "returns an empty array"),
    "number": (lambda x: 3.0, "does not depend on its input"),
    "error": (lambda x: x @ np.ones((7, 7), "f"), "The network: dot_general"),
    "lacking": (lambda x: {}["w"], "The network: KeyError: 'w'"),
    "failing": (lambda x: 1 / 0, "The network: ZeroDivisionError: division by zero"),
    "unequal": (lambda x: x if x.sum() > 0 else -x, "The network: TracerBool.*|The network: Att"),
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_are_floats_that_depend_on_the_input(name):
    function, message = OUTPUTS[name]
    with pytest.raises(UserError, match=message) as caught:
        from_function(lambda params, x: function(x), {}, (4,))
    assert "\n" not in str(caught.value)


def test_parameters_alone_are_no_network():
    def function(params, x):
        return jnp.broadcast_to(params["w"], (len(x), 2))

    with pytest.raises(UserError, match="does not depend on its input"):
        from_function(function, {"w": jnp.ones((1, 2))}, (4,))


def test_an_array_may_be_returned_twice():
    def function(params, x):
        return (y := jnp.tanh(x)), {"again": y}

    network, params = from_function(function, {}, (4,))
    x = jnp.arange(8.0).reshape(2, 4) / 8
    np.testing.assert_allclose(network.apply(params, x), np.tanh(np.tile(x, 2)), rtol=1e-5)
    edge, cloud = network.split(network.all_cuts[-1])
    np.testing.assert_array_equal(
        cloud.apply(params, edge.apply(params, x)), network.apply(params, x)
    )


# --- Mixing behind a gain of zero -----------------------------------------------------------------

MIXERS = {
    "reversed": lambda x: x[::-1],
    "sorted": lambda x: jnp.sort(x, axis=0),
    "rolled": lambda x: jnp.roll(x, 1, axis=0),
    "centred": lambda x: x - jax.lax.associative_scan(jnp.add, x, axis=0),
}


class Gated(nn.Module):
    """A branch that begins with a gain of zero, as of a residual block."""

    name_of: str

    @nn.compact
    def __call__(self, x):
        gain = self.param("gain", nn.initializers.zeros, (1,))
        return nn.Dense(3)(x + gain[None] * MIXERS[self.name_of](x))


@pytest.mark.parametrize("name", MIXERS)
def test_mixing_is_seen_behind_a_gain_of_zero(name):
    with pytest.raises(UserError, match="an example depends on|does not compute the same"):
        sequence([("gated", Gated(name))], (4,))
    zeros = {"gain": jnp.zeros(())}
    with pytest.raises(UserError, match="an example depends on|does not compute the same"):
        from_function(lambda params, x: x + params["gain"] * MIXERS[name](x), zeros, (4,))


def test_random_parameters_are_valid():
    """A variance stays positive; sorting within an example makes it compare at all."""

    def function(params, x):
        y = (jnp.sort(x, axis=1) - params["mean"][None]) / jnp.sqrt(params["var"][None])
        return y * params["scale"] + params["order"]

    params = {
        "mean": jnp.array([-1.0, 1, 2, 3]),
        "var": jnp.full(4, 0.1),
        "scale": jnp.zeros(()),
        "order": jnp.asarray(3),
    }
    network, own = from_function(function, params, (4,))
    assert np.isfinite(network.apply(own, jnp.ones((2, 4)))).all()


def test_features_that_are_no_numbers_may_be_compared():
    network = sequence([("root", lambda x: jnp.sqrt(jnp.flip(x[:, None], 1)[:, 0]))], (4,))
    assert network.cuts == ("root",)


# --- Modules that keep state or are random --------------------------------------------------------


class Sowing(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(4, 4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        self.sow(nnx.Intermediate, "seen", x)
        return self.layer(x)


class Counting(nnx.Module):
    def __init__(self):
        self.layer, self.count = nnx.Linear(4, 4, rngs=nnx.Rngs(0)), nnx.Variable(jnp.zeros(()))

    def __call__(self, x):
        self.count[...] = self.count[...] + 1
        return self.layer(x)


class Adding(nnx.Module):
    def __init__(self):
        self.layer = nnx.Linear(4, 4, rngs=nnx.Rngs(0))

    def __call__(self, x):
        self.last = nnx.Variable(x)
        return self.layer(x)


def behind_a_linear(make):
    return nnx.Sequential(nnx.Linear(4, 4, rngs=nnx.Rngs(0)), make(nnx.Rngs(0)))


def eqx_behind_a_linear(layer):
    return eqx.nn.Sequential([eqx.nn.Linear(4, 4, key=jax.random.key(0)), layer])


EVALUATE = r"changes its state.*module.eval\(\)"
STATEFUL = {
    "nnx.sow": (Sowing, r"Sowing adds state while it runs \(sow\): leave that out"),
    "nnx adds": (Adding, r"Adding adds state while it runs"),
    "nnx counts": (Counting, "Counting " + EVALUATE),
    "nnx.BatchNorm": (
        lambda: behind_a_linear(lambda rngs: nnx.BatchNorm(4, rngs=rngs)),
        EVALUATE,
    ),
    "nnx.Dropout": (lambda: behind_a_linear(lambda rngs: nnx.Dropout(0.5, rngs=rngs)), EVALUATE),
    "eqx.nn.Dropout": (
        lambda: eqx_behind_a_linear(eqx.nn.Dropout(0.5)),
        "is random: .*eqx.nn.inference_mode",
    ),
    "eqx.nn.BatchNorm": (
        lambda: eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, "batch", mode="batch")[0],
        r"BatchNorm takes more than an example \(.*'state'\): .*from_function",
    ),
}


@pytest.mark.filterwarnings("ignore:.*sow:DeprecationWarning")
@pytest.mark.parametrize("name", STATEFUL)
def test_modules_with_state_are_refused_with_what_to_do(name):
    make, message = STATEFUL[name]
    for build in (
        lambda module: from_module(module, (4,)),
        lambda module: sequence([("layer", module)], (4,)),
    ):
        with pytest.raises(UserError, match=message) as caught:
            build(make())
        assert "\n" not in str(caught.value)


def test_state_deep_inside_is_told():
    norm = eqx.nn.make_with_state(eqx.nn.BatchNorm)(4, "batch", mode="batch")[0]
    with pytest.raises(UserError, match=r"Sequential takes more than an example \(its state\)"):
        from_module(eqx_behind_a_linear(norm), (4,))


def test_a_dropout_alone_is_refused():
    with pytest.raises(UserError, match="Dropout is random: .*eqx.nn.inference_mode"):
        sequence([("drop", eqx.nn.Dropout(0.5))], (4,))


@pytest.mark.parametrize(
    "make",
    [
        lambda: behind_a_linear(lambda rngs: nnx.BatchNorm(4, rngs=rngs)),
        lambda: behind_a_linear(lambda rngs: nnx.Dropout(0.5, rngs=rngs)),
        lambda: eqx.nn.inference_mode(eqx_behind_a_linear(eqx.nn.Dropout(0.5))),
    ],
)
def test_the_same_modules_in_evaluation(make):
    module = make()
    if isinstance(module, nnx.Module):
        module.eval()
    network, params = from_module(module, (4,))
    assert np.isfinite(network.apply(params, jnp.ones((2, 4)))).all()


def test_what_a_linen_module_sows_is_left_out():
    class Own(nn.Module):
        @nn.compact
        def __call__(self, x):
            self.sow("intermediates", "seen", x)
            return nn.Dense(2)(x)

    network = sequence([("own", Own())], (4,))
    assert set(network.init(jax.random.key(0))["own"]) == {"Dense_0"}
