"""Rectifiers, known by their values: `relu`, `where(x > 0, x, 0)`, `x * (x > 0)` and others. NumPy.

An elementwise part of a program is evaluated on many numbers, however it is written. It clips
where each of them stays as it is, or becomes one of two limits.
"""

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxinv.networks.program import (
    Constant,
    Equation,
    Program,
    Value,
    as_numpy,
    expanded,
    words,
)

REARRANGING = words(
    """
    reshape transpose squeeze expand_dims slice rev name copy copy_p
    """
)
MAXIMA = frozenset(["reduce_max", "reduce_window_max"])

_LONGEST = 12  # equations of a spelling
_VALUES: Mapping[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ("abs", "sign")},
    **dict(max=np.maximum, min=np.minimum, neg=np.negative),
    **dict(add=np.add, sub=np.subtract, mul=np.multiply, div=np.divide),
    **dict(gt=np.greater, ge=np.greater_equal, lt=np.less, le=np.less_equal),
    **{"not": np.logical_not, "and": np.logical_and, "or": np.logical_or},
    "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
    "select_n": lambda which, *cases: np.where(which, *cases[::-1]) if len(cases) == 2 else None,
    **dict.fromkeys(["copy", "copy_p", "name", "broadcast_in_dim"], lambda x: x),
}


class Rectifier(NamedTuple):
    """A rectifier, `clip(x, 0, high)`.

    Attributes:
      places: of its equations.
      high: the largest value that it lets through; infinite for most.
      handed: place of an equation -> the value that it becomes where the rectifier is left out.
    """

    places: frozenset[int]
    high: float
    handed: Mapping[int, Value]


class _Clip(NamedTuple):
    """A part of a program that is `clip(x, low, high)` of one value, and the places of it."""

    places: frozenset[int]
    source: Value
    low: float
    high: float


def last_rectifier(program: Program, value: Value) -> Rectifier | None:
    """Returns the rectifier behind which nothing happens to a value but maxima and rearranging.

    These are monotone, so they can as well be taken before it. None where there is no such one.
    """
    high, places, handed = math.inf, frozenset[int](), dict[int, Value]()
    while (place := program.maker.get(value)) is not None:
        equation = program.equations[place]
        own = _dependent(program, equation)
        if equation.name in MAXIMA | REARRANGING:
            if len(own) != 1:
                return None
            (value,) = own
            continue
        found = _clip(program, place)
        if found is None or found.low > 0:
            return None
        places, high = places | found.places, min(high, found.high)
        handed[place] = value = found.source
        if found.low == 0:
            return Rectifier(places, high, handed) if high > 0 else None
    return None


def rectified(equation: Equation) -> float | None:
    """Returns the upper limit of a function with derivatives of its own that is a rectifier.

    None for any other equation.
    """
    inner = expanded(equation)
    if inner is None or len(inner[1]) != 1:
        return None
    limits = _limits(_grid(), lambda x: _evaluated(inner[0], {inner[1][0]: x}))
    return limits[1] if limits and limits[0] == 0 < limits[1] else None


def _dependent(program: Program, equation: Equation) -> set[Value]:
    return {value for value in equation.reads if value in program.dependent}


def _clip(program: Program, last: int) -> _Clip | None:
    """Returns the shortest part that ends in an equation and clips one value; None if none does."""
    places, open_ = [last], _dependent(program, program.equations[last])
    (result, *_) = program.equations[last].outputs
    while open_:
        source = max(open_)
        if len(open_) == 1 and jnp.issubdtype(program.dtypes[source], jnp.floating):
            own = [program.equations[place] for place in sorted(places)]
            limits = _limits(_grid(), functools.partial(_value, program, own, source, result))
            if limits is not None:
                return _Clip(frozenset(places), source, *limits)
        place = max(program.maker.get(value, -1) for value in open_)
        if place < 0 or len(places) == _LONGEST or not _is_known(program.equations[place]):
            return None
        places.append(place)
        open_ -= {*program.equations[place].outputs}
        open_ |= _dependent(program, program.equations[place])
    return None


def _is_known(equation: Equation) -> bool:
    return equation.name in _VALUES or _is_count(equation) or expanded(equation) is not None


def _is_count(equation: Equation) -> bool:
    """Returns whether an equation makes numbers of truth values."""
    return equation.name == "convert_element_type" and not jnp.issubdtype(
        equation.types[0], jnp.inexact
    )


def _value(
    program: Program, equations: Sequence[Equation], source: Value, result: Value, x: np.ndarray
) -> np.ndarray | None:
    """Returns a part's values of some numbers; None where it is not elementwise."""
    if any(program.shapes[equation.outputs[0]] != program.shapes[source] for equation in equations):
        return None
    scalars = {
        value: number
        for equation in equations
        for value in equation.reads
        if value not in program.dependent and (number := _scalar(program, value)) is not None
    }
    return _evaluated(equations, {**scalars, source: x})


def _evaluated(equations: Iterable[Equation], values: dict[Value, Any]) -> Any:
    """Returns the last result of elementwise equations; None where one of them is unknown."""
    found: Any = None
    for equation in equations:
        given = [
            _scalar(None, operand) if isinstance(operand, Constant) else values.get(operand)
            for operand in equation.inputs
        ]
        inner = expanded(equation)
        if any(each is None for each in given):
            return None
        if inner is not None:
            found = _evaluated(inner[0], dict(zip(inner[1], given, strict=True)))
        elif equation.name in _VALUES:
            found = _VALUES[equation.name](*given)
        else:
            found = np.asarray(given[0], float) if _is_count(equation) else None
        if found is None:
            return None
        values[equation.outputs[0]] = found
    return found


def _limits(
    x: np.ndarray, function: Callable[[np.ndarray], np.ndarray | None]
) -> tuple[float, float] | None:
    """Returns the limits between which a function clips; None where it does anything else."""
    with np.errstate(all="ignore"):
        y = function(x)
    if y is None or np.shape(y) != x.shape or y.dtype == bool:
        return None
    low, high = (-math.inf if y[0] == x[0] else y[0]), (math.inf if y[-1] == x[-1] else y[-1])
    clips = low < high and (low, high) != (-math.inf, math.inf)
    return (float(low), float(high)) if clips and (y == np.clip(x, low, high)).all() else None


@functools.cache
def _grid() -> np.ndarray:
    """Numbers of both signs in order: zero, tiny and huge ones, and many between 0.001 and 1000."""
    sizes = np.concatenate([np.geomspace(1e-40, 1e38, 4001), np.geomspace(1e-3, 1e3, 4001)])
    near = np.concatenate([np.arange(1.0, 17), sizes, [0.0]])
    return np.unique(np.concatenate([-near, near]))


def _scalar(program: Program | None, operand: Value | Constant) -> float | None:
    """Returns the one number that a constant operand is made of, or None."""
    if isinstance(operand, Constant):
        found = np.unique(as_numpy(operand.value))
        return float(found[0]) if found.size == 1 and np.isrealobj(found) else None
    place = None if program is None else program.maker.get(operand)
    if program is None or place is None:
        return None
    equation = program.equations[place]
    if equation.name in REARRANGING | {"broadcast_in_dim", "convert_element_type"}:
        return _scalar(program, equation.inputs[0])
    return None
