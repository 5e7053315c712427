"""The authors' decoders: their shapes, the rule for others, and the transposed convolution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.attacks.blackbox.decoder import Decoder, plan, transposed_convolution

MNIST, CIFAR = (28, 28, 1), (32, 32, 3)

# Features, image -> (kernel, stride, padding, channels, size) of each layer of the authors'.
AUTHORS = {
    "conv1": ((24, 24, 8), MNIST, [(5, 1, 0, 1, 28)]),
    "relu2": ((8, 8, 16), MNIST, [(5, 1, 0, 8, 12), (5, 2, 0, 1, 28)]),
    "conv11": ((32, 32, 64), CIFAR, [(3, 1, 1, 3, 32)]),
    "relu22": ((16, 16, 128), CIFAR, [(3, 2, 1, 64, 32), (3, 1, 1, 3, 32)]),
    "relu32": (
        (8, 8, 128),
        CIFAR,
        [(3, 2, 1, 128, 16), (3, 2, 1, 64, 32), (3, 1, 1, 3, 32)],
    ),
}


@pytest.mark.parametrize("cut", AUTHORS)
def test_the_rule_gives_the_authors_decoders(cut):
    features, image, expected = AUTHORS[cut]
    layers = [
        (kernel, (stride, stride), padding, channels, (size, size))
        for kernel, stride, padding, channels, size in expected
    ]
    assert plan(features, image) == layers
    shapes = jax.eval_shape(
        Decoder(image).init, jax.random.key(0), jax.ShapeDtypeStruct((1, *features), "f")
    )["params"]
    channels = [features[2], *(layer[3] for layer in expected)]
    for number, (kernel, *_) in enumerate(expected):
        shape = (kernel, kernel, channels[number], channels[number + 1])
        assert shapes[f"kernel{number}"].shape == shape
    assert len(shapes) == 2 * len(expected)


@pytest.mark.parametrize(
    ("features", "image"),
    [
        ((12, 12, 8), MNIST),
        ((4, 4, 16), MNIST),
        ((120,), MNIST),
        ((10,), CIFAR),
        ((4, 4, 128), CIFAR),
        ((27, 28, 3), MNIST),
        ((13, 7, 2), (29, 31, 3)),
        ((1, 1, 5), (17, 3, 1)),
        ((28, 14, 1), MNIST),  # one side as large, the other half
        ((40, 10, 4), (33, 33, 3)),  # one side larger
        ((64, 64, 1), CIFAR),
        ((3, 3), (1, 1, 1)),
    ],
)
def test_features_of_any_shape_become_images(features, image):
    decoder = Decoder(image)
    inputs = jax.ShapeDtypeStruct((2, *features), jnp.float32)
    found, _ = jax.eval_shape(decoder.init_with_output, jax.random.key(0), inputs)
    assert found.shape == (2, *image)


@pytest.mark.parametrize("side", [1, 2, 3, 5, 8, 11, 13, 20, 27, 31])
def test_layers_lead_up_to_the_image(side):
    layers = plan((side, side, 8), (31, 31, 1))
    sizes = [side, *(layer.size[0] for layer in layers)]
    assert sizes[-1] == 31
    for layer, before, after in zip(layers, sizes, sizes[1:], strict=False):
        made = layer.stride[0] * before + layer.kernel - 1 - 2 * layer.padding
        assert before <= after <= made


@pytest.mark.slow
@pytest.mark.parametrize(
    ("side", "stride", "padding"), [(3, (2, 2), 1), (5, (1, 1), 0), (5, (2, 2), 0), (3, (2, 1), 1)]
)
def test_transposed_convolution_is_that_of_jax(side, stride, padding):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 6, 5, 4)).astype("f")
    kernel = rng.normal(size=(side, side, 4, 3)).astype("f")
    pad = side - 1 - padding
    pads = [(pad, pad + step - 1) for step in stride]

    def golden(x, kernel):
        return jax.lax.conv_transpose(
            x, kernel, stride, pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    def ours(x, kernel):
        return transposed_convolution(x, kernel, stride, padding)

    np.testing.assert_allclose(ours(x, kernel), golden(x, kernel), rtol=1e-4, atol=1e-5)
    expected, found = (
        jax.grad(lambda *args, f=f: jnp.sum(jnp.sin(f(*args))), (0, 1))(x, kernel)
        for f in (golden, ours)
    )
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


def test_weights_begin_as_xaviers():
    params = jax.jit(Decoder(MNIST).init)(jax.random.key(0), jnp.zeros((1, 8, 8, 16)))["params"]
    bound = np.sqrt(6 / (25 * (16 + 8)))
    assert np.abs(params["kernel0"]).max() == pytest.approx(bound, rel=0.05)
    assert np.std(params["kernel0"]) == pytest.approx(bound / np.sqrt(3), rel=0.05)
    assert not params["bias0"].any()


@pytest.mark.parametrize("shape", [(4, 4, 3), (6, 6, 2), (9,)])
def test_decoders_are_of_float32_in_either_mode(shape):
    with jax.enable_x64(True):
        decoder, x = Decoder((8, 8, 1)), jnp.ones((2, *shape), jnp.float32)
        params = jax.eval_shape(decoder.init, jax.random.key(0), x)
        assert {leaf.dtype for leaf in jax.tree.leaves(params)} == {jnp.dtype(jnp.float32)}
        assert jax.eval_shape(decoder.apply, params, x).dtype == jnp.float32
