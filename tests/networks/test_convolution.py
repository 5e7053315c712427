"""The forms of one convolution, held against XLA's, in value and in every kind of derivative."""

from functools import partial

import flax.linen as nn
import jax
import jax.extend.core
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jaxinv.networks import convolution
from jaxinv.networks.convolution import choose_form, conv_general_dilated, convolve

FORMS = ["lax", "canonical", "toeplitz", "windows"]
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


@pytest.mark.slow
def test_values(form, case):
    x, kernel, pads = case
    result = convolve(x, kernel, pads, form=form)
    assert result.shape[1] == x.shape[1] + sum(pads[0]) - kernel.shape[0] + 1
    assert result.shape[2] == x.shape[2] + sum(pads[1]) - kernel.shape[1] + 1
    close(result, reference(x, kernel, pads))


@pytest.mark.slow
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


@pytest.mark.slow
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


@pytest.mark.slow
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


SPECIAL = {  # input, features, window, other options of flax.linen.Conv
    "strided": ((3, 8, 7, 2), 4, (3, 3), {"strides": 2}),
    "strided past the end": ((2, 9, 8, 2), 3, (2, 3), {"strides": (3, 2), "padding": "VALID"}),
    "strided 1 x 1": ((2, 7, 7, 3), 4, (1, 1), {"strides": 2}),
    "dilated kernel": ((2, 8, 8, 2), 4, (3, 3), {"kernel_dilation": 2}),
    "strided and dilated": (
        (2, 9, 9, 2),
        3,
        (3, 2),
        {"strides": 2, "kernel_dilation": (2, 1), "padding": ((2, 3), (0, 1))},
    ),
    "dilated input": ((2, 5, 4, 2), 4, (3, 3), {"input_dilation": (2, 3), "padding": 1}),
    "grouped": ((2, 6, 5, 4), 6, (3, 3), {"feature_group_count": 2, "strides": (1, 2)}),
    "depthwise": ((2, 6, 5, 4), 4, (3, 3), {"feature_group_count": 4}),
    "depthwise, two outputs each": (
        (2, 7, 6, 3),
        6,
        (3, 3),
        {"feature_group_count": 3, "strides": 2},
    ),
    "smaller than the kernel": ((3, 2, 2, 4), 3, (3, 3), {}),
    "over time": ((2, 8, 2), 4, (3,), {}),
    "over time, strided and dilated": (
        (2, 9, 2),
        4,
        (3,),
        {"strides": 2, "kernel_dilation": 2, "padding": "SAME"},
    ),
}


def of_flax(shape, features, window, options):
    """The module as XLA computes it, the same with our forms, its parameters and an input."""
    module = nn.Conv(features, window, **options)
    x = normal(shape, 0)
    params = module.init(jax.random.key(0), x)
    ours = module.clone(conv_general_dilated=conv_general_dilated)
    return ours.apply, module.apply, params, x


@pytest.mark.slow
@pytest.mark.parametrize("special", SPECIAL.values(), ids=SPECIAL)
def test_other_convolutions_agree_with_xla(special):
    ours, theirs, params, x = of_flax(*special)
    (y, pull), (expected, expected_pull) = jax.vjp(ours, params, x), jax.vjp(theirs, params, x)
    close(y, expected)
    ct = normal(y.shape, 1)
    close(pull(ct), expected_pull(ct))
    tangents = jax.tree.map(lambda leaf: normal(leaf.shape, 2), (params, x))
    close(jax.jvp(ours, (params, x), tangents), jax.jvp(theirs, (params, x), tangents))
    linear = jax.linearize(lambda x: ours(params, x), x)[1]
    close(jax.linear_transpose(linear, x)(ct)[0], expected_pull(ct)[1])


@pytest.mark.slow
@pytest.mark.parametrize("side", [(1, 3), (4, 5)])
@pytest.mark.parametrize("window", [(1, 1), (5, 2), (2, 4)])
@pytest.mark.parametrize("gaps", [(2, 2), (1, 3), (5, 2), (3, 7)])
@pytest.mark.parametrize("pads", [(0, 4), (1, 3), (4, 4), (9, 4)])
def test_inputs_with_gaps_are_convolved_as_with_zeros_between(side, window, gaps, pads):
    x, kernel = normal((2, *side, 3), 0), normal((*window, 3, 2), 1)
    size = [(length - 1) * gap + 1 + sum(pads) for length, gap in zip(side, gaps, strict=True)]
    spread = np.zeros((2, *size, 3), np.float32)
    spread[:, pads[0] : size[0] - pads[1] : gaps[0], pads[0] : size[1] - pads[1] : gaps[1]] = x

    def ours(x, kernel):
        return convolution.convolve_dilated(x, kernel, (pads, pads), (1, 1), gaps, (1, 1), 1)

    expected, pull = jax.vjp(lambda x, k: reference(x, k, ((0, 0), (0, 0))), spread, kernel)
    found, own_pull = jax.vjp(ours, x, kernel)
    close(found, expected)
    ct = normal(found.shape, 2)
    in_spread, in_kernel = pull(ct)
    rows, columns = (slice(pads[0], n - pads[1], gap) for n, gap in zip(size, gaps, strict=True))
    close(own_pull(ct), (in_spread[:, rows, columns], in_kernel))


