"""The wire: what crosses from edge to cloud for one example, one array or several. JAX."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.machine.numbers import widened


@dataclasses.dataclass(frozen=True)
class Wire:
    """Shapes and types of the arrays that cross, without the batch axis.

    One array crosses as it is. Several, as at a cut through a skip connection, cross as one vector,
    so that defenses and attackers see `[N, F]` wherever a network is cut.

    Attributes:
      shapes: of each array.
      dtypes: of each array.
    """

    shapes: tuple[tuple[int, ...], ...]
    dtypes: tuple[Any, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an example as it crosses: that of the one array, or `(F,)` of several."""
        return self.shapes[0] if len(self.shapes) == 1 else (self.size,)

    @functools.cached_property
    def size(self) -> int:
        """Number of values of one example."""
        return sum(math.prod(shape) for shape in self.shapes)

    @property
    def takes_floats(self) -> bool:
        """Returns whether examples cross as floats: those of several arrays always do."""
        return len(self.dtypes) > 1 or jnp.issubdtype(self.dtypes[0], jnp.floating)

    @property
    def bytes(self) -> int:
        """Bytes of one example, undefended."""
        sizes = zip(self.shapes, self.dtypes, strict=True)
        return sum(math.prod(shape) * np.dtype(dtype).itemsize for shape, dtype in sizes)

    def ravel(self, arrays: Sequence[Array]) -> Array:
        """Joins arrays `[N, ...]` into what crosses: the one array, or `[N, F]` of several.

        Half-precision values become float32, as all that defends, attacks and measures computes.
        """
        wide = [widened(array) for array in arrays]
        if len(wide) == 1:
            return wide[0]
        return jnp.concatenate([array.reshape(len(array), -1) for array in wide], axis=1)

    def unravel(self, features: Array) -> list[Array]:
        """Takes apart what crossed, `[N, *shape]`, into its arrays."""
        if len(self.shapes) == 1:
            return [_of_type(features, self.dtypes[0])]
        ends = np.cumsum([math.prod(shape) for shape in self.shapes])[:-1].tolist()
        parts = jnp.split(features, ends, axis=1)
        return [
            _of_type(part.reshape(len(part), *shape), dtype)
            for part, shape, dtype in zip(parts, self.shapes, self.dtypes, strict=True)
        ]


def _of_type(x: Array, dtype: Any) -> Array:
    """Returns numbers as another type; the nearest ones where a defense has changed whole ones."""
    if dtype == jnp.bool_:
        return x > 0.5
    if not jnp.issubdtype(dtype, jnp.integer) or jnp.issubdtype(x.dtype, jnp.integer):
        return x.astype(dtype)
    limits = jnp.iinfo(dtype)
    return jnp.clip(jnp.round(x), limits.min, limits.max).astype(dtype)
