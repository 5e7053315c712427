"""Trained maps to images, from features (`inverse`) or from images (`correction`). JAX."""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.attacks.learned.estimator import Estimator, width_for
from jaxinv.defenses import Rows
from jaxinv.machine import devices, footprint, memory
from jaxinv.networks import Params
from jaxinv.training.fit import epochs_of, fit, one_cycle

STEPS = 2000
"""Default steps of training."""

BATCH_SIZE = 32

_LEARNING_RATE = 3e-3
_LEAST_ERROR = 1e-4  # mean square below which an error hardly counts


@dataclasses.dataclass(frozen=True)
class TrainedMap:
    """A trained map from features, images or both to images.

    Attributes:
      apply: `(params, *inputs) -> images [B, H, W, C]`, pure.
      params: first argument of `apply`: trained parameters, and constants that go with them.
      seconds: wall time of the training.
      compile_seconds: wall time of compiling it.
      queries: number of different ones that its training may have asked, at most.
      given: arguments of `apply` behind the inputs.
    """

    apply: Callable[..., Array]
    params: Any
    seconds: float
    compile_seconds: float
    queries: int = 0
    given: tuple[Array, ...] = ()

    def of(self, member: int) -> "TrainedMap":
        """Returns the map for one member of the family that this was trained for."""
        return dataclasses.replace(self, given=(jnp.int32(member),))

    def __call__(self, *inputs: Any) -> np.ndarray:
        """Estimates N images, slice by slice; each input is indexed `[N, ...]`."""
        shared = (self.params, self.given)
        return devices.in_slices(_estimates, *inputs, static=(self.apply,), shared=shared)

    def timed(self, features: Any) -> tuple[np.ndarray, float, float]:
        """Estimates images of features; returns the seconds of compiling and of running, too."""
        began = time.perf_counter()
        size = min(len(features), devices.slice_size(len(features)))
        self(Rows(features, np.arange(size)))
        compiled = time.perf_counter()
        images = self(features)
        return images, compiled - began, time.perf_counter() - compiled


def _estimates(apply, params, given, *inputs):
    return apply(params, *inputs, *given)


def estimator_for(image_shape: tuple[int, ...]) -> Estimator:
    """Returns the untrained network for images `(H, W, C)`."""
    height, width, channels = image_shape
    return Estimator((height, width, channels), width=width_for(image_shape))


@partial(jax.jit, static_argnums=0)
def initial(network: Estimator, key: Array, inputs: list[Any]) -> Params:
    """Draws parameters of a network for inputs of these shapes, with one row each."""
    return cast(Params, network.init(key, inputs)["params"])


def applied(network: Estimator, params: Params, inputs: list[Array]) -> Array:
    """Returns the images `[B, H, W, C]` that a network makes of inputs."""
    return cast(Array, network.apply({"params": params}, inputs))


def center_and_spread(features: np.ndarray) -> tuple[Array, Array]:
    """Returns mean and standard deviation of features, float32; 1 where they do not vary."""
    center = features.mean(dtype=np.float64)
    spread = features.std(dtype=np.float64)
    return jnp.float32(center), jnp.float32(spread if spread > 1e-6 * abs(center) else 1)


def log_error(found: Array, wanted: Array) -> Array:
    """Computes the mean over images of the logarithm of their mean squared error in pixels.

    PSNR measures the same, so images which are nearly right count as well.
    """
    errors = jnp.mean((found - wanted) ** 2, axis=(1, 2, 3))
    return jnp.mean(jnp.log(errors + _LEAST_ERROR))


def train(
    loss: Callable[..., Any],
    params: Params,
    known: Any,
    data: Any,
    estimate: Callable[..., Array],
    *,
    key: Array,
    steps: int,
    checkpoint: Path | None,
    description: str,
    batch_size: int = BATCH_SIZE,
    multiple: int = 1,
) -> TrainedMap:
    """Trains a map by one cycle of AdamW.

    Args:
      loss: as `fit` takes it.
      params: initial parameters.
      known: constants of the map.
      data: tree of arrays `[N, ...]`, of which few steps take as many as they see.
      estimate: `((params, known), *inputs) -> images`.
      key: of the order of the data, and of the loss.
      steps: as many, however many examples there are.
      checkpoint: file to write after every epoch and to go on from where it exists.
      description: shown before the progress bar.
      batch_size: examples of a step; fewer where these hold more than `memory.TRAINING`.
      multiple: the number of examples is one of this.
    """
    batch_size = fitting(loss, params, data, batch_size, multiple)
    data = jax.tree.map(lambda array: array[: steps * batch_size], data)
    size = len(jax.tree.leaves(data)[0])
    trained = fit(
        loss,
        params,
        data,
        optimizer=one_cycle(steps, _LEARNING_RATE),
        epochs=epochs_of(steps, size, batch_size),
        steps=steps,
        batch_size=batch_size,
        key=key,
        checkpoint=checkpoint,
        description=description,
    )
    state = (trained.params, known)
    return TrainedMap(estimate, state, trained.seconds, trained.compile_seconds)


def fitting(
    loss: Callable[..., Any], params: Params, data: Any, batch_size: int, multiple: int = 1
) -> int:
    """Returns how many examples a step takes; see `train`. It follows from shapes alone."""

    def step(params: Params, batch: Any) -> Any:
        return jax.value_and_grad(loss, has_aux=True)(params, batch, jax.random.key(0))

    return footprint.batch_within(
        memory.TRAINING, batch_size, step, params, data, multiple=multiple
    )
