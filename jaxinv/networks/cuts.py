"""Places where a program can be cut, and their names. NumPy.

A place is the number of an equation; the cut there is before it. Names come from layers and from
`checkpoint_name`, from module paths, or from the paths of the parameters that equations read.
"""

import bisect
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import jax.numpy as jnp

from jaxinv.networks import arguments
from jaxinv.networks.program import Equation, Path, Program, Value
from jaxinv.networks.rectifiers import last_rectifier

_ACTIVATIONS = frozenset(["tanh", "logistic", "erf", "exp", "sin"])


class Cut(NamedTuple):
    """A place between two equations.

    Attributes:
      name: of the cut, different for each.
      place: number of the first equation behind it.
      wire: numbers of the values that cross.
      default: whether it ends a layer or module and one array crosses.
    """

    name: str
    place: int
    wire: tuple[Value, ...]
    default: bool


def find(program: Program, other: Program, first: int = 0) -> tuple[Cut, ...]:
    """Returns every place where a program can be cut, in order.

    All that crosses are real numbers that have the batch as their first axis. Places without a name
    of their own are named after the one before: `conv1+2` is two operations behind `conv1`.

    Args:
      program, other: of one function at two batch sizes.
      first: place of the first equation that belongs to a module; others only place the input.
    """
    names = dict(_marked(program))
    last = len(program.equations)
    if not names:
        names = {last: "output", **dict(_of_modules(program, first))}
    names = _differing(names)
    start = arguments.free_name("input", {name.lower() for name in names.values()})
    found, before, since, seen = [], start, 0, program.alive(0)
    for place in range(1, last + 1):
        alive, own = program.alive(place), names.get(place)
        if own is not None:
            before, since = own, 0
        elif alive == seen:
            continue
        else:
            since += 1
        seen = alive
        if alive and all(_crosses(each, value) for value in alive for each in (program, other)):
            name = before if own is not None else f"{before}+{since}"
            found.append(Cut(name, place, alive, own is not None and len(alive) == 1))
    return tuple(found)


def _crosses(program: Program, value: Value) -> bool:
    """Returns whether a value may be sent: some real numbers for each example."""
    dtype = program.dtypes[value]
    real = dtype == jnp.bool_ or any(
        jnp.issubdtype(dtype, each) for each in (jnp.integer, jnp.floating)
    )
    return real and program.leads(value) and 0 not in program.shapes[value]


def _differing(names: Mapping[int, str]) -> dict[int, str]:
    """Returns allowed names, numbered where they repeat; the first of each keeps its own."""
    safe = {place: arguments.safe_name(name) for place, name in sorted(names.items())}
    taken = {name.lower() for name in safe.values()}
    seen, found = set[str](), dict[int, str]()
    for place, name in safe.items():
        if name.lower() in seen:
            name = arguments.free_name(name, taken)
        found[place] = name
        seen.add(name.lower())
        taken.add(name.lower())
    return found


def _marked(program: Program) -> Iterator[tuple[int, str]]:
    """Yields places behind `checkpoint_name`, and the names."""
    for place, equation in enumerate(program.equations):
        if equation.mark is not None and equation.outputs[0] in program.dependent:
            yield place + 1, equation.mark


def _of_modules(program: Program, first: int) -> Iterator[tuple[int, str]]:
    """Yields places where a module ends, or an activation, pooling or sum between modules."""
    scopes = {place: scope for place, scope in _scopes(program).items() if place >= first}
    root = len(_common([scope for scope in scopes.values()]))
    parents = {scope[:end] for scope in scopes.values() for end in range(len(scope))}
    places = list(scopes)
    for number, place in enumerate(places):
        scope = scopes[place][root:]
        behind = scopes[places[number + 1]][root:] if number + 1 < len(places) else ()
        if scope and behind[: len(scope)] != scope:
            left = next(end for end in range(len(scope)) if behind[: end + 1] != scope[: end + 1])
            yield place + 1, ".".join(map(str, scope[: left + 1]))
        elif scopes[place] in parents or not scope:
            own = _operation(program, program.equations[place])
            if own:
                yield place + 1, ".".join(map(str, (*scope, own)))


def _operation(program: Program, equation: Equation) -> str | None:
    """Names an activation, a pooling or the sum of two branches; None for other equations."""
    name = equation.name
    if name.startswith("custom_"):
        return _name_of_function(equation)
    dependent = [value for value in equation.reads if value in program.dependent]
    if name == "add":
        return "add" if len(set(dependent)) == 2 else None
    if name in ("reduce_max", "reduce_window_max"):
        return "max_pool"
    found = last_rectifier(program, equation.outputs[0])
    if found and program.maker[equation.outputs[0]] in found.places:
        return "relu"
    if name == "logistic":
        return "sigmoid"
    return name if name in _ACTIVATIONS else None


def _name_of_function(equation: Equation) -> str:
    jaxpr = next((value for value in equation.params.values() if hasattr(value, "jaxpr")), None)
    info = getattr(getattr(jaxpr, "jaxpr", None), "debug_info", None)
    return str(getattr(info, "func_name", None) or "activation")


def _scopes(program: Program) -> dict[int, Path]:
    """Returns place -> module of each equation that depends on the batch."""
    given = {
        place: equation.scope
        for place, equation in enumerate(program.equations)
        if not program.dependent.isdisjoint(equation.outputs)
    }
    if any(given.values()):
        return given
    # Modules without scopes: the parameters that an equation reads tell where it belongs.
    owner: dict[Value, Path] = {value: path[:-1] for path, value in program.params.items()}
    for equation in program.equations:
        if program.dependent.isdisjoint(equation.outputs):
            paths = [owner[value] for value in equation.reads if value in owner]
            owner.update(dict.fromkeys(equation.outputs, _common(paths)))
    read = {
        place: _common([owner[value] for value in program.equations[place].reads if value in owner])
        for place in given
    }
    return _filled(read)


def _filled(scopes: dict[int, Path]) -> dict[int, Path]:
    """Gives an equation without parameters the module that those before and behind it share."""
    known = [place for place, scope in scopes.items() if scope]
    found = {}
    for place, scope in scopes.items():
        around = bisect.bisect(known, place)
        sides = [scopes[known[i]] for i in (around - 1, around) if 0 <= i < len(known)]
        found[place] = scope or (_common(sides) if len(sides) == 2 else ())
    return found


def _common(paths: Sequence[Path]) -> Path:
    """Returns the longest path in which all begin."""
    if not paths:
        return ()
    length = min(map(len, paths))
    same = (end for end in range(length, -1, -1) if len({path[:end] for path in paths}) == 1)
    return paths[0][: next(same)]
