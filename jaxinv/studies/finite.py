"""Refusal of networks whose features are no numbers, before anybody attacks them. JAX."""

from collections.abc import Sequence

import jax
import numpy as np

from jaxinv.errors import UserError
from jaxinv.networks import Network, Params
from jaxinv.unit_space import Images

_IMAGES = 8


def check(network: Network, params: Params, cuts: Sequence[str], images: Images) -> None:
    """Checks that features at cuts are finite, for the first images.

    What is not finite before a cut is hardly ever finite behind it, so that the deepest is asked
    first, and others only where it has something to tell.

    Args:
      network: the whole.
      params: of it.
      cuts: some of its names.
      images: `[N, *input_shape]` in unit space.

    Raises:
      UserError: there are others; the first such cut is named.
    """
    ordered = sorted(cuts, key=network.all_cuts.index)
    few = np.asarray(images[:_IMAGES])
    if not ordered or _are_finite(network, params, ordered[-1], few):
        return
    cut = next(cut for cut in ordered if not _are_finite(network, params, cut, few))
    raise UserError(
        f"split={cut}: the network's features there are not finite (NaN or infinite) for the first "
        "test images; expected numbers. Its weights, or mean and std, may be wrong."
    )


def _are_finite(network: Network, params: Params, cut: str, images: np.ndarray) -> bool:
    edge, _ = network.split(cut)
    return bool(np.isfinite(jax.jit(edge.apply)(edge.select(params), images)).all())
