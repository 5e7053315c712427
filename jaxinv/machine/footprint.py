"""Bytes that a program holds at once, counted from its shapes before it runs. JAX.

Compilers fuse operations and hold less; a convolution's own workspace is not counted.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal


def of(function: Callable[..., Any], *shapes: Any) -> int:
    """Returns the bytes of intermediate values and results of a function that are held at most.

    Args:
      function: pure.
      shapes: trees of arrays or of `jax.ShapeDtypeStruct`, its arguments, which are not counted.
    """
    return peak(jax.make_jaxpr(function)(*shapes).jaxpr)


def peak(jaxpr: Jaxpr) -> int:
    """Returns the bytes that a traced program holds at most, without its arguments."""
    last = {atom: number for number, atom in _read(jaxpr)}
    held, most = 0, 0
    live: dict[Any, int] = {}
    for number, equation in enumerate(jaxpr.eqns):
        made = {var: _size(var) for var in equation.outvars}
        inner = max((peak(each) for each in _inner(equation)), default=0)
        most = max(most, held + max(sum(made.values()), inner))
        live |= {var: size for var, size in made.items() if var in last}
        held = sum(live.values())
        for var in {atom for atom in equation.invars if not isinstance(atom, Literal)}:
            if last[var] == number:
                held -= live.pop(var, 0)
    return most


def rows_within(limit: int, wanted: int, held: Callable[[int], int], *, multiple: int = 1) -> int:
    """Returns how many rows are computed at once: as wanted, or halved until they fit.

    Args:
      limit: bytes.
      wanted: number of rows, a multiple of `multiple`.
      held: returns the bytes that a number of rows holds.
      multiple: the number returned is one of this, and at least this.
    """
    rows = wanted
    while rows > multiple and held(rows) > limit:
        rows = max(rows // 2 // multiple, 1) * multiple
    return rows


def batch_within(
    limit: int,
    wanted: int,
    function: Callable[..., Any],
    known: Any,
    rows: Any,
    *,
    multiple: int = 1,
) -> int:
    """Returns how many examples a function takes at once, as `rows_within`.

    Args:
      limit: bytes.
      wanted: number of examples.
      function: `(known, rows) -> anything`, pure.
      known: tree of arrays that do not grow with the examples.
      rows: tree of arrays `[N, ...]`, or of objects with such a `shape` and `dtype`.
      multiple: the number returned is one of this.
    """

    def held(count: int) -> int:
        shapes = jax.tree.map(lambda leaf: shape_of(leaf, count), rows)
        return of(function, known, shapes)

    return rows_within(limit, wanted, held, multiple=multiple)


def shape_of(rows: Any, count: int) -> jax.ShapeDtypeStruct:
    """Returns the shape of so many rows of `[N, ...]`; those without a type are float32."""
    dtype = jax.dtypes.canonicalize_dtype(getattr(rows, "dtype", np.float32))
    return jax.ShapeDtypeStruct((count, *rows.shape[1:]), dtype)


def _read(jaxpr: Jaxpr) -> Iterator[tuple[int, Any]]:
    """Yields the number of an equation and each variable that it reads; results are read last."""
    for number, equation in enumerate(jaxpr.eqns):
        yield from ((number, atom) for atom in equation.invars if not isinstance(atom, Literal))
    end = len(jaxpr.eqns)
    yield from ((end, atom) for atom in jaxpr.outvars if not isinstance(atom, Literal))


def _inner(equation: Any) -> Iterator[Jaxpr]:
    """Yields the programs inside an equation: bodies of loops, branches, functions."""
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            if isinstance(one, ClosedJaxpr):
                yield one.jaxpr
            elif isinstance(one, Jaxpr):
                yield one


def _size(var: Any) -> int:
    aval = var.aval
    try:
        width = np.dtype(aval.dtype).itemsize
    except TypeError:  # a key
        width = 8
    return math.prod(aval.shape) * width
