"""Forms of one convolution: equal results, different speed on different machines. JAX.

`conv_general_dilated` has the signature of `jax.lax.conv_general_dilated`, so that a
`flax.linen.Conv` takes it as its attribute of the same name. It chooses among

* `lax`: XLA's own convolution, in forward and in gradient. The choice on GPU and TPU. Of an input
  with gaps one of all phases, as in the other forms (`_in_phases`).
* `canonical`: the same forward convolution, whose transposes are written so that XLA's CPU
  backend stays on its fast path. There, only convolutions with NHWC operands, an HWIO kernel and
  no gaps in the input reach the optimised kernel inside a compiled loop (jax issue 12868), and
  autodiff writes others. The gradient in a kernel is a sum of matrix products. Derivatives in this
  form cannot be mapped by `jax.vmap` (`linear_call` has no rule for it), as `jax.jacfwd` does:
  batch the images instead, or compute as `lax` (`computed_as`).
* `toeplitz`: rows of the input times a banded matrix. It does more arithmetic, all of it in one
  matrix product, and wins for narrow images with few channels, where a direct convolution cannot
  fill the vector units.
* `windows`: the windows, copied side by side, times the kernel. For maps smaller than the kernel,
  which XLA's CPU backend computes by its slowest path.
* `shifts`: a sum of shifted images, each times its weights. For one input channel a group
  (depthwise), where nothing is left to multiply as matrices. The gradient in the weights goes over
  the shifts one by one. Its derivatives cannot be mapped by `jax.vmap` either.

Several groups of more channels are convolved one after the other.

Gradient in the pixels, microseconds an image, one core of an AMD EPYC (AVX-512), jax 0.10.2:

| edge (images at once)  | lax, no loop | lax in a loop | canonical in it | toeplitz in it |
|------------------------|--------------|---------------|-----------------|----------------|
| LeNet-5 to conv1 (100) | 55           | 89            | 55              | 13             |
| LeNet-5 to relu2 (100) | 92           | 250           | 90              | 37             |
| CIFAR to conv11 (8)    | 59           | 187           | 56              | 407            |
| CIFAR to relu22 (8)    | 1859         | 9839          | 1861            | not run        |

In a compiled loop, milliseconds, XLA's own against ours, one shared core of an Intel Xeon:

| convolution (images, input, kernel)            | value      | gradient in pixels | in the kernel |
|------------------------------------------------|------------|--------------------|---------------|
| 4, 224 x 224 x 3, 7 x 7 to 64, stride 2        | 23, 18     | 126, 47            | 6842, 47      |
| 128, 32 x 32 x 16, 3 x 3 to 32, stride 2       | 8.0, 8.1   | 172, 20            | 2367, 22      |
| 4, 28 x 28 x 128, 3 x 3 to 128, 4 groups       | 15, 7.4    | 170, 4.8           | 425, 8.0      |
| 4, 112 x 112 x 32, 3 x 3, depthwise            | 37, 26     | 3.3, 1.9           | 2793, 13      |
| 4, 28 x 28 x 96, 7 x 7, depthwise              | 19, 11     | 5.7, 6.4           | 1506, 8.2     |
| 32, 256 x 16, 5 to 32 (series)                 | 3.4, 0.7   | 28, 0.5            | 49, 4.0       |
| 32, 2 x 2 x 512, 3 x 3 to 512                  | 975, 6.3   | 1972, 17 in both   |               |

In a compiled loop, milliseconds, `canonical` against `toeplitz`, 32 images, one shared core of an
AMD EPYC:

| convolution (input, kernel)          | value      | gradient in pixels | in the kernel |
|--------------------------------------|------------|--------------------|---------------|
| 28 x 28 x 1, 5 x 5 to 8              | 1.7, 0.5   | 1.9, 0.6           | 0.9, 0.5      |
| 14 x 14 x 8, 3 x 3 to 4              | 0.3, 0.2   | 0.8, 0.2           | 0.4, 0.3      |
| 12 x 12 x 8, 5 x 5 to 16             | 0.3, 0.5   | 1.0, 0.5           | 0.5, 0.5      |
| 16 x 16 x 16, 5 x 5 to 8             | 0.9, 1.6   | 1.7, 1.7           | 1.4, 2.5      |
| 16 x 16 x 16, 3 x 3 to 16            | 0.8, 2.7   | 1.1, 2.4           | 1.0, 3.0      |
"""

