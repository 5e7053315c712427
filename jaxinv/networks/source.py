"""The function behind a network, traced once for each size of batch. JAX."""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv import arguments
from jaxinv.errors import UserError
from jaxinv.machine import environment
from jaxinv.networks import cuts
from jaxinv.networks.cuts import Cut
from jaxinv.networks.evaluation import matmul_precision
from jaxinv.networks.program import Constant, Program, as_numpy, trace

SIZES = (1, 2, 3)
"""Batch sizes at which every function is looked at; places are numbered by the last."""


class Source:
    """A pure function of parameters and a batch, traced once for each size of batch.

    It is traced, and its programs run, in the numeric mode in which it was made: in another, with
    or without 64 bits, equations may have other numbers.

    Args:
      function: `(params, x [N, ...]) -> y [N, ...]`.
      init: `key -> params`, nested dictionaries of arrays.
      input_shape: of one example.
      train: `(params, x) -> (y, params)` where the network keeps statistics: normalised by the
        batch, and the parameters with the statistics of it. None where it keeps none.
    """

    def __init__(
        self,
        function: Callable[[Any, Array], Any],
        init: Callable[[Array], dict[str, Any]],
        input_shape: tuple[int, ...],
        train: Callable[[Any, Array], tuple[Any, Any]] | None = None,
    ):
        self.input_shape, self._function, self._init = input_shape, function, init
        self.train = train
        self._x64 = environment.has_64_bits()
        self._programs: dict[Any, Program] = {}
        self._first = 0  # place of the first equation of its own

    def taking(self, input_shape: tuple[int, ...]) -> "Source":
        """Returns the function of examples that have another shape, and as many values."""
        own, train = self.input_shape, self.train

        def function(params: Any, x: Array) -> Any:
            return self._function(params, x.reshape(len(x), *own))

        def trained(params: Any, x: Array) -> tuple[Any, Any]:
            assert train is not None
            return train(params, x.reshape(len(x), *own))

        placed = Source(function, self._init, input_shape, trained if train else None)
        placed._first = self._first + 1
        return placed

    def mode(self) -> Any:
        """Returns a context of the numeric mode in which its programs run."""
        return jax.enable_x64(self._x64)

    def init(self, key: Array) -> dict[str, Any]:
        """Returns fresh parameters.

        Raises:
          UsageError: it is no key.
        """
        arguments.check_key("key", key)
        with self.mode():
            return self._init(key)

    @functools.cached_property
    def _params(self) -> Any:
        # The key is made inside, so that no device is asked for.
        return jax.eval_shape(lambda: self.init(jax.random.key(0)))

    def at(self, batch: int) -> Program:
        """Returns the program for a batch of so many examples.

        Raises:
          UserError: it computes in float64, which JAX no longer does.
        """
        known = (batch, matmul_precision())
        if known not in self._programs:
            x = jax.ShapeDtypeStruct((batch, *self.input_shape), jnp.float32)
            with self.mode():
                params = self._params
                with in_one_line("The network"):
                    program = trace(self._function, params, x)
            if batch not in SIZES:
                check_alike(self.program, program)
            self._programs[known] = program
        found = self._programs[known]
        if jnp.float64 in found.dtypes.values() and not environment.has_64_bits():
            raise UserError(
                "The network computes in float64: it needs 64-bit mode (JAX_ENABLE_X64=1), in "
                "which it was made."
            )
        return found

    @property
    def program(self) -> Program:
        """The program that places and values are numbered by."""
        return self.at(SIZES[-1])

    @functools.cached_property
    def cuts(self) -> tuple[Cut, ...]:
        """Every place where the program can be cut, in order."""
        return cuts.find(self.program, self.at(SIZES[-2]), self._first)

    @functools.cached_property
    def takes_one(self) -> bool:
        """Returns whether the program of one example has the equations of that of several."""
        return alike(self.at(1), self.program)


@contextlib.contextmanager
def in_one_line(whose: str) -> Iterator[None]:
    """Turns whatever a foreign function raises into one line that says whose fault it is."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        first = lines[0] if lines else "no message"
        plain = isinstance(error, TypeError | ValueError | RuntimeError)
        kind = "" if plain else f"{type(error).__name__}: "
        raise UserError(f"{whose}: {kind}{first}") from error


def alike(a: Program, b: Program) -> bool:
    """Returns whether two programs differ in nothing but the batch in shapes."""
    return _signature(a) == _signature(b)


def check_alike(known: Program, program: Program) -> None:
    """Checks that a function does the same for another size of batch.

    Raises:
      UserError: it does not.
    """
    if not alike(known, program):
        sizes = " and of ".join(str(each.shapes[each.input][0]) for each in (known, program))
        raise UserError(
            f"The network does not compute the same in a batch of {sizes}: it must treat examples "
            "independently (BatchNorm in evaluation: use_running_average=True) and be pure."
        )


def _signature(program: Program) -> list[Any]:
    return [
        (
            equation.name,
            equation.outputs,
            tuple(
                as_numpy(operand.value).tobytes() if isinstance(operand, Constant) else operand
                for operand in equation.inputs
            ),
        )
        for equation in program.equations
    ]
