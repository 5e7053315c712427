"""Resizing of images, as a gather or as one small matrix for each axis. JAX."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxinv.errors import UserError
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import Tensor, axis_of

_ROUNDINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


@operator("Resize", settings=(1, 2, 3), is_step=True)
def resize(call: Call, x: Tensor, roi: Any = None, scales: Any = None, sizes: Any = None) -> Tensor:
    """Resizes by factors or to sizes: nearest, linear or cubic."""
    policy = call.get("keep_aspect_ratio_policy", "stretch")
    if call.get("antialias", 0) or policy != "stretch":
        raise UserError("antialias and keep_aspect_ratio_policy are not supported.")
    axes = call.get("axes") or range(x.rank)
    own = [axis_of(axis, x.rank) for axis in axes]
    by_size = sizes is not None and sizes.size > 0
    if not by_size and (scales is None or not scales.size):
        raise UserError("it has neither scales nor sizes.")
    given = (sizes if by_size else scales).tolist()
    return _resized(call, x, dict(zip(own, given, strict=True)), by_size)


@operator("Upsample", settings=(1,), is_step=True)
def upsample(call: Call, x: Tensor, scales: Any = None) -> Tensor:
    """Resizes by factors, as before opset 10."""
    given = call.get("scales") if scales is None else scales.tolist()
    return _resized(call, x, dict(enumerate(given)), False)


def _resized(call: Call, x: Tensor, given: dict[int, float], by_size: bool) -> Tensor:
    for axis, wanted in given.items():
        size = x.shape[axis]
        out = int(wanted) if by_size else int(np.floor(size * np.float32(wanted)))
        if axis == 0 and (by_size or wanted == 1):
            continue  # the batch
        if out != size or (not by_size and wanted != 1):
            scale = out / size if by_size else wanted
            x = _along(call, x, axis, out, scale)
    return x


def _along(call: Call, x: Tensor, axis: int, out: int, scale: float) -> Tensor:
    size, place = x.shape[axis], x.place(axis)
    if not 0 < out <= 2**16:
        raise UserError(f"{out} rows of an image.")
    where = _coordinates(call, size, out, scale)
    if call.get("mode", "nearest") == "nearest":
        default = "floor" if call.node.operator == "Upsample" else "round_prefer_floor"
        rounding = call.get("nearest_mode", default)
        if rounding not in _ROUNDINGS:
            raise UserError(f"nearest_mode={rounding} is not known.")
        indices = np.clip(_ROUNDINGS[rounding](where), 0, size - 1).astype(int)
        return x.like(jnp.take(x.array, indices, place))
    matrix = _matrix(call, where, size).astype(x.array.dtype)
    moved = jnp.tensordot(x.array, matrix, ((place,), (1,)))
    return x.like(jnp.moveaxis(moved, -1, place))


def _coordinates(call: Call, size: int, out: int, scale: float) -> np.ndarray:
    """Returns where in the input each output is, counted from the first pixel's centre."""
    mode, place = call.get("coordinate_transformation_mode", "half_pixel"), np.arange(out)
    if call.node.operator == "Upsample" or mode == "asymmetric":
        return place / scale
    if mode == "align_corners":
        return place * (size - 1) / (out - 1) if out > 1 else np.zeros(1)
    if mode == "pytorch_half_pixel" and out == 1:
        return np.zeros(1)
    if mode in ("half_pixel", "pytorch_half_pixel"):
        return (place + 0.5) / scale - 0.5
    if mode == "half_pixel_symmetric":
        adjusted = out / (scale * size)
        return size / 2 * (1 - adjusted) + (place + 0.5) / scale - 0.5
    raise UserError(f"coordinate_transformation_mode={mode} is not supported.")


def _matrix(call: Call, where: np.ndarray, size: int) -> np.ndarray:
    """Returns the share of each input in each output, `[out, size]`."""
    mode = call.get("mode")
    if mode not in ("linear", "cubic"):
        raise UserError(f"mode={mode} is not supported.")
    first = np.floor(where).astype(int)
    reach = np.arange(0, 2) if mode == "linear" else np.arange(-1, 3)
    taps = first[:, None] + reach
    distance = np.abs(where[:, None] - taps)
    shares = (
        1 - distance if mode == "linear" else _cubic(distance, call.get("cubic_coeff_a", -0.75))
    )
    if call.get("exclude_outside", 0):
        shares = shares * ((taps >= 0) & (taps < size))
        shares = shares / shares.sum(1, keepdims=True)
    found = np.zeros((len(where), size))
    rows = np.broadcast_to(np.arange(len(where))[:, None], taps.shape)
    np.add.at(found, (rows, np.clip(taps, 0, size - 1)), shares)
    return found


def _cubic(distance: np.ndarray, a: float) -> np.ndarray:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = ((a * distance - 5 * a) * distance + 8 * a) * distance - 4 * a
    return np.where(distance <= 1, near, np.where(distance < 2, far, 0))
