"""A function of parameters and a batch, as a flat list of equations that can be cut anywhere. JAX.

`trace` runs a function on shapes alone and keeps what JAX recorded of it, with inner `jit` and
`remat` inlined. Values are numbered in the order in which they arise, so programs of one function
at several batch sizes have the same equations under the same numbers.
"""

import dataclasses
import functools
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, Literal

from jaxinv.errors import UserError

Path = tuple[Any, ...]
"""Keys that lead to one array in nested dictionaries of parameters, or names of nested modules."""

Value = int
"""The number of a value in a program."""

_INLINED = ("jit", "pjit", "closed_call", "core_call", "remat", "remat2", "checkpoint")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
_CUSTOM = ("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr")


@dataclasses.dataclass(frozen=True, eq=False)
class Constant:
    """An operand that the program holds itself: a literal, or an array that it closed over."""

    value: Any


@dataclasses.dataclass(frozen=True, eq=False)
class Equation:
    """One operation.

    Attributes:
      primitive: its JAX primitive, and `params`, the settings of that.
      inputs: numbers of values, or constants.
      outputs: numbers of the values that it makes.
      types: of the inputs.
      scope: names of the modules that it belongs to, outermost first; empty where none are known.
      context: in which JAX recorded it (such as the compute type).
    """

    primitive: Any
    params: Mapping[str, Any]
    inputs: tuple[Value | Constant, ...]
    outputs: tuple[Value, ...]
    types: tuple[Any, ...] = ()
    scope: Path = ()
    context: Any = None

    @property
    def name(self) -> str:
        """Name of the primitive."""
        return self.primitive.name

    @property
    def reads(self) -> tuple[Value, ...]:
        """Numbers of the values that it takes."""
        return tuple(value for value in self.inputs if isinstance(value, int))

    @property
    def mark(self) -> str | None:
        """The name that `checkpoint_name` gave its value, or None where it is another operation."""
        return str(self.params["name"]) if self.name == "name" else None


@dataclasses.dataclass(frozen=True, eq=False)
class Program:
    """A traced function.

    Attributes:
      equations: in the order of evaluation.
      params: path -> number of that parameter.
      input: number of the batch.
      outputs: numbers of the results, or constants.
      shapes, dtypes: of each value, by number.
    """

    equations: tuple[Equation, ...]
    params: Mapping[Path, Value]
    input: Value
    outputs: tuple[Value | Constant, ...]
    shapes: Mapping[Value, tuple[int, ...]]
    dtypes: Mapping[Value, Any]

    @functools.cached_property
    def dependent(self) -> frozenset[Value]:
        """Numbers of the values that depend on the batch."""
        return tainted(self.equations, {self.input})

    @functools.cached_property
    def last_use(self) -> dict[Value, int]:
        """Value -> place of the last equation that takes it; past the end for a result."""
        found = {}
        for place, equation in enumerate(self.equations):
            found.update(dict.fromkeys(equation.reads, place))
        ends = (value for value in self.outputs if isinstance(value, int))
        return found | dict.fromkeys(ends, len(self.equations))

    @functools.cached_property
    def maker(self) -> dict[Value, int]:
        """Value -> place of the equation that makes it."""
        places = enumerate(self.equations)
        return {value: place for place, equation in places for value in equation.outputs}

    @functools.cached_property
    def _dependent_by_maker(self) -> list[tuple[Value, int]]:
        """Values that depend on the batch, with the place where each is made, in that order."""
        made = [(value, self.maker.get(value, -1)) for value in self.dependent]
        return sorted(made, key=lambda pair: (pair[1], pair[0]))

    def alive(self, place: int) -> tuple[Value, ...]:
        """Returns the values that cross before a place: made of the batch, still needed."""
        if place == len(self.equations):
            return tuple(value for value in self.outputs if isinstance(value, int))
        return tuple(
            value
            for value, made in self._dependent_by_maker
            if made < place <= self.last_use.get(value, -1)
        )

    def leads(self, value: Value) -> bool:
        """Returns whether the batch is the first axis of a value."""
        return self.shapes[value][:1] == self.shapes[self.input][:1]

    def needed(
        self,
        known: Iterable[Value],
        wanted: Iterable[Value],
        skipped: Mapping[int, Value] | None = None,
    ) -> tuple[int, ...]:
        """Returns the places of the equations that lead from known values to wanted ones, in order.

        Equations of parameters alone are among them, wherever they stand.

        Args:
          known, wanted: values.
          skipped: place of an equation that is left out -> the value that it hands on.
        """
        have, todo, places, skipped = set(known), list(wanted), set[int](), skipped or {}
        while todo:
            value = todo.pop()
            place = self.maker.get(value)
            if value in have or place is None or place in places:
                continue
            places.add(place)
            todo += [skipped[place]] if place in skipped else self.equations[place].reads
        return tuple(sorted(places))


