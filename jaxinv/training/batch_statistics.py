"""Statistics of BatchNorm: measured when a training ends, and kept by trainings that go on. JAX.

Source: Wu & Johnson 2021 ("precise BatchNorm"). Nothing is averaged while weights still move, so
that the fit loop needs no state beside parameters.
"""

from functools import partial

import jax
import optax
from jax import Array

from jaxinv import unit_space
from jaxinv.inputs.samples import Samples
from jaxinv.networks import Network, Params, statistics

IMAGES = 8192
"""Images of which statistics are those in the end."""


def measured(
    network: Network, params: Params, samples: Samples, *, batch_size: int, images: int = IMAGES
) -> Params:
    """Returns parameters with the statistics of images, in batches as in training.

    Args:
      network: the whole.
      params: its parameters. They are returned as they are where they hold no statistics.
      samples: of which the first images count.
      batch_size: images a batch; the last, incomplete one is left out.
      images: about so many, at least one batch.
    """
    if network.source.train is None or not statistics.has_any(params):
        return params
    batch_size = min(batch_size, len(samples))
    batches = max(1, min(images, len(samples)) // batch_size)
    parts = (samples.pixels[i * batch_size : (i + 1) * batch_size] for i in range(batches))
    return statistics.pooled([_of_batch(network, params, pixels) for pixels in parts])


@partial(jax.jit, static_argnums=0)
def _of_batch(network: Network, params: Params, pixels: Array) -> Params:
    return network.apply_in_training(params, unit_space.from_stored(pixels))[1]


def kept(optimizer: optax.GradientTransformation, *also: str) -> optax.GradientTransformation:
    """Returns an optimizer that leaves statistics as they are, whatever the gradient says.

    Args:
      optimizer: of all other parameters.
      *also: names of parameters that are left, too, with all that is under them.
    """
    mask = partial(statistics.mask, names=(statistics.STATISTICS, *also))
    held = optax.masked(optax.set_to_zero(), mask)
    return optax.chain(held, optimizer, held)