import contextlib
import contextvars
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array, lax
from jax.custom_derivatives import SymbolicZero, linear_call

Form = Literal["lax", "canonical", "toeplitz", "windows", "shifts"]
Pair = tuple[int, int]
Pads = tuple[Pair, Pair]

_chosen: contextvars.ContextVar[Form | None] = contextvars.ContextVar("form", default=None)

_DIMENSIONS = ("NHWC", "HWIO", "NHWC")
_TOEPLITZ_MAX_OVERHEAD = 8  # times the multiplications of the direct form
_TOEPLITZ_MAX_WORK = 350  # most of: that, times channels of the input, times those of the output
_BLOCK_BYTES = 640 * 1024  # windows that a core multiplies at once, well inside its cache
_BLOCK_LEAST_PIXELS = 512  # or the sum over blocks costs as much as the products


class Geometry(NamedTuple):
    """Places of a convolution's windows, for height and for width.

    Attributes:
      pads: zeros before and after.
      strides: from a window to the next.
      dilation: from an element of a window to the next.
    """

    pads: Pads
    strides: Pair = (1, 1)
    dilation: Pair = (1, 1)

    @property
    def is_dense(self) -> bool:
        """True if every pixel begins a window, without gaps."""
        return self.strides == self.dilation == (1, 1)


Convolve = Callable[[Array, Array, Geometry], Array]


@contextlib.contextmanager
def computed_as(form: Form) -> Iterator[None]:
    """Every convolution that is traced meanwhile has this form."""
    token = _chosen.set(form)
    try:
        yield
    finally:
        _chosen.reset(token)


def choose_form(
    input_shape: Sequence[int],
    kernel_shape: Sequence[int],
    *,
    dense: bool = True,
    groups: int = 1,
    backend: str | None = None,
) -> Form:
    """The fastest form for a convolution.

    Args:
      input_shape: `(N, H, W, Cin)`.
      kernel_shape: `(kh, kw, Cin / groups, Cout)`.
      dense: True if it has stride 1 and a kernel without gaps.
      groups: of channels.
      backend: "cpu", "gpu" or "tpu"; by default the one that JAX uses.
    """
    if (backend or jax.default_backend()) != "cpu":
        return "lax"
    kh, kw, c_in, c_out = kernel_shape
    if groups > 1:
        return "shifts" if c_in == 1 else "canonical"
    if input_shape[1] < kh or input_shape[2] < kw:
        return "windows"
    overhead = input_shape[2] / kw
    few = overhead * c_in * c_out <= _TOEPLITZ_MAX_WORK
    return "toeplitz" if overhead <= _TOEPLITZ_MAX_OVERHEAD and few and dense else "canonical"


def convolve(
    x: Array,
    kernel: Array,
    pads: Pads,
    *,
    strides: Pair = (1, 1),
    dilation: Pair = (1, 1),
    groups: int = 1,
    form: Form | None = None,
) -> Array:
    """Convolution as neural networks define it (no flip of the kernel).

    Args:
      x: `[N, H, W, Cin]`.
      kernel: `[kh, kw, Cin / groups, Cout]`.
      pads: zeros before and after, for height and for width.
      strides: from a window to the next.
      dilation: from an element of a window to the next.
      groups: of channels, each convolved on its own.
      form: how to compute it; `choose_form` by default. One that cannot express strides, dilation
        or groups gives way to `canonical`.

    Returns:
      `[N, H', W', Cout]`, at stride 1 and without dilation `H' = H + sum(pads[0]) - kh + 1`.
    """
    at = Geometry(pads, strides, dilation)
    form = form or _chosen.get()
    if form is None:
        form = choose_form(x.shape, kernel.shape, dense=at.is_dense, groups=groups)
    if form == "lax":
        return _direct(x, kernel, at, groups)
    if form == "shifts" and kernel.shape[2] == 1:
        return _shifts(x, kernel, at)
    if groups > 1:
        return _grouped(x, kernel, at, groups)
    if form == "toeplitz" and at.is_dense:
        return _toeplitz(x, kernel, pads)
    return _windows(x, kernel, at) if form == "windows" else _canonical(x, kernel, at)


