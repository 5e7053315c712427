"""The forms of one convolution, held against XLA's, in value and in every kind of derivative."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxinv.networks import convolution
from jaxinv.networks.convolution import choose_form, conv_general_dilated, convolve

FORMS = ["lax", "canonical", "toeplitz"]
CASES = {  # input [N, H, W, Cin], kernel [kh, kw, Cin, Cout], pads
    "same": ((2, 6, 7, 3), (3, 3, 3, 4), ((1, 1), (1, 1))),
    "valid": ((2, 8, 8, 1), (5, 5, 1, 2), ((0, 0), (0, 0))),
    "uneven pads": ((3, 5, 6, 2), (3, 2, 2, 3), ((2, 0), (0, 1))),
    "even kernel": ((1, 6, 5, 2), (4, 2, 2, 1), ((1, 2), (0, 1))),
    "pads beyond the kernel": ((2, 4, 4, 2), (2, 3, 2, 2), ((3, 1), (4, 2))),
    "1 x 1": ((2, 4, 3, 3), (1, 1, 3, 5), ((0, 0), (0, 0))),
    "whole image": ((2, 4, 5, 2), (4, 5, 2, 3), ((0, 0), (0, 0))),
}


def reference(x, kernel, pads):
    return lax.conv_general_dilated(
        x, kernel, (1, 1), pads, dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def normal(shape, seed):
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


@pytest.fixture(params=CASES.values(), ids=CASES)
def case(request):
    x_shape, kernel_shape, pads = request.param
    return normal(x_shape, 0), normal(kernel_shape, 1), pads


@pytest.fixture(params=FORMS)
def form(request):
    return request.param


def close(result, expected):
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5), result, expected
    )


def of(form, pads):
    """This form and XLA's, as functions of input and kernel."""
    return (
        lambda x, kernel: convolve(x, kernel, pads, form=form),
        lambda x, kernel: reference(x, kernel, pads),
    )


def test_values(form, case):
    x, kernel, pads = case
    result = convolve(x, kernel, pads, form=form)
    assert result.shape[1] == x.shape[1] + sum(pads[0]) - kernel.shape[0] + 1
    assert result.shape[2] == x.shape[2] + sum(pads[1]) - kernel.shape[1] + 1
    close(result, reference(x, kernel, pads))


def test_gradients(form, case):
    x, kernel, pads = case
    ours, theirs = of(form, pads)
    out, pull = jax.vjp(theirs, x, kernel)
    ct = normal(out.shape, 2)
    expected = pull(ct)
    close(jax.vjp(ours, x, kernel)[1](ct), expected)
    # Alone, too: the derivative with respect to the other is then a symbolic zero.
    close(jax.vjp(lambda x: ours(x, kernel), x)[1](ct), expected[:1])
    close(jax.vjp(lambda kernel: ours(x, kernel), kernel)[1](ct), expected[1:])


def test_forward_mode(form, case):
    x, kernel, pads = case
    ours, theirs = of(form, pads)
    tangents = (normal(x.shape, 3), normal(kernel.shape, 4))
    close(jax.jvp(ours, (x, kernel), tangents), jax.jvp(theirs, (x, kernel), tangents))
    out, linear = jax.linearize(lambda x: ours(x, kernel), x)
    close(linear(tangents[0]), theirs(tangents[0], kernel))
    ct = normal(out.shape, 5)
    transposed = jax.linear_transpose(linear, x)(ct)
    close(transposed, jax.vjp(lambda x: theirs(x, kernel), x)[1](ct))


@pytest.mark.parametrize("name", ["same", "uneven pads"])
def test_inside_compiled_loops(form, name):
    (x_shape, kernel_shape, pads) = CASES[name]
    x, kernel = normal(x_shape, 0), normal(kernel_shape, 1)

    def descend(convolution):
        gradient = jax.grad(lambda x: jnp.square(convolution(x, kernel)).sum())
        return jax.jit(lambda x: lax.fori_loop(0, 3, lambda _, x: x - 1e-3 * gradient(x), x))(x)

    ours, theirs = of(form, pads)
    close(descend(ours), descend(theirs))


@pytest.mark.parametrize("name", ["same", "uneven pads"])
def test_mapped_over_kernels_and_inputs(form, name):
    (x_shape, kernel_shape, pads) = CASES[name]
    x, kernels, xs = normal(x_shape, 0), normal((3, *kernel_shape), 1), normal((3, *x_shape), 2)
    ours, theirs = of(form, pads)

    def loss(convolution):
        return lambda x, kernel: jnp.sin(convolution(x, kernel)).sum()

    each = [theirs(x, kernel) for kernel in kernels]
    close(jax.vmap(ours, in_axes=(None, 0))(x, kernels), jnp.stack(each))
    if form == "canonical":
        return  # its derivatives are not mapped, as its docstring says
    gradients = [
        jax.vmap(jax.grad(loss(convolution), (0, 1)))(xs, kernels) for convolution in (ours, theirs)
    ]
    close(*gradients)


SPECIAL = {
    "strided": {"strides": 2},
    "dilated kernel": {"kernel_dilation": 2},
    "dilated input": {"input_dilation": 2, "padding": 1},
    "grouped": {"feature_group_count": 2},
    "exact": {"precision": "highest"},
}


@pytest.mark.parametrize("options", SPECIAL.values(), ids=SPECIAL)
def test_other_convolutions_go_to_xla(options, monkeypatch):
    monkeypatch.setattr(convolution, "convolve", lambda *args, **kwargs: pytest.fail("not XLA's"))
    module = nn.Conv(4, (3, 3), **options)
    x = normal((2, 8, 8, 2), 0)
    params = module.init(jax.random.key(0), x)
    ours = module.clone(conv_general_dilated=conv_general_dilated)
    np.testing.assert_array_equal(ours.apply(params, x), module.apply(params, x))


def test_a_convolution_over_time_goes_to_xla():
    module = nn.Conv(4, (3,))
    x = normal((2, 8, 2), 0)
    params = module.init(jax.random.key(0), x)
    ours = module.clone(conv_general_dilated=conv_general_dilated)
    np.testing.assert_array_equal(ours.apply(params, x), module.apply(params, x))


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR", 1, ((2, 0), (0, 1))], ids=str)
def test_plain_convolutions_of_flax(padding, form, monkeypatch):
    monkeypatch.setattr(convolution, "choose_form", lambda *args: form)
    module = nn.Conv(4, (3, 2), padding=padding)
    x = normal((2, 7, 6, 2), 0)
    params = module.init(jax.random.key(0), x)
    ours = module.clone(conv_general_dilated=conv_general_dilated)
    close(ours.apply(params, x), module.apply(params, x))


@pytest.mark.parametrize("backend", ["gpu", "tpu"])
def test_accelerators_use_xlas_own(backend):
    for x_shape, kernel_shape, _ in CASES.values():
        assert choose_form(x_shape, kernel_shape, backend=backend) == "lax"


def test_cpus_use_another():
    first_of_lenet5 = choose_form((1, 28, 28, 1), (5, 5, 1, 8), backend="cpu")
    inner_of_cifar = choose_form((1, 16, 16, 128), (3, 3, 128, 128), backend="cpu")
    assert (first_of_lenet5, inner_of_cifar) == ("toeplitz", "canonical")
