"""Arguments of networks: layers and their names, shapes, parameters, mean and std."""

import re

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxinv import networks
from jaxinv.errors import UsageError, UserError
from jaxinv.networks import as_layer, from_function, sequence

ALLOWED = ["a", "conv1", "Act", "block0.conv", "res-2_b", "9", "_", "input", "output", "a" * 64]
REFUSED = [
    *("a,b", "a+1", "a\nb", "a\0", "", " ", " a", "a b", ".", "..", "-a", ".a", "a/b", "a\\b"),
    *("all", "ALL", "a" * 65, "ä", "a\u2028", "a:b", "a=1", "*", "~", "$a", "\ud800"),
    *(None, 3, b"a", ("a",)),
]


def shown(value):
    """Returns a value as text that is the same in every process."""
    return re.sub(r" at 0x\w+", "", repr(value))


@pytest.mark.parametrize("name", ALLOWED)
def test_names_that_are_allowed(name):
    network = sequence([(name, jnp.tanh), ("last", jnp.sin)], (2,))
    assert network.cuts == (name, "last")
    assert network.resolve(name.upper()) == name
    assert len({cut.lower() for cut in network.all_cuts}) == len(network.all_cuts)


@pytest.mark.parametrize("name", REFUSED, ids=shown)
def test_names_that_are_refused(name):
    network = sequence([("first", jnp.tanh)], (2,))
    for make in (
        lambda: sequence([(name, jnp.tanh)], (2,)),
        lambda: networks.append(network, name, jnp.tanh),
    ):
        with pytest.raises(UsageError, match="^layers=.*: expected a name of up to 64") as caught:
            make()
        assert str(caught.value).isprintable()


@pytest.mark.parametrize("names", [("a", "a"), ("a", "A")])
def test_repeated_names_are_refused(names):
    with pytest.raises(UsageError, match=f"layers={', '.join(names)}: the names must differ"):
        sequence([(name, nn.relu) for name in names], (4,))
    network = sequence([(names[0], nn.relu)], (4,))
    with pytest.raises(UsageError, match=f"name={names[1]}: expected another than a"):
        networks.append(network, names[1], nn.relu)


def marked(*names):
    def function(params, x):
        for name in names:
            x = checkpoint_name(jnp.tanh(x), name)
        return x

    return from_function(function, {}, (2,))[0]


@pytest.mark.parametrize(
    ("names", "cuts"),
    [
        (("a", "a", "a_2"), ("a", "a_3", "a_2")),
        (("a_2", "a", "A"), ("a_2", "a", "A_3")),
        (("a", "a", "a"), ("a", "a_2", "a_3")),
        (("a/b", "a.b", "a b"), ("a.b", "a.b_2", "a_b")),
        (("a+1", "a", "input"), ("a_1", "a", "input")),
        (("all", "ALL", "all_"), ("all_", "ALL__2", "all__3")),
        (("", "-a", "..", "a,b"), ("layer", "_-a", "_..", "a_b")),
        (("a\n\0b", "ä" * 99, "x" * 300), ("a__b", "_" * 64, "x" * 64)),
    ],
)
def test_names_from_modules_are_made_safe_and_differ(names, cuts):
    network = marked(*names)
    assert network.cuts == cuts
    assert len({cut.lower() for cut in network.all_cuts}) == len(network.all_cuts)
    x = jnp.ones((2, 2))
    for cut in network.all_cuts:
        edge, cloud = network.split(cut)
        np.testing.assert_allclose(cloud.apply({}, edge.apply({}, x)), network.apply({}, x))


@pytest.mark.parametrize(
    "layers",
    [["a"], "ab", b"a", None, 5, [("a",)], [("a", nn.relu, 1)], {"a": nn.relu}, [None]],
    ids=shown,
)
def test_layers_are_pairs(layers):
    with pytest.raises(UsageError, match=r"^layers=.*: expected \(name, layer\) pairs"):
        sequence(layers, (4,))


@pytest.mark.parametrize("layer", ["relu", None, 3, {}, nn.Dense], ids=shown)
def test_what_is_no_layer(layer):
    with pytest.raises(UserError, match="layer=|Layer a"):
        sequence([("a", layer)], (4,))