def conv_general_dilated(
    lhs: Array, rhs: Array, window_strides: Sequence[int], padding: Any, **options: Any
) -> Array:
    """`jax.lax.conv_general_dilated` for `flax.linen.Conv`, in the fastest form that applies.

    Mixed-precision convolutions and those of more than two dimensions go to XLA. None has negative
    pads: XLA's CPU backend reads beyond the input where one end is cut off and the other padded.
    """
    count = rhs.ndim - 2
    once = (1,) * count
    gaps, dilation = (tuple(options.get(n) or once) for n in ("lhs_dilation", "rhs_dilation"))
    if not isinstance(padding, str) and min(map(min, padding), default=0) < 0:
        lhs, gaps, padding = _with_gaps(lhs, gaps, padding), once, ((0, 0),) * count
        options = {**options, "lhs_dilation": None}
    plain = (
        count in (1, 2)
        and options.get("batch_group_count", 1) == 1
        and options.get("precision") is None
        and options.get("preferred_element_type") is None
    )
    if isinstance(padding, str) and plain and gaps == once:
        windows = [(k - 1) * d + 1 for k, d in zip(rhs.shape, dilation, strict=False)]
        padding = lax.padtype_to_pads(lhs.shape[1:-1], windows, window_strides, padding)
    if not plain or isinstance(padding, str):
        return lax.conv_general_dilated(lhs, rhs, window_strides, padding, **options)
    groups = options.get("feature_group_count", 1)
    return convolve_dilated(lhs, rhs, padding, tuple(window_strides), gaps, dilation, groups)


def convolve_dilated(
    x: Array,
    kernel: Array,
    pads: Sequence[Sequence[int]],
    strides: Sequence[int],
    gaps: Sequence[int],
    dilation: Sequence[int],
    groups: int,
) -> Array:
    """Convolves series `[N, T, C]` or images, with gaps in the input, too.

    Args:
      x: `[N, T, Cin]` or `[N, H, W, Cin]`.
      kernel: `[k, Cin / groups, Cout]` or `[kh, kw, Cin / groups, Cout]`.
      pads: zeros before and after, for each axis.
      strides: from a window to the next, for each axis.
      gaps: from a value of the input to the next, zeros between, for each axis.
      dilation: from an element of a window to the next, for each axis.
      groups: of channels.
    """
    if x.ndim == 3:
        each = (((0, 0), *pads), (1, *strides), (1, *gaps), (1, *dilation))
        return convolve_dilated(x[:, None], kernel[None], *each, groups)[:, 0]
    apart, at = _pair(gaps), Geometry(_pair([*map(tuple, pads)]), _pair(strides), _pair(dilation))
    if apart != (1, 1) and at.is_dense and groups == 1:
        return _in_phases(x, kernel, at.pads, apart, convolve)
    x = _with_gaps(x, apart) if apart != (1, 1) else x
    return convolve(x, kernel, at.pads, strides=at.strides, dilation=at.dilation, groups=groups)


def _with_gaps(x: Array, gaps: Sequence[int], pads: Sequence[Pair] | None = None) -> Array:
    """Puts zeros between values and around them; cuts off where pads are negative.

    Args:
      x: `[N, ..., C]`.
      gaps: from a value to the next, for each axis between.
      pads: before and after, for each axis between; none by default.
    """
    around = pads or ((0, 0),) * len(gaps)
    between = [(*pad, gap - 1) for pad, gap in zip(around, gaps, strict=True)]
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *between, (0, 0, 0)])