def words(text: str) -> frozenset[str]:
    """Returns the names of primitives in a text."""
    return frozenset(text.split())


def tainted(equations: Iterable[Equation], start: Iterable[Value]) -> frozenset[Value]:
    """Returns the values that depend on some values, themselves included."""
    found = set(start)
    for equation in equations:
        if not found.isdisjoint(equation.reads):
            found.update(equation.outputs)
    return frozenset(found)


def trace(
    function: Callable[[Any, jax.Array], Any], params: Any, x: jax.ShapeDtypeStruct
) -> Program:
    """Traces a function of parameters and a batch.

    Args:
      function: `(params, x [N, ...]) -> array or tree of arrays`, pure.
      params: nested dictionaries of arrays or of their shapes.
      x: shape and type of the batch.

    Raises:
      UserError: the function has side effects, or returns what is no array.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)

    def flat(arrays: list[Any], x: jax.Array) -> Any:
        found = function(jax.tree.unflatten(tree, arrays), x)
        for leaf in jax.tree.leaves(found):
            if not isinstance(leaf, jax.Array | np.ndarray | np.generic | int | float | complex):
                raise UserError(f"The network returns a {type(leaf).__name__}: expected arrays.")
        return found

    closed = jax.make_jaxpr(flat)([leaf for _, leaf in leaves], x)
    if closed.effects:
        raise UserError("The function has side effects (prints or callbacks): it must be pure.")
    writer = _Writer()
    *numbers, batch = (writer.new(var) for var in closed.jaxpr.invars)
    known = dict(zip(closed.jaxpr.invars, [*numbers, batch], strict=True))
    outputs = writer.inline(closed, known, ())
    return Program(
        tuple(writer.equations),
        {_keys(path): number for (path, _), number in zip(leaves, numbers, strict=True)},
        batch,
        tuple(outputs),
        writer.shapes,
        writer.dtypes,
    )


def _keys(path: Any) -> Path:
    return tuple(getattr(entry, "key", getattr(entry, "idx", entry)) for entry in path)


class _Writer:
    """Numbers values and lists equations while jaxprs are inlined.

    Functions with derivatives of their own (`jax.custom_jvp`) are inlined only to be looked at: run
    without them, their derivatives are lost.
    """

    def __init__(self, *, inside_custom: bool = False):
        self.equations: list[Equation] = []
        self.shapes: dict[Value, tuple[int, ...]] = {}
        self.dtypes: dict[Value, Any] = {}
        self._inlined = (*_INLINED, *(_CUSTOM if inside_custom else ()))

    def new(self, var: Any) -> Value:
        number = len(self.shapes)
        self.shapes[number] = tuple(getattr(var.aval, "shape", ()))
        self.dtypes[number] = getattr(var.aval, "dtype", None)
        return number

    def inline(self, closed: ClosedJaxpr, known: dict[Any, Any], scope: Path) -> list[Any]:
        """Lists the equations of a jaxpr; returns its results."""
        jaxpr = closed.jaxpr
        known |= {
            var: Constant(value) for var, value in zip(jaxpr.constvars, closed.consts, strict=True)
        }

        def read(atom: Any) -> Any:
            return Constant(atom.val) if isinstance(atom, Literal) else known[atom]

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            own = scope + _scope(eqn)
            inner = _inner(eqn) if eqn.primitive.name in self._inlined else None
            if inner is not None:
                given = dict(zip(inner.jaxpr.invars, inputs, strict=True))
                known.update(zip(eqn.outvars, self.inline(inner, given, own), strict=True))
                continue
            outputs = [self.new(var) for var in eqn.outvars]
            known.update(zip(eqn.outvars, outputs, strict=True))
            types = tuple(getattr(atom.aval, "dtype", None) for atom in eqn.invars)
            made = (tuple(inputs), tuple(outputs), types, own, eqn.ctx.manager)
            self.equations.append(Equation(eqn.primitive, eqn.params, *made))
        return [read(atom) for atom in jaxpr.outvars]


def expanded(equation: Equation) -> tuple[tuple[Equation, ...], tuple[Value, ...]] | None:
    """Returns the equations inside a function with derivatives of its own, and its arguments.

    None for any other equation.
    """
    inner = _inner(equation) if equation.name in _CUSTOM else None
    if inner is None:
        return None
    writer = _Writer(inside_custom=True)
    arguments = tuple(writer.new(var) for var in inner.jaxpr.invars)
    writer.inline(inner, dict(zip(inner.jaxpr.invars, arguments, strict=True)), ())
    return tuple(writer.equations), arguments


def _inner(eqn: Any) -> ClosedJaxpr | None:
    found = next((value for value in eqn.params.values() if _is_jaxpr(value)), None)
    return ClosedJaxpr(found, ()) if isinstance(found, Jaxpr) else found


def _is_jaxpr(value: Any) -> bool:
    return isinstance(value, Jaxpr | ClosedJaxpr)


def _scope(eqn: Any) -> Path:
    # Equinox names classes there, as in eqx.nn.Linear, and not modules.
    parts = str(eqn.source_info.name_stack).split("/")
    return tuple(part for part in parts if part and not set("(.") & set(part))


# --- Telling programs apart -----------------------------------------------------------------------


def fingerprint(program: Program, places: Iterable[int], ends: Iterable[Any]) -> str:
    """Returns 16 hex digits that identify equations, their constants, and what leads where.

    Values are numbered anew, so that an equation that is not among these changes nothing.

    Args:
      program: the whole.
      places: of the equations.
      ends: values in which they begin or end.
    """
    numbers: dict[Value, str] = {
        value: "/".join(map(str, path)) for path, value in program.params.items()
    }

    def spell(operand: Any) -> str:
        if isinstance(operand, Constant):
            return _digest(operand.value)
        return numbers.setdefault(operand, f"#{len(numbers)}")

    total = hashlib.sha256()
    for end in ends:
        shape = () if isinstance(end, Constant) else program.shapes[end]
        total.update(f"{spell(end)} {shape} ".encode())
    for place in places:
        equation = program.equations[place]
        words = [equation.name, *_settings(equation.params), *map(spell, equation.inputs)]
        words += [
            f"{spell(value)}:{program.dtypes[value]}{program.shapes[value]}"
            for value in equation.outputs
        ]
        total.update("\n".join(words).encode())
    return total.hexdigest()[:16]


def _settings(params: Mapping[str, Any]) -> Iterator[str]:
    """Spells the settings of an equation, without what differs from process to process."""
    for name, value in sorted(params.items()):
        if callable(value) and not isinstance(value, type | ClosedJaxpr):
            yield f"{name}={getattr(value, '__name__', type(value).__name__)}"
            continue
        yield f"{name}={_ADDRESS.sub('', str(value))}"
        if isinstance(value, ClosedJaxpr):
            yield from map(_digest, value.consts)


def _digest(value: Any) -> str:
    array = as_numpy(value)
    content = hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]
    return f"{array.dtype}{array.shape}{content}"


def as_numpy(constant: Any) -> np.ndarray:
    """Returns a constant of a program as a NumPy array; of a random key its data."""
    is_key = hasattr(constant, "dtype") and jnp.issubdtype(constant.dtype, jax.dtypes.prng_key)
    return np.asarray(jax.random.key_data(constant) if is_key else constant)
