"""Kinds of equations, read off their primitives: affine, rectifier, maximum over windows. NumPy.

An attacker who knows an edge may use that a part of it is affine, that it ends in a rectifier, or
that a maximum over windows commutes with a rectifier. How the part was written does not matter.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Literal

import jax.numpy as jnp

from jaxinv.networks.program import Equation, Program, Value, expanded, tainted, words
from jaxinv.networks.rectifiers import MAXIMA, REARRANGING, last_rectifier

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


def kind(program: Program, places: Sequence[int], start: Iterable[Value]) -> Kind:
    """Returns the kind of a part of a program, taken as one map of some values."""
    start = frozenset(start)
    if is_affine(program, places, start):
        return "affine"
    dependent = tainted((program.equations[place] for place in places), start)
    own = [place for place in places if not dependent.isdisjoint(program.equations[place].outputs)]
    names = {program.equations[place].name for place in own}
    if names & MAXIMA and names <= MAXIMA | REARRANGING | {"pad"}:
        return "max_pool"
    acting = [place for place in own if program.equations[place].mark is None]
    ends = program.equations[own[-1]].outputs
    found = last_rectifier(program, ends[0]) if len(ends) == 1 else None
    return "rectifier" if found and found.places == {*acting} else "other"


def is_affine(
    program: Program,
    places: Iterable[int],
    start: Iterable[Value],
    skipped: Mapping[int, Value] | None = None,
) -> bool:
    """Returns whether a part of a program is an affine map of some values.

    Args:
      program: the whole.
      places: of the equations of the part.
      start: numbers of the values.
      skipped: place of an equation that is left out -> the value that it hands on.
    """
    dependent, skipped = set(start), skipped or {}
    for place in places:
        equation = program.equations[place]
        if place not in skipped and not _is_linear(equation, dependent):
            return False
        if not dependent.isdisjoint([skipped[place]] if place in skipped else equation.reads):
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
