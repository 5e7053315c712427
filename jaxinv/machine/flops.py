"""Floating point operations of programs, counted by XLA before it compiles them. JAX."""

import functools
from collections.abc import Callable
from typing import Any

import jax
from jaxlib import _jax, xla_client


def count(function: Callable[..., Any], *shapes: Any) -> float:
    """Returns the operations of a function, counted as for a CPU whatever devices there are.

    Other backends analyse compiled programs alone, where convolutions are calls that are not
    counted. No CPU backend is started: `JAX_PLATFORMS` may leave it out.

    Args:
      function: pure, and a new one, so that no trace in another form is reused.
      shapes: trees of arrays or of `jax.ShapeDtypeStruct`, its arguments.
    """
    lowered = jax.jit(function).trace(*shapes).lower(lowering_platforms=("cpu",))
    program: Any = lowered.compiler_ir("hlo")
    analysis = _jax.hlo_module_cost_analysis(_client(), program.as_hlo_module())
    return float(analysis.get("flops", 0.0))  # absent without arithmetic


@functools.cache
def _client() -> Any:
    """Returns what XLA asks for the sizes of types; it computes nothing."""
    return xla_client.make_cpu_client()
