"""Forms of one convolution: equal results, different speed on different machines. JAX.

`conv_general_dilated` has the signature of `jax.lax.conv_general_dilated`, so that a
`flax.linen.Conv` takes it as its attribute of the same name. It chooses among

* `lax`: XLA's own convolution, in forward and in gradient. The choice on GPU and TPU.
* `canonical`: the same forward convolution, whose transposes are written so that XLA's CPU
  backend stays on its fast path inside a compiled loop. There, only convolutions with NHWC
  operands and an HWIO kernel reach the optimised kernel (jax issue 12868), and autodiff writes
  others: the gradient is 2 to 8 times slower in a loop than outside of it. Derivatives in this
  form cannot be mapped by `jax.vmap` (`linear_call` has no rule for it): batch the images instead.
* `toeplitz`: rows of the input times a banded matrix. It does more arithmetic, all of it in one
  matrix product, and wins for narrow images with few channels, where a direct convolution cannot
  fill the vector units.

Gradient in the pixels, microseconds an image, one core of an AMD EPYC (AVX-512), jax 0.10.2:

| edge (images at once)  | lax, no loop | lax in a loop | canonical in it | toeplitz in it |
|------------------------|--------------|---------------|-----------------|----------------|
| LeNet-5 to conv1 (100) | 55           | 89            | 55              | 13             |
| LeNet-5 to relu2 (100) | 92           | 250           | 90              | 37             |
| CIFAR to conv11 (8)    | 59           | 187           | 56              | 407            |
| CIFAR to relu22 (8)    | 1859         | 9839          | 1861            | not run        |
"""

import contextlib
import contextvars
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero, linear_call

Form = Literal["lax", "canonical", "toeplitz"]
Pads = tuple[tuple[int, int], tuple[int, int]]

_chosen: contextvars.ContextVar[Form | None] = contextvars.ContextVar("form", default=None)

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_TOEPLITZ_MAX_OVERHEAD = 8  # times the multiplications of the direct form
_TOEPLITZ_MAX_CHANNELS = 256  # input channels x output channels


@contextlib.contextmanager
def computed_as(form: Form) -> Iterator[None]:
    """Every convolution that is traced meanwhile has this form."""
    token = _chosen.set(form)
    try:
        yield
    finally:
        _chosen.reset(token)


def choose_form(
    input_shape: Sequence[int], kernel_shape: Sequence[int], *, backend: str | None = None
) -> Form:
    """The fastest form for a convolution of stride 1.

    Args:
      input_shape: `(N, H, W, Cin)`.
      kernel_shape: `(kh, kw, Cin, Cout)`.
      backend: "cpu", "gpu" or "tpu"; by default the one that JAX uses.
    """
    if (backend or jax.default_backend()) != "cpu":
        return "lax"
    _, kw, c_in, c_out = kernel_shape
    overhead = input_shape[2] / kw
    narrow = overhead <= _TOEPLITZ_MAX_OVERHEAD and c_in * c_out <= _TOEPLITZ_MAX_CHANNELS
    return "toeplitz" if narrow else "canonical"


def convolve(x: Array, kernel: Array, pads: Pads, *, form: Form | None = None) -> Array:
    """Convolution of stride 1, as neural networks define it (no flip of the kernel).

    Args:
      x: `[N, H, W, Cin]`.
      kernel: `[kh, kw, Cin, Cout]`.
      pads: zeros before and after, for height and for width.
      form: how to compute it; `choose_form` by default.

    Returns:
      `[N, H + sum(pads[0]) - kh + 1, W + sum(pads[1]) - kw + 1, Cout]`.
    """
    form = form or _chosen.get() or choose_form(x.shape, kernel.shape)
    if form == "lax":
        return _direct(x, kernel, pads)
    return _canonical(x, kernel, pads) if form == "canonical" else _toeplitz(x, kernel, pads)


