"""Trained corrections of what an attack finds in images of the attacker's own. JAX."""

from typing import Any

import jax
import numpy as np
from jax import Array
from jax.tree_util import Partial

from jaxinv.attacks.learned import maps
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.networks import Params


def learn(
    originals: np.ndarray,
    found: list[np.ndarray],
    features: np.ndarray,
    *,
    key: Array,
    which: np.ndarray | None = None,
    steps: int = maps.STEPS,
    shelf: Shelf = NOWHERE,
) -> TrainedMap:
    """Trains a map from what an attack finds to what it should find.

    The network adds to the first of the images found.

    Args:
      originals: `[N, H, W, C]`, the attacker's own.
      found: images `[N, H, W, C]`: those to be corrected, and others that may help.
      features: `[N, ...]`, what was attacked.
      key: of the initial parameters and the order of images.
      which: `[N, L]`, ones where an image is of a member of a family, for a network that serves all
        of it; it then takes such an array behind the features. None for one.
      steps: of training: up to one epoch as many, beyond it about, as epochs are whole.
      shelf: keeps what is trained.
    """
    key_init, key_fit = jax.random.split(key)
    network = maps.estimator_for(originals.shape[1:])
    constants = maps.center_and_spread(features)
    count = len(found)

    def estimate(state: tuple[Params, Any], *inputs: Array) -> Array:
        params, (center, spread) = state
        first, *others = inputs[:count]
        # Differences are small; the network sees them enlarged.
        enlarged = [first - 0.5, *(10 * (first - other) for other in others)]
        enlarged += [(inputs[count] - center) / spread, *inputs[count + 1 :]]
        return first + maps.applied(network, params, enlarged)

    def loss(constants: Any, params: Params, batch: tuple[Array, list[Array]], key: Array):
        del key
        wanted, inputs = batch
        return maps.log_error(estimate((params, constants), *inputs), wanted), {}

    given = [*found, features] + ([] if which is None else [which])

    def known() -> dict[str, Any]:
        return {
            "originals": originals,
            "given": given,
            "key": jax.random.key_data(key),
            "steps": steps,
        }

    return maps.train(
        Partial(loss, constants),
        maps.initial(network, key_init, [value[:1] for value in given]),
        constants,
        (originals, given),
        estimate,
        key=key_fit,
        steps=steps,
        checkpoint=shelf.path("correction", __name__, known),
        description=f"correction {shelf.label}",
    )
