"""Checks of numbers and choices that library calls are given, each refused in one line."""

import math
from collections.abc import Collection
from typing import Any

import numpy as np

from jaxinv.errors import UsageError


def check_whole(name: str, value: Any, *, least: int, most: int | None = None) -> None:
    """Checks a whole number, of Python or NumPy.

    Raises:
      UsageError: it is none, or lies outside of [least, most].
    """
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        allowed = f"at least {least}" if most is None else f"from {least} to {most}"
        raise UsageError(f"{name}={value}: expected {allowed}, a whole number.")


def check_number(name: str, value: Any, *, least: float, above: bool = False) -> None:
    """Checks a finite number, of Python or NumPy.

    Args:
      name: of the argument.
      value: of it.
      least: the least that is allowed.
      above: whether it must be larger than that.

    Raises:
      UsageError: it is no finite number, or too small.
    """
    number = as_float(value)
    if not math.isfinite(number) or number < least or (above and number == least):
        where = "above" if above else "at least"
        raise UsageError(f"{name}={value}: expected a finite number, {where} {least:g}.")


def as_float(value: Any) -> float:
    """Returns a real number of Python, NumPy or JAX as a float, and NaN for anything else.

    An array of no dimensions is a number; one that a program traces has no value yet.
    """
    if getattr(value, "shape", None) == ():
        try:
            value = np.asarray(value)[()]
        except TypeError:  # traced, or a random key
            return math.nan
    real = isinstance(value, int | float | np.integer | np.floating)
    if not real or isinstance(value, bool):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf


def check_key(name: str, value: Any) -> None:
    """Checks one key of JAX's random numbers, new (`jax.random.key`) or old (`PRNGKey`).

    Raises:
      UsageError: it is none.
    """
    kind, shape = str(getattr(value, "dtype", "")), getattr(value, "shape", None)
    is_old = kind == "uint32" and shape in ((2,), (4,))
    if not is_old and not (kind.startswith("key<") and shape == ()):
        got = f"{kind} {list(shape)}" if kind and shape is not None else value
        raise UsageError(f"{name}={got}: expected one random key, such as jax.random.key(0).")


def check_choice(name: str, value: Any, allowed: Collection[Any]) -> None:
    """Checks one of several values.

    Raises:
      UsageError: it is none of them.
    """
    if not any(type(value) is type(each) and value == each for each in allowed):
        raise UsageError(f"{name}={value}: expected one of {', '.join(map(str, allowed))}.")