@pytest.mark.slow
@pytest.mark.parametrize("pads", [((3, 0), (3, 0)), ((3, 1), (4, 2)), ((4, 4), (4, 0))], ids=str)
@pytest.mark.parametrize("stride", [1, 2])
def test_gradients_behind_pads_wider_than_the_kernel(pads, stride):
    # XLA's CPU backend answers with what lies beside the input, at times NaN.
    x, kernel = normal((2, 8, 9, 3), 0), normal((3, 3, 3, 2), 1)
    padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))

    def ours(x, kernel):
        return convolve(x, kernel, pads, strides=(stride, stride), form="canonical")

    def theirs(x, kernel):
        return lax.conv_general_dilated(
            x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    found, own_pull = jax.vjp(ours, x, kernel)
    expected, pull = jax.vjp(theirs, padded, kernel)
    close(found, expected)
    ct = normal(found.shape, 2)
    in_padded, in_kernel = pull(ct)
    rows, columns = (slice(pad[0], pad[0] + n) for pad, n in zip(pads, (8, 9), strict=True))
    close(own_pull(ct), (in_padded[:, rows, columns], in_kernel))


@pytest.mark.parametrize(
    "pads", [((-2, 2), (-2, 2)), ((-1, 1), (-2, 0)), ((-1, -1), (0, 3))], ids=str
)
@pytest.mark.parametrize("gaps", [None, (2, 1)])
def test_negative_pads_cut_off(pads, gaps):
    x, kernel = normal((2, 9, 9, 2), 0), normal((3, 3, 2, 3), 1)
    cut = [(*pad, gap - 1) for pad, gap in zip(pads, gaps or (1, 1), strict=True)]
    expected = reference(lax.pad(x, 0.0, [(0, 0, 0), *cut, (0, 0, 0)]), kernel, ((0, 0), (0, 0)))
    close(conv_general_dilated(x, kernel, (1, 1), pads, lhs_dilation=gaps), expected)


def test_no_images_with_gaps():
    kernel = normal((3, 3, 2, 4), 0)
    found = convolution.convolve_dilated(
        jnp.zeros((0, 5, 4, 2)), kernel, ((1, 1), (1, 1)), (1, 1), (2, 2), (1, 1), 1
    )
    assert found.shape == (0, 9, 7, 4)


def test_few_products_are_with_the_zeros_of_gaps():
    x, spread = normal((1, 12, 12, 8), 0), normal((1, 32, 32, 8), 1)
    kernel = normal((5, 5, 8, 1), 2)
    pads = ((4, 5), (4, 5))

    def products(apply, x, kernel):
        return jax.jit(apply).lower(x, kernel).cost_analysis()["flops"]

    def ours(x, kernel):
        return convolution.convolve_dilated(x, kernel, pads, (1, 1), (2, 2), (1, 1), 1)

    whole = products(lambda x, k: reference(x, k, ((0, 0), (0, 0))), spread, kernel)
    with convolution.computed_as("lax"):
        assert products(ours, x, kernel) < 0.3 * whole
        # Of a kernel of one element nothing is multiplied but the values themselves.
        one = normal((1, 1, 8, 1), 2)
        assert products(ours, x, one) < 1.1 * products(
            lambda x, k: reference(x, k, ((0, 0), (0, 0))), x, one
        )


def primitives_in_gradient(apply, params, x):
    """Convolutions of the gradient's program, each with its layout and gaps."""
    found = []

    def walk(jaxpr):
        for equation in jaxpr.eqns:
            if equation.primitive.name == "conv_general_dilated":
                found.append(equation.params)
            for inner in jax.extend.core.jaxprs_in_params(equation.params):
                walk(inner)

    loss = jax.grad(lambda params, x: jnp.square(apply(params, x)).sum(), (0, 1))
    walk(jax.make_jaxpr(loss)(params, x).jaxpr)
    return found


@pytest.mark.parametrize("special", SPECIAL.values(), ids=SPECIAL)
def test_gradients_use_the_forms_that_cpus_are_fast_at(special):
    ours, theirs, params, x = of_flax(*special)

    def slow(params):
        numbers = params["dimension_numbers"]
        rank = len(numbers.lhs_spec)
        last = (0, rank - 1, *range(1, rank - 1)), (rank - 1, rank - 2, *range(rank - 2))
        return (
            (numbers.lhs_spec, numbers.rhs_spec) != last
            or set(params["lhs_dilation"]) != {1}
            or params["feature_group_count"] > 1
            or params["batch_group_count"] > 1
        )

    assert not any(map(slow, primitives_in_gradient(ours, params, x)))
    assert any(map(slow, primitives_in_gradient(theirs, params, x)))


@pytest.mark.parametrize(("groups", "channels"), [(1, 8), (2, 8), (8, 8)])
def test_a_gradient_in_the_kernel_keeps_no_copy_of_the_images_for_each_of_its_elements(
    groups, channels
):
    x, kernel = normal((8, 64, 64, channels), 0), normal((7, 7, channels // groups, channels), 1)

    def loss(kernel, x):
        y = convolve(x, kernel, ((3, 3), (3, 3)), groups=groups)
        return jnp.square(y).sum()

    compiled = jax.jit(jax.grad(loss)).lower(kernel, x).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 8 * x.nbytes  # of 49 elements


@pytest.mark.parametrize("blocks", [1, 7, 40])
@pytest.mark.parametrize("name", ["same", "uneven pads"])
def test_a_gradient_in_the_kernel_does_not_depend_on_the_blocks(blocks, name, monkeypatch):
    monkeypatch.setattr(convolution, "_BLOCK_LEAST_PIXELS", blocks)
    monkeypatch.setattr(convolution, "_BLOCK_BYTES", 1)
    x_shape, kernel_shape, pads = CASES[name]
    x, kernel = normal((5, *x_shape[1:]), 0), normal(kernel_shape, 1)
    for strides in ((1, 1), (2, 3)):

        def loss(convolution, kernel, strides=strides):
            return jnp.sin(convolution(x, kernel, strides)).sum()

        def theirs(x, kernel, strides):
            numbers = ("NHWC", "HWIO", "NHWC")
            return lax.conv_general_dilated(x, kernel, strides, pads, dimension_numbers=numbers)

        def ours(x, kernel, strides):
            return convolve(x, kernel, pads, strides=strides, form="canonical")

        close(*(jax.grad(partial(loss, form))(kernel) for form in (ours, theirs)))


@pytest.mark.parametrize(
    ("shape", "window", "options"),
    [((2, 8, 8, 2), (3, 3), {"precision": "highest"}), ((2, 4, 4, 4, 2), (3, 3, 3), {})],
    ids=["exact", "of a volume"],
)
def test_some_convolutions_go_to_xla(shape, window, options, monkeypatch):
    monkeypatch.setattr(convolution, "convolve", lambda *args, **kwargs: pytest.fail("not XLA's"))
    ours, theirs, params, x = of_flax(shape, 4, window, options)
    np.testing.assert_array_equal(ours(params, x), theirs(params, x))


@pytest.mark.parametrize("padding", ["SAME", "VALID", "CIRCULAR", 1, ((2, 0), (0, 1))], ids=str)
def test_plain_convolutions_of_flax(padding, form, monkeypatch):
    monkeypatch.setattr(convolution, "choose_form", lambda *args, **options: form)
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
    strided = choose_form((1, 28, 28, 1), (5, 5, 1, 8), dense=False, backend="cpu")
    narrow, wide = (
        choose_form((32, 16, 16, 16), (3, 3, 16, channels), backend="cpu") for channels in (4, 16)
    )
    assert (narrow, wide) == ("toeplitz", "canonical")
    inner_of_cifar = choose_form((1, 16, 16, 128), (3, 3, 128, 128), backend="cpu")
    last_of_vgg11 = choose_form((1, 2, 2, 512), (3, 3, 512, 512), backend="cpu")
    of_mobilenet = choose_form((1, 8, 8, 96), (3, 3, 1, 96), groups=96, backend="cpu")
    assert (first_of_lenet5, strided, inner_of_cifar) == ("toeplitz", "canonical", "canonical")
    assert (last_of_vgg11, of_mobilenet) == ("windows", "shifts")
