"""Refusals: functions that are no network which can be cut and attacked example by example. JAX.

Programs of one function at several batch sizes are compared, and where an operation may mix the
examples of a batch, a batch is compared with its parts.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import UserError
from jaxinv.networks import evaluation
from jaxinv.networks.program import Constant, Equation, Program, expanded, words
from jaxinv.networks.source import SIZES, Source, check_alike

_TOLERANCE = 1e-3  # of features, beside their size, which rounding may change in another batch
_ELEMENTWISE = words(
    """
    add sub mul div max min pow rem neg abs sign exp exp2 log log1p expm1 sin cos tan
    tanh logistic erf erfc erf_inv sqrt rsqrt cbrt square integer_pow floor ceil round
    is_finite eq ne lt le gt ge and or not xor select_n clamp convert_element_type
    stop_gradient name copy copy_p add_any real nextafter atan2 sinh cosh asinh acosh
    atanh optimization_barrier reduce_precision
    """
)
_REDUCTIONS = words(
    """
    reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or argmax argmin
    """
)


def check(source: Source) -> None:
    """Checks that a function can be cut, and attacked example by example.

    Raises:
      UserError: it is not pure, holds arrays that are not among its parameters, loses the batch
        axis, depends on the size of the batch, or mixes its examples.
    """
    one, two, three = (source.at(size) for size in SIZES)
    _check_outputs(three)
    _check_constants(three)
    check_alike(three, two)
    for size, program in zip(SIZES, (one, two, three), strict=True):
        for own, wanted in zip(_output_shapes(program), _output_shapes(three), strict=True):
            if own != (size, *wanted[1:]) or wanted[:1] != (SIZES[-1],):
                raise UserError(
                    f"{_first_lost(source, program)} makes an array of shape {own} of a batch of "
                    f"{size}: it must keep the batch as its first axis (reshape with "
                    "x.reshape(len(x), -1), squeeze with an axis)."
                )
    placed = _placed(three, two)
    if any(
        _mixes(three, equation) or not placed.isdisjoint(equation.reads)
        for equation in three.equations
    ):
        _compare_with_parts(source)


def _check_outputs(program: Program) -> None:
    """Refuses results that are none, no floats, or the same for every input."""
    if not program.outputs:
        raise UserError("The network returns no array: expected one or more, [N, ...].")
    for value in program.outputs:
        if value not in program.dependent:
            raise UserError("The network has an output that does not depend on its input.")
        dtype = program.dtypes[value]
        if not jnp.issubdtype(dtype, jnp.floating):
            raise UserError(f"The network returns {dtype}: expected floats, such as logits.")
        if 0 in program.shapes[value]:
            raise UserError("The network returns an empty array: expected some values an example.")


def _output_shapes(program: Program) -> list[tuple[int, ...]]:
    return [
        program.shapes[value] if isinstance(value, int) else np.shape(value.value)
        for value in program.outputs
    ]


def _first_lost(source: Source, program: Program) -> str:
    """Names the first layer whose value has not the batch as its first axis."""
    marks = (equation for equation in program.equations if equation.mark is not None)
    for equation in marks:
        if not program.leads(equation.outputs[0]):
            return f"Layer {equation.mark}"
    return "The network"


def _check_constants(program: Program) -> None:
    """Refuses arrays that a function closed over: nothing would ever train or replace them."""
    held = [
        operand.value
        for equation in program.equations
        for operand in equation.inputs
        if isinstance(operand, Constant)
        and isinstance(operand.value, jax.Array)
        and operand.value.size > 1
        and jnp.issubdtype(operand.value.dtype, jnp.floating)
    ]
    if held:
        shapes = ", ".join(sorted({str(list(value.shape)) for value in held}))
        raise UserError(
            f"The function holds arrays of shape {shapes} that are not among its parameters: pass "
            "them as parameters (a module as it is), or as NumPy arrays if they are constants."
        )


# --- Examples are independent ---------------------------------------------------------------------


def _mixes(program: Program, equation: Equation) -> bool:
    """Returns whether an equation may mix examples, by what is known of its primitive."""
    if program.dependent.isdisjoint(equation.outputs):
        return False
    own = [value for value in equation.reads if value in program.dependent]
    if not all(program.leads(value) for value in (*own, *equation.outputs)):
        return True
    rule = _RULES.get(equation.name)
    if rule is not None:
        return not rule(equation, program)
    inner = expanded(equation)
    return inner is None or any(each.name not in _ELEMENTWISE for each in inner[0])


def _placed(program: Program, other: Program) -> frozenset[int]:
    """Returns values that have a row for each example and depend on none: they may tell places."""
    return frozenset(
        value
        for value in program.shapes
        if value not in program.dependent and program.leads(value) and other.leads(value)
    )


def _dot_keeps(equation: Equation, program: Program) -> bool:
    (left, _), (left_batch, right_batch) = equation.params["dimension_numbers"]
    first, second = (operand in program.dependent for operand in equation.inputs)
    if first and second:
        return (*left_batch, -1)[0] == (*right_batch, -1)[0] == 0
    return first and 0 not in (*left, *left_batch)


def _conv_keeps(equation: Equation, program: Program) -> bool:
    numbers = equation.params["dimension_numbers"]
    kernel = equation.inputs[1]
    return (
        numbers.lhs_spec[0] == numbers.out_spec[0] == 0
        and equation.params["batch_group_count"] == 1
        and not (isinstance(kernel, int) and kernel in program.dependent)
    )


def _window_keeps(equation: Equation, program: Program) -> bool:
    params = equation.params
    return params["window_dimensions"][0] == 1 and tuple(params["padding"][0]) == (0, 0)


def _always(equation: Equation, program: Program) -> bool:
    return True


_RULES: dict[str, Callable[[Equation, Program], bool]] = {
    # Elementwise; and where input and output have the batch first, these keep examples apart, too.
    **dict.fromkeys([*_ELEMENTWISE, "reshape", "squeeze", "expand_dims", "slice"], _always),
    **dict.fromkeys(_REDUCTIONS, lambda eqn, _: 0 not in eqn.params["axes"]),
    **dict.fromkeys(["reduce_window_max", "reduce_window_sum", "reduce_window_min"], _window_keeps),
    **dict.fromkeys(
        ["cumsum", "cumprod", "cummax", "cumlogsumexp"], lambda eqn, _: eqn.params["axis"] != 0
    ),
    "split": lambda eqn, _: eqn.params["axis"] != 0,
    "transpose": lambda eqn, _: eqn.params["permutation"][0] == 0,
    "broadcast_in_dim": lambda eqn, _: eqn.params["broadcast_dimensions"][0] == 0,
    "concatenate": lambda eqn, _: eqn.params["dimension"] != 0,
    "sort": lambda eqn, _: eqn.params["dimension"] != 0,
    "pad": lambda eqn, _: tuple(eqn.params["padding_config"][0]) == (0, 0, 0),
    "rev": lambda eqn, _: 0 not in eqn.params["dimensions"],
    "dot_general": _dot_keeps,
    "conv_general_dilated": _conv_keeps,
}


def _compare_with_parts(source: Source) -> None:
    """Refuses a function whose value of an example depends on its batch or its place there."""
    size = SIZES[-1]
    x = jax.random.normal(jax.random.key(1), (size, *source.input_shape), jnp.float32)
    cuts = [cut for cut in source.cuts if cut.default]

    @jax.jit
    def values(params: Any, x: jax.Array) -> list[jax.Array]:
        program = source.at(len(x))
        known = {number: _at(params, path) for path, number in program.params.items()}
        known[program.input] = x
        wanted = [cut.wire[0] for cut in cuts]
        wanted += [value for value in program.outputs if isinstance(value, int)]
        places = program.needed(known, wanted)
        return evaluation.run(program, places, known, wanted)

    names = [*(cut.name for cut in cuts), "the output"]
    params = jax.jit(source.init)(jax.random.key(0))
    for own in (params, _random(params)):  # fresh ones may hide a part behind a gain of zero
        _compare_rows(functools.partial(values, own), x, names)


def _compare_rows(
    values: Callable[[jax.Array], list[jax.Array]], x: jax.Array, names: Sequence[str]
) -> None:
    """Refuses values of a batch that differ from those of each example beside a copy of itself."""
    together = values(x)
    for number in range(
        len(x)
    ):  # the first one alone may be free of the others, as in a sum so far
        alone = values(jnp.stack([x[number]] * 2))
        for name, all_rows, own_rows in zip(names, together, alone, strict=False):
            row, own = (np.asarray(each, float) for each in (all_rows[number], own_rows[0]))
            if not np.allclose(row, own, 0, _TOLERANCE * (1e-6 + _size(row)), equal_nan=True):
                raise UserError(
                    f"At {name} an example depends on the others of its batch, or on its place "
                    "there: a network must treat examples independently (normalise by stored "
                    "statistics, or over other axes)."
                )


def _size(x: np.ndarray) -> float:
    return np.abs(x[np.isfinite(x)]).max(initial=0)


def _random(params: Any) -> Any:
    """Returns parameters of the same shapes, none of them small; positive ones stay so."""
    rng = np.random.default_rng(0)

    def drawn(leaf: Any) -> Any:
        if not jnp.issubdtype(leaf.dtype, jnp.floating):
            return leaf
        sizes = rng.uniform(0.5, 1.5, leaf.shape) / math.prod(leaf.shape[:-1]) ** 0.5
        signs = rng.choice([-1, 1], leaf.shape) if (np.asarray(leaf) < 0).any() else 1
        return jnp.asarray(sizes * signs, leaf.dtype)

    return jax.tree.map(drawn, params)


def _at(params: Any, path: Any) -> Any:
    for key in path:
        params = params[key]
    return params