def test_a_layer_that_is_text():
    with pytest.raises(UsageError, match="^layer='relu': expected a Layer"):
        as_layer("relu")


def test_layers_may_come_one_by_one():
    layers = {"a": nn.relu, "b": nn.tanh}
    assert sequence(iter(layers.items()), (4,)).cuts == ("a", "b")


def test_one_module_at_two_layers_is_refused():
    module = nnx.Linear(4, 4, rngs=nnx.Rngs(0))
    with pytest.raises(UserError, match="Layers a and c are one Linear with its parameters"):
        sequence([("a", module), ("b", nn.relu), ("c", module)], (4,))
    pool = nnx.Dropout(0.5, deterministic=True)
    assert sequence([("a", pool), ("b", pool)], (4,)).cuts[-1] == "b"
    dense = nn.Dense(4)
    params = sequence([("a", dense), ("b", dense)], (4,)).init(jax.random.key(0))
    assert set(params) == {"a", "b"}


MAKERS = {
    "sequence": lambda shape: sequence([("a", nn.tanh)], shape),
    "from_function": lambda shape: from_function(lambda params, x: jnp.tanh(x), {}, shape)[0],
}


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize(
    "shape",
    [None, 5, (0,), (4, 0), (-1,), ("a",), "44", b"44", (2.5,), (True,), (None,), [[2]], {}.get],
    ids=shown,
)
def test_shapes_that_are_refused(maker, shape):
    with pytest.raises(UsageError, match=r"^input_shape=.*: expected the shape of one example"):
        MAKERS[maker](shape)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("shape", [(), (2, 3), [2, 3], np.array([2, 3])], ids=shown)
def test_shapes(maker, shape):
    assert MAKERS[maker](shape).input_shape == tuple(shape)


@pytest.mark.parametrize(
    "params", [{"a": "text"}, ["a", 1.0], {"a": object()}, {"a": b"x"}, "text"], ids=shown
)
def test_parameters_are_numbers(params):
    with pytest.raises(UsageError, match=r"^params=.*: expected arrays of numbers"):
        from_function(lambda params, x: jnp.tanh(x), params, (2,))


@pytest.mark.parametrize("params", [None, {}, [], {"a": {}}], ids=shown)
def test_a_network_may_have_no_parameters(params):
    network, own = from_function(lambda params, x: jnp.tanh(x), params, (2,))
    np.testing.assert_allclose(network.apply(own, jnp.ones((1, 2))), np.tanh(np.ones((1, 2))))


CONSTANTS = {
    "channels": ({"mean": (0.4, 0.5, 0.6), "std": (0.2,) * 3}, "mean=.*of 1 channels"),
    "zero": ({"mean": 0.5, "std": (0.0,)}, r"std=\(0.0,\): expected positive"),
    "negative": ({"mean": 0.5, "std": -1}, r"std=-1: expected positive"),
    "nan": ({"mean": float("nan"), "std": 1.0}, "mean=nan: expected finite"),
    "one": ({"mean": 0.5}, "mean=0.5, std=None: expected both of mean and std"),
    "other": ({"std": 0.5}, "mean=None, std=0.5: expected both of mean and std"),
    "word": ({"mean": "x", "std": 1}, "mean='x': expected one number"),
    "text": ({"mean": "0.5", "std": 1}, "mean='0.5': expected one number"),
    "texts": ({"mean": 0, "std": ["1"]}, r"std=\['1'\]: expected one number"),
    "truth": ({"mean": True, "std": 1}, "mean=True: expected one number"),
    "complex": ({"mean": 1j, "std": 1}, "mean=1j: expected one number"),
    "object": ({"mean": object(), "std": 1}, "mean=<object.*: expected one number"),
    "ragged": ({"mean": [1, [2]], "std": 1}, r"mean=\[1, \[2\]\]: expected one number"),
    "nested": ({"mean": [[1.0]], "std": 1}, r"mean=\[\[1.0\]\]: expected one number"),
    "none": ({"mean": [None], "std": 1}, r"mean=\[None\]: expected one number"),
    "tiny": ({"mean": 0, "std": 1e-40}, "std=1e-40: .*range of float32"),
    "huge": ({"mean": 0, "std": 1e300}, r"std=1e\+300: .*range of float32"),
    "far": ({"mean": 1e39, "std": 1}, r"mean=1e\+39: .*range of float32"),
    "lost": ({"mean": 1e9, "std": 1}, r"mean=1000000000.0, std=1: .*differ for x = 0 and x = 1"),
    "overflow": ({"mean": 1e30, "std": 1e-30}, r"mean=1e\+30, std=1e-30: .*must be finite"),
    "vanishing": ({"mean": 0, "std": 3e38}, r"std=3e\+38: .*differ for x = 0 and x = 1"),
}


