"""Networks of half precision with derivatives in float32. JAX."""

import functools
from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
from jax import Array
from jax.custom_derivatives import SymbolicZero

from jaxinv.networks.program import Path

Evaluate = Callable[[Mapping[Path, Array], Array], Array]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0, 1))
def in_half(evaluate: Evaluate, wide: Evaluate, own: Mapping[Path, Array], x: Array) -> Array:
    """Runs a network of half precision, whose derivatives are those of float32.

    In half precision small cotangents are zero: of features of 300, those of every attack.

    Args:
      evaluate: `(parameters, x) -> y`.
      wide: the same in float32.
      own: its parameters, by path.
      x: a batch.
    """
    return evaluate(own, x)


def _in_half_jvp(evaluate, wide, primals, tangents):
    leaves, tree = jax.tree.flatten(primals)
    slopes = jax.tree.leaves(tangents, is_leaf=lambda leaf: isinstance(leaf, SymbolicZero))
    moving = [place for place, slope in enumerate(slopes) if not isinstance(slope, SymbolicZero)]

    def moved(*given):
        every = dict(enumerate(leaves)) | dict(zip(moving, given, strict=True))
        own, x = jax.tree.unflatten(tree, [every[place] for place in range(len(leaves))])
        return wide(own, x)

    given, along = ([values[place] for place in moving] for values in (leaves, slopes))
    y = in_half(evaluate, wide, *primals)
    return y, jax.jvp(moved, given, along)[1] if moving else jnp.zeros_like(y)


in_half.defjvp(_in_half_jvp, symbolic_zeros=True)
