"""Kinds of equations, read off their primitives: affine, rectifier, maximum over windows. NumPy.

An attacker who knows an edge may use that a part of it is affine, that it ends in a rectifier, or
that a maximum over windows commutes with a rectifier. How the part was written does not matter.
"""

import math
from collections.abc import Iterable, Sequence, Set
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxinv.networks.program import Constant, Equation, Program, Value, expanded, tainted, words

Kind = Literal["affine", "rectifier", "max_pool", "other"]

# Linear in all operands together.
_LINEAR = words(
    """
    add add_any sub neg reshape transpose squeeze expand_dims broadcast_in_dim slice rev
    reduce_sum concatenate pad cumsum reduce_window_sum split name copy copy_p real
    optimization_barrier
    """
)
# Linear in one operand, if the others do not depend on the batch: all of them, or the first.
_LINEAR_IN_ONE = frozenset(["mul", "dot_general", "conv_general_dilated"])
_LINEAR_IN_FIRST = frozenset(["div", "gather", "dynamic_slice"])
_REARRANGING = words(
    """
    reshape transpose squeeze expand_dims slice rev name copy copy_p
    """
)
_MAXIMA = frozenset(["reduce_max", "reduce_window_max"])


class Rectifier(NamedTuple):
    """A rectifier, `clip(x, 0, high)`.

    Attributes:
      places: of its equations.
      high: the largest value that it lets through; infinite for most.
    """

    places: frozenset[int]
    high: float


def kind(program: Program, places: Sequence[int], start: Iterable[Value]) -> Kind:
    """Returns the kind of a part of a program, taken as one map of some values."""
    start = frozenset(start)
    if is_affine(program, places, start):
        return "affine"
    dependent = tainted((program.equations[place] for place in places), start)
    own = [place for place in places if not dependent.isdisjoint(program.equations[place].outputs)]
    names = {program.equations[place].name for place in own}
    if names & _MAXIMA and names <= _MAXIMA | _REARRANGING | {"pad"}:
        return "max_pool"
    acting = [place for place in own if program.equations[place].mark is None]
    ends = program.equations[own[-1]].outputs
    found = last_rectifier(program, ends[0]) if len(ends) == 1 else None
    return "rectifier" if found and found.places == {*acting} else "other"


def is_affine(
    program: Program,
    places: Iterable[int],
    start: Iterable[Value],
    skipped: Set[int] = frozenset(),
) -> bool:
    """Returns whether a part of a program is an affine map of some values.

    Args:
      program: the whole.
      places: of the equations of the part.
      start: numbers of the values.
      skipped: places of equations that hand their input on.
    """
    dependent = set(start)
    for place in places:
        equation = program.equations[place]
        if place not in skipped and not _is_linear(equation, dependent):
            return False
        if not dependent.isdisjoint(equation.reads):
            dependent.update(equation.outputs)
    return True


def _is_linear(equation: Equation, dependent: Set[Value]) -> bool:
    """Returns whether an equation is affine in those of its operands that depend on the batch."""
    which = [
        number
        for number, operand in enumerate(equation.inputs)
        if isinstance(operand, int) and operand in dependent
    ]
    name = equation.name
    if not which or name in _LINEAR:
        return True
    if name in _LINEAR_IN_ONE:
        return len(which) == 1
    if name in _LINEAR_IN_FIRST:
        return which == [0]
    if name == "select_n":
        return 0 not in which
    if name == "convert_element_type":
        return bool(jnp.issubdtype(equation.params["new_dtype"], jnp.floating))
    inner = expanded(equation)
    return inner is not None and _is_affine_inside(inner[0], {inner[1][each] for each in which})


def _is_affine_inside(equations: Iterable[Equation], dependent: set[Value]) -> bool:
    for equation in equations:
        if not _is_linear(equation, dependent):
            return False
        if not dependent.isdisjoint(equation.reads):
            dependent.update(equation.outputs)
    return True


def last_rectifier(program: Program, value: Value) -> Rectifier | None:
    """Returns the rectifier behind which nothing happens to a value but maxima and rearranging.

    These are monotone, so they can as well be taken before it. None where there is no such one.
    """
    high, places = math.inf, list[int]()
    while (place := program.maker.get(value)) is not None:
        equation = program.equations[place]
        own = [each for each in equation.reads if each in program.dependent]
        if len(own) != 1:
            return None
        if equation.name in _MAXIMA | _REARRANGING:
            (value,) = own
            continue
        inner = expanded(equation)
        if inner is not None:
            found = rectified(*inner)
            high = min(high, found or 0)
            return Rectifier(frozenset([*places, place]), high) if high > 0 else None
        limits = _clip_limits(program, equation, own[0])
        if limits is None or limits[0] > 0:
            return None
        places.append(place)
        low, most = limits
        high = min(high, most)
        if low == 0:
            return Rectifier(frozenset(places), high) if high > 0 else None
        (value,) = own
    return None


def rectified(equations: Sequence[Equation], arguments: Sequence[Value]) -> float | None:
    """Returns the upper limit of equations that are a rectifier together; None for others."""
    value, low, high = arguments[0], -math.inf, math.inf
    for equation in equations:
        if equation.reads != (value,):
            return None
        limits = _clip_limits(None, equation, value)
        if limits is None:
            return None
        low, high = max(low, limits[0]), min(high, limits[1])
        (value,) = equation.outputs
    return high if low == 0 < high else None


def _clip_limits(
    program: Program | None, equation: Equation, own: Value
) -> tuple[float, float] | None:
    """Returns the limits between which an equation clips a value; None where it does not clip."""
    others = [
        _scalar(program, operand)
        for operand in equation.inputs
        if isinstance(operand, Constant) or operand != own
    ]
    if any(each is None for each in others):
        return None
    numbers = [float(each) for each in others if each is not None]
    if equation.name == "max" and len(numbers) == 1:
        return numbers[0], math.inf
    if equation.name == "min" and len(numbers) == 1:
        return -math.inf, numbers[0]
    if equation.name == "clamp" and equation.inputs[1] == own and len(numbers) == 2:
        return numbers[0], numbers[1]
    return None


def _scalar(program: Program | None, operand: Value | Constant) -> float | None:
    """Returns the one number that a constant operand is made of, or None."""
    if isinstance(operand, Constant):
        found = np.unique(np.asarray(operand.value))
        return float(found[0]) if found.size == 1 else None
    place = None if program is None else program.maker.get(operand)
    if program is None or place is None:
        return None
    equation = program.equations[place]
    if equation.name in _REARRANGING | {"broadcast_in_dim", "convert_element_type"}:
        return _scalar(program, equation.inputs[0])
    return None