def conv_general_dilated(
    lhs: Array, rhs: Array, window_strides: Sequence[int], padding: Any, **options: Any
) -> Array:
    """`jax.lax.conv_general_dilated` for `flax.linen.Conv`, in the fastest form that applies.

    Strided, dilated, grouped, mixed-precision and other than two-dimensional convolutions go to
    XLA as they are.
    """
    plain = (
        rhs.ndim == 4
        and set(window_strides) == {1}
        and all(
            option is None or set(option) == {1}
            for option in (options.get("lhs_dilation"), options.get("rhs_dilation"))
        )
        and options.get("feature_group_count", 1) == 1
        and options.get("batch_group_count", 1) == 1
        and options.get("precision") is None
        and options.get("preferred_element_type") is None
    )
    if not plain:
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    if isinstance(padding, str):
        padding = lax.padtype_to_pads(lhs.shape[1:3], rhs.shape[:2], (1, 1), padding)
    pads: Any = tuple(map(tuple, padding))
    return convolve(lhs, rhs, pads)


def _direct(x: Array, kernel: Array, pads: Pads) -> Array:
    return lax.conv_general_dilated(x, kernel, (1, 1), pads, dimension_numbers=_DIMENSIONS)


@partial(jax.custom_jvp, nondiff_argnums=(2,))
def _canonical(x: Array, kernel: Array, pads: Pads) -> Array:
    return _direct(x, kernel, pads)


def _canonical_jvp(pads, primals, tangents):
    x, kernel = primals
    x_dot, kernel_dot = tangents
    y = _direct(x, kernel, pads)
    y_dot = jnp.zeros_like(y)
    if not isinstance(x_dot, SymbolicZero):
        y_dot += _linear_in_input(kernel, x_dot, pads)
    if not isinstance(kernel_dot, SymbolicZero):
        y_dot += _linear_in_kernel(x, kernel_dot, pads)
    return y, y_dot


_canonical.defjvp(_canonical_jvp, symbolic_zeros=True)


def _linear_in_input(kernel: Array, x: Array, pads: Pads) -> Array:
    """The convolution as a linear map of `x`; its transpose is a convolution in NHWC and HWIO."""
    kh, kw = kernel.shape[:2]
    back = (
        (kh - 1 - pads[0][0], kh - 1 - pads[0][1]),
        (kw - 1 - pads[1][0], kw - 1 - pads[1][1]),
    )

    def transpose(kernel: Array, ct: Array) -> Array:
        # Without the barrier XLA folds the flip back into the convolution: the slow form again.
        flipped = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
        return _direct(ct, flipped, back)

    return linear_call(lambda kernel, x: _direct(x, kernel, pads), transpose, kernel, x)


def _linear_in_kernel(x: Array, kernel: Array, pads: Pads) -> Array:
    """The convolution as a linear map of `kernel`; its transpose is a matrix product a tap."""
    kh, kw, c_in, c_out = kernel.shape

    def transpose(x: Array, ct: Array) -> Array:
        height, width = ct.shape[1:3]
        padded = jnp.pad(x, ((0, 0), *pads, (0, 0)))
        flat = ct.reshape(-1, c_out)
        taps = [
            padded[:, i : i + height, j : j + width].reshape(-1, c_in).T @ flat
            for i in range(kh)
            for j in range(kw)
        ]
        return jnp.stack(taps).reshape(kh, kw, c_in, c_out)

    return linear_call(lambda x, kernel: _direct(x, kernel, pads), transpose, x, kernel)


def _toeplitz(x: Array, kernel: Array, pads: Pads) -> Array:
    kh, kw, c_in, c_out = kernel.shape
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    n, height, width, _ = x.shape
    out_h, out_w = height - kh + 1, width - kw + 1
    # shift[j, w, o] = 1 where input column w meets output column o at tap j.
    shift = jnp.stack([jnp.eye(width, out_w, -j, dtype=kernel.dtype) for j in range(kw)])
    banded = jnp.einsum("jwo,ijab->iwaob", shift, kernel)
    banded = banded.reshape(kh * width * c_in, out_w * c_out)
    rows = x.reshape(n, height, width * c_in)
    windows = jnp.concatenate([rows[:, i : i + out_h] for i in range(kh)], axis=-1)
    y = windows.reshape(n * out_h, -1) @ banded
    return y.reshape(n, out_h, out_w, c_out)
