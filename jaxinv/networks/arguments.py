"""Checks of what networks are made of: shapes, named layers, mean and std, parameters. JAX."""

import operator
import re
import reprlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.errors import UsageError, UserError
from jaxinv.networks.program import Path

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}")
_FOREIGN = re.compile(r"[^A-Za-z0-9_.-]")
_RESERVED = "all"  # means every cut
_FLOAT32 = np.finfo(np.float32)


def check_shape(value: Any) -> tuple[int, ...]:
    """Returns the shape of an example.

    Raises:
      UsageError: it is not some whole numbers above zero.
    """
    try:
        shape = tuple(map(operator.index, value))
    except TypeError:
        shape = (0,)
    if min(shape, default=1) < 1 or isinstance(value, str | bytes) or _has_bool(value):
        raise UsageError(
            f"input_shape={reprlib.repr(value)}: expected the shape of one example, positive whole "
            "numbers such as (28, 28, 1)."
        )
    return shape


def _has_bool(values: Iterable[Any]) -> bool:
    return any(isinstance(value, bool | np.bool_) for value in values)


def check_layers(value: Any) -> list[tuple[str, Any]]:
    """Returns layers and their names, in order.

    Raises:
      UsageError: they are no pairs of a name and a layer, or a name is not allowed or repeats.
    """
    expected = "expected (name, layer) pairs, such as [('conv1', nn.Conv(8, (5, 5)))]."
    if isinstance(value, str | bytes) or not isinstance(value, Iterable):
        raise UsageError(f"layers={reprlib.repr(value)}: {expected}")
    layers = list(value)
    for pair in layers:
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise UsageError(f"layers=[{reprlib.repr(pair)}]: {expected}")
        check_name(pair[0])
    names = [name for name, _ in layers]
    if len({name.lower() for name in names}) < len(names):
        raise UsageError(
            f"layers={', '.join(names)}: the names must differ, also if their case is ignored."
        )
    return [(name, layer) for name, layer in layers]


def check_name(value: Any) -> None:
    """Checks the name of a layer: it is part of a flag, of file names and of records.

    Raises:
      UsageError: it is not allowed.
    """
    if not isinstance(value, str) or not _NAME.fullmatch(value) or value.lower() == _RESERVED:
        raise UsageError(
            f"layers={reprlib.repr(value)}: expected a name of up to 64 letters, digits and _ . - "
            f"(of ASCII; none of . - first), and not {_RESERVED!r}."
        )


def safe_name(name: str) -> str:
    """Returns an allowed name for a layer or module that its author named otherwise."""
    name = _FOREIGN.sub("_", name.replace("/", "."))[:64] or "layer"
    name = f"_{name[:63]}" if name[0] in ".-" else name
    return f"{name}_" if name.lower() == _RESERVED else name


def free_name(name: str, taken: Collection[str]) -> str:
    """Returns a name that is not taken, whatever the case: itself, or with a number behind it."""
    number, found = 1, name
    while found.lower() in taken:
        number += 1
        found = f"{name}_{number}"
    return found


def check_normalization(
    shape: Sequence[int], mean: Any, std: Any
) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Returns mean and std for each channel.

    Raises:
      UsageError: only one is given, they are not one number or one for each channel, or float32
        does not hold them or what they make of unit space.
    """
    if (mean is None) != (std is None):
        raise UsageError(f"mean={mean}, std={std}: expected both of mean and std, or neither.")
    if mean is None:
        return None, None
    channels = shape[-1] if shape else 1
    own, scale = (_numbers(name, value, channels) for name, value in (("mean", mean), ("std", std)))
    with np.errstate(all="ignore"):
        zero, one = ((np.float32(x) - np.float32(own)) / np.float32(scale) for x in (0, 1))
        apart = np.abs(one - zero)
    if not (np.isfinite(zero) & np.isfinite(one) & (apart >= _FLOAT32.tiny)).all():
        raise UsageError(
            f"mean={mean}, std={std}: in float32 (x - mean) / std must be finite, and differ for "
            "x = 0 and x = 1."
        )
    return tuple(own.tolist()), tuple(scale.tolist())


def _numbers(name: str, value: Any, channels: int) -> np.ndarray:
    """Returns the normalisation constants of one kind, `[1]` or `[channels]`."""
    try:
        given = np.atleast_1d(np.asarray(value))
    except (TypeError, ValueError):
        given = np.zeros((), object)
    real = given.dtype.kind in "iuf" or given.dtype.name == "bfloat16"
    if not real or given.ndim != 1 or len(given) not in (1, channels):
        raise UsageError(
            f"{name}={reprlib.repr(value)}: expected one number, or one for each of {channels} "
            "channels."
        )
    numbers = given.astype(float)
    low = _FLOAT32.tiny if name == "std" else -_FLOAT32.max
    if not ((numbers >= low) & (numbers <= _FLOAT32.max)).all():
        kind = "positive" if name == "std" else "finite"
        raise UsageError(f"{name}={value}: expected {kind} numbers, within the range of float32.")
    return numbers


def leaf(params: Any, path: Path, shape: tuple[int, ...]) -> Array:
    """Returns one array of nested dictionaries of parameters.

    Raises:
      UserError: it is missing, has another shape, or is no array.
    """
    found: Any = params
    name = "/".join(map(str, path))
    for key in path:
        if not isinstance(found, Mapping) or key not in found:
            raise UserError(f"The parameters lack {name}.")
        found = found[key]
    array = numbers(name, found)
    if array.shape != shape:
        raise UserError(f"The parameter {name} has shape {array.shape}: expected {shape}.")
    return array


def numbers(name: str, value: Any) -> Array:
    """Returns an array.

    Raises:
      UsageError: it is none.
    """
    if isinstance(value, str | bytes):
        raise UsageError(f"{name}={reprlib.repr(value)}: expected an array of numbers.")
    try:
        return jnp.asarray(value)
    except (TypeError, ValueError) as error:
        raise UsageError(f"{name}={reprlib.repr(value)}: expected an array of numbers.") from error