def _in_phases(
    x: Array, kernel: Array, pads: Pads, gaps: Pair, apply: Callable[[Array, Array, Pads], Array]
) -> Array:
    """Convolves an input with gaps, with few products with the zeros between its values.

    Outputs that lie `gaps` apart meet the same elements of the kernel: they are a phase. One
    convolution of the values themselves has all phases as channels.

    Args:
      x: `[N, H, W, Cin]`, without the zeros.
      kernel: `[kh, kw, Cin, Cout]`.
      pads: zeros before and after the input with its gaps.
      gaps: from a value to the next, rows and columns.
      apply: a convolution of stride 1, of an input, a kernel and pads.

    Returns:
      `[N, H', W', Cout]`, as of the input with zeros between its values.
    """
    if kernel.shape[:2] == (1, 1):  # most phases meet no value
        return _with_gaps(apply(x, kernel, ((0, 0), (0, 0))), gaps, pads)
    n, c_in, c_out = len(x), *kernel.shape[2:]
    sizes, taps, phase_pads, kernel_pads = [], [], [], []
    for length, window, (low, high), gap in zip(
        x.shape[1:3], kernel.shape[:2], pads, gaps, strict=True
    ):
        sizes.append(max(0, (length - 1) * gap + 1 + low + high - window + 1))
        # Zeros before the kernel, so that the first output of all is the first of a phase.
        front = (gap - 1 - low) % gap
        taps.append(-(-(front + window) // gap))
        kernel_pads.append((front, taps[-1] * gap - front - window))
        # From the first value that the first output meets to the last that the last one meets.
        before = (low - gap + 1 + front) // gap
        phase_pads.append((before, max(0, -(-sizes[-1] // gap) - 1 + taps[-1] - before - length)))
    phases = jnp.pad(kernel, (*kernel_pads, (0, 0), (0, 0)))
    phases = phases.reshape(taps[0], gaps[0], taps[1], gaps[1], c_in, c_out)
    phases = phases[:, ::-1, :, ::-1].transpose(0, 2, 4, 1, 3, 5)
    phases = phases.reshape(*taps, c_in, math.prod(gaps) * c_out)
    y = apply(x, phases, _pair(phase_pads))
    rows, columns = y.shape[1:3]
    y = y.reshape(n, rows, columns, *gaps, c_out).transpose(0, 1, 3, 2, 4, 5)
    y = y.reshape(n, rows * gaps[0], columns * gaps[1], c_out)
    return y[:, : sizes[0], : sizes[1]]


def _pair(values: Sequence[Any]) -> tuple[Any, Any]:
    rows, columns = values
    return rows, columns


def _direct(x: Array, kernel: Array, at: Geometry, groups: int = 1) -> Array:
    pads = at.pads
    if min(map(min, pads)) < 0:
        x, pads = _with_gaps(x, (1, 1), pads), ((0, 0), (0, 0))
    return lax.conv_general_dilated(
        x,
        kernel,
        at.strides,
        pads,
        rhs_dilation=at.dilation,
        dimension_numbers=_DIMENSIONS,
        feature_group_count=groups,
    )


def _dense(x: Array, kernel: Array, pads: Pads) -> Array:
    return _direct(x, kernel, Geometry(pads))


def _bilinear(value: Convolve, in_input: Convolve, in_kernel: Convolve) -> Convolve:
    """Returns a convolution whose derivatives are computed by functions of their own.

    Args:
      value: the convolution.
      in_input: the same as a linear map of its input, which knows how it is transposed.
      in_kernel: the same as a linear map of its kernel.
    """

    @partial(jax.custom_jvp, nondiff_argnums=(2,))
    def convolved(x: Array, kernel: Array, at: Geometry) -> Array:
        return value(x, kernel, at)

    def jvp(at, primals, tangents):
        x, kernel = primals
        x_dot, kernel_dot = tangents
        y = value(x, kernel, at)
        y_dot = jnp.zeros_like(y)
        if not isinstance(x_dot, SymbolicZero):
            y_dot += in_input(x_dot, kernel, at)
        if not isinstance(kernel_dot, SymbolicZero):
            y_dot += in_kernel(x, kernel_dot, at)
        return y, y_dot

    convolved.defjvp(jvp, symbolic_zeros=True)
    return convolved


def _linear_in_input(x: Array, kernel: Array, at: Geometry) -> Array:
    """The convolution as a linear map of `x`; its transpose is a convolution in NHWC and HWIO."""
    reach = [(k - 1) * d for k, d in zip(kernel.shape, at.dilation, strict=False)]
    sides = x.shape[1:3]

    def transpose(kernel: Array, ct: Array) -> Array:
        # Without the barrier XLA folds the flip back into the convolution: the slow form again.
        flipped = lax.optimization_barrier(jnp.flip(kernel, (0, 1)).swapaxes(2, 3))
        spread = [(n - 1) * s + 1 for n, s in zip(ct.shape[1:3], at.strides, strict=True)]
        low = [r - pad[0] for r, pad in zip(reach, at.pads, strict=True)]
        ends = zip(sides, spread, low, reach, strict=True)
        high = [side - n - before + r for side, n, before, r in ends]
        back = _pair(list(zip(low, high, strict=True)))
        if at.strides != (1, 1) and at.dilation == (1, 1):
            return _in_phases(ct, flipped, back, at.strides, _dense)
        if at.strides != (1, 1):
            ct, back = _with_gaps(ct, at.strides, back), ((0, 0), (0, 0))
        return _direct(ct, flipped, Geometry(back, dilation=at.dilation))

    return linear_call(lambda kernel, x: _direct(x, kernel, at), transpose, kernel, x)


def _linear_in_kernel(x: Array, kernel: Array, at: Geometry) -> Array:
    """The convolution as a linear map of `kernel`; its transpose is a sum of matrix products."""
    window = _pair(kernel.shape[:2])

    def transpose(x: Array, ct: Array) -> Array:
        return _kernel_gradient(jnp.pad(x, ((0, 0), *at.pads, (0, 0))), ct, window, at)

    return linear_call(lambda x, kernel: _direct(x, kernel, at), transpose, x, kernel)


_canonical = _bilinear(_direct, _linear_in_input, _linear_in_kernel)


def _kernel_gradient(x: Array, ct: Array, window: Pair, at: Geometry) -> Array:
    """Returns the gradient in a kernel: output gradients times the windows that they belong to.

    A loop goes over blocks of windows, rows of one image or several whole images, which are copied
    side by side into one matrix that stays in the cache of a core.

    Args:
      x: `[N, H, W, Cin]`, padded.
      ct: `[N, H', W', Cout]`, a value for each window.
      window: `(kh, kw)`.
      at: places of the windows; its pads are not used.

    Returns:
      `[kh, kw, Cin, Cout]`.
    """
    n, height, width, c_out = ct.shape
    c_in = x.shape[-1]
    size = math.prod(window) * c_in
    pixels = max(_BLOCK_LEAST_PIXELS, _BLOCK_BYTES // (size * x.dtype.itemsize))
    images = max(1, min(n, pixels // (height * width)))
    bands = 1 if images > 1 else -(-height // max(1, pixels // width))
    rows = -(-height // bands)
    # Zeros fill up the last block; their products are zero.
    spare, step = -n % images, rows * at.strides[0]
    deep = (rows - 1) * at.strides[0] + (window[0] - 1) * at.dilation[0] + 1
    short = max(0, (bands - 1) * step + deep - x.shape[1])
    x = jnp.pad(x, ((0, spare), (0, short), (0, 0), (0, 0)))
    ct = jnp.pad(ct, ((0, spare), (0, bands * rows - height), (0, 0), (0, 0)))

    def add(total: Array, block: Array) -> tuple[Array, None]:
        image, band = block // bands * images, block % bands
        part = lax.dynamic_slice(x, (image, band * step, 0, 0), (images, deep, *x.shape[2:]))
        outputs = lax.dynamic_slice(ct, (image, band * rows, 0, 0), (images, rows, *ct.shape[2:]))
        windows = jnp.concatenate(_taps(part, window, at), axis=-1).reshape(-1, size)
        return total + outputs.reshape(-1, c_out).T @ windows, None

    blocks = jnp.arange(len(ct) // images * bands)
    total, _ = lax.scan(add, jnp.zeros((c_out, size), ct.dtype), blocks)
    return total.T.reshape(*window, c_in, c_out)


def _taps(x: Array, window: Pair, at: Geometry) -> list[Array]:
    """Returns for each element of a window, row by row, the pixels that it meets.

    Args:
      x: `[N, H, W, C]`, padded.
      window: `(kh, kw)`.
      at: places of the windows; its pads are not used.

    Returns:
      kh * kw arrays `[N, H', W', C]`.
    """
    starts = [[i * d for i in range(k)] for k, d in zip(window, at.dilation, strict=True)]
    spans = [
        (side - last[-1] - 1) // s * s + 1
        for side, last, s in zip(x.shape[1:3], starts, at.strides, strict=True)
    ]
    return [
        x[:, i : i + spans[0] : at.strides[0], j : j + spans[1] : at.strides[1]]
        for i in starts[0]
        for j in starts[1]
    ]


def _windows(x: Array, kernel: Array, at: Geometry) -> Array:
    taps = _taps(jnp.pad(x, ((0, 0), *at.pads, (0, 0))), _pair(kernel.shape[:2]), at)
    return jnp.concatenate(taps, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


def _shifted(x: Array, kernel: Array, at: Geometry) -> Array:
    return _shifted_of(_spread(x, kernel, at), kernel, at)


def _shifted_of(x: Array, kernel: Array, at: Geometry) -> Array:
    """Sums shifts of images that `_spread` has returned."""
    taps = _taps(x, _pair(kernel.shape[:2]), at)
    weights = kernel.reshape(len(taps), 1, 1, 1, -1)
    terms = [tap * weight for tap, weight in zip(taps, weights, strict=True)]
    return functools.reduce(jnp.add, terms)


def _spread(x: Array, kernel: Array, at: Geometry) -> Array:
    """Returns padded images with a channel for each of the output's."""
    x = jnp.repeat(x, kernel.shape[-1] // x.shape[-1], axis=-1)
    return jnp.pad(x, ((0, 0), *at.pads, (0, 0)))


def _shifts_in_kernel(x: Array, kernel: Array, at: Geometry) -> Array:
    """The same as a linear map of `kernel`; its transpose keeps one shifted image at a time."""
    starts = [
        (i * at.dilation[0], j * at.dilation[1])
        for i in range(kernel.shape[0])
        for j in range(kernel.shape[1])
    ]
    shape, (rows, columns) = kernel.shape, at.strides

    def transpose(x: Array, ct: Array) -> Array:
        n, height, width, channels = ct.shape
        span = (n, (height - 1) * rows + 1, (width - 1) * columns + 1, channels)

        def weight(start: Array) -> Array:
            part = lax.dynamic_slice(x, (0, start[0], start[1], 0), span)
            return (part[:, ::rows, ::columns] * ct).sum((0, 1, 2))

        return lax.map(weight, jnp.asarray(starts)).reshape(shape)

    return linear_call(
        lambda x, kernel: _shifted_of(x, kernel, at), transpose, _spread(x, kernel, at), kernel
    )


_shifts = _bilinear(_shifted, _shifted, _shifts_in_kernel)


def _grouped(x: Array, kernel: Array, at: Geometry, groups: int) -> Array:
    """Convolves each group of channels on its own, one after the other."""
    n, height, width, _ = x.shape
    parts = jnp.moveaxis(x.reshape(n, height, width, groups, -1), 3, 0)
    kernels = jnp.moveaxis(kernel.reshape(*kernel.shape[:3], groups, -1), 3, 0)
    y = lax.map(lambda pair: _canonical(pair[0], pair[1], at), (parts, kernels))
    return jnp.moveaxis(y, 0, 3).reshape(*y.shape[1:4], -1)


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
    y = windows.reshape(n * out_h, math.prod(windows.shape[2:])) @ banded
    return y.reshape(n, out_h, out_w, c_out)