@pytest.mark.parametrize("name", CONSTANTS)
def test_normalisation_that_is_refused(name):
    constants, message = CONSTANTS[name]
    for make in (
        lambda: sequence([("a", nn.relu)], (4, 4, 1), **constants),
        lambda: from_function(lambda params, x: jnp.tanh(x), {}, (4, 4, 1), **constants),
    ):
        with pytest.raises(UsageError, match=message) as caught:
            make()
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "value", [1, 0.5, [0.5], (0.5,), np.float32(0.5), np.array([0.5]), jnp.asarray(0.5)], ids=shown
)
def test_normalisation(value):
    network = sequence([("a", nn.tanh)], (4, 4, 1), mean=value, std=value)
    own = float(np.ravel(value)[0])
    assert network.mean == network.std == (own,)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: networks.from_linen(nn.tanh, {}, (4,)), "^module=.*expected a Linen module"),
        (lambda: networks.from_linen(nn.Dense(3), None, (4,)), "^variables=None: expected coll"),
        (lambda: networks.from_linen(nn.Dense(3), {}, (4,)), "^The network: ScopeCollectionNot"),
        (lambda: from_function("f", {}, (4,)), "^function='f': expected"),
        (lambda: from_function(lambda x: x, {}, (4,)), "^The network: .*takes 1 positional"),
        (lambda: sequence([("pool", networks.max_pool)], (4,)), "Layer pool: expected images"),
    ],
)
def test_other_arguments_that_are_refused(make, message):
    with pytest.raises(UserError, match=message):
        make()


@pytest.mark.parametrize("cut", [None, 3, ("a",)], ids=shown)
def test_cuts_are_names(cut):
    with pytest.raises(UsageError, match="^split=.*: expected a layer, one of a"):
        sequence([("a", nn.tanh)], (4,)).split(cut)


@pytest.mark.parametrize(
    ("params", "x", "message"),
    [
        (
            {"w": np.ones((7, 7))},
            np.ones((2, 4)),
            r"The parameter w has shape \(7, 7\): expected \(\)",
        ),
        ({"w": "text"}, np.ones((2, 4)), "w='text': expected an array of numbers"),
        ({"w": object()}, np.ones((2, 4)), "w=<object.*: expected an array of numbers"),
        (None, np.ones((2, 4)), "The parameters lack w"),
        ({"w": 1.0}, "text", "x='text': expected an array of numbers"),
        ({"w": 1.0}, None, "x=None: expected an array of numbers|Expected inputs"),
    ],
)
def test_what_a_network_is_applied_to(params, x, message):
    network, _ = from_function(lambda params, x: x * params["w"], {"w": 1.0}, (4,))
    with pytest.raises(UserError, match=message):
        network.apply(params, x)


def test_whole_numbers_are_no_parameters():
    """They are constants, which tell networks apart and have no gradient."""

    def permuted(order):
        params = {"order": np.array(order), "w": jnp.ones(()), "key": jax.random.key(0)}
        return from_function(lambda own, x: x[:, own["order"]] * own["w"], params, (3,))

    (first, params), (second, _) = permuted([1, 2, 0]), permuted([0, 1, 2])
    assert set(params) == {"w"}
    assert first.fingerprint != second.fingerprint
    x = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(first.apply(params, x), x[:, jnp.array([1, 2, 0])])
    assert jax.grad(lambda params: first.apply(params, x).sum())(params)["w"] == 15
