"""Shadow edges, for an attacker who neither knows the edge nor may query it (Eqs. 3-5). JAX.

The attacker holds the cloud's layers, which stay as they are, and images of its own. A shadow edge
is trained so that the cloud classifies what the shadow makes of those images, if they are labelled,
and that it is as what the cloud was sent.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxinv import defenses, unit_space
from jaxinv.attacks.queryfree.reordered import Reordered
from jaxinv.attacks.queryfree.stream import (
    Moments,
    Stream,
    class_mean_distance,
    group_mean_distance,
    slice_of,
)
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.defenses import NONE, Defense
from jaxinv.errors import UserError
from jaxinv.inputs.samples import Samples
from jaxinv.machine import devices, footprint, memory
from jaxinv.networks import Layer, Network, Params, append
from jaxinv.training.amsgrad import amsgrad
from jaxinv.training.fit import fit as fit_loop
from jaxinv.training.fit import for_each, losses_of_each, one_cycle, whole_epochs
from jaxinv.unit_space import Images

_SCALE = "scale"  # the name of the layer that calibrates a shadow
_TAUGHT = ("means", "counts", "scale", "groups")  # what training learns of a stream


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Recipe by which shadows are trained.

    Attributes:
      steps: of training, about: epochs are whole.
      batch_size: images a step, for each shadow.
      cross_entropy: weight of the classification error under the frozen cloud (Eq. 5), of labelled
        images.
      means: weight of the squared distance between class means (without labels, group means) of
        shadow and stream, in units of the stream's variance. Needs a stream.
      authors: whether to train as the authors' program does, Adam with AMSGrad, rate and eps 1e-3;
        otherwise one cycle of AdamW, clipped.
      learning_rate: at the peak of that cycle.
      longer: how many times as many steps shadows take whose features are rectified: they are
        deeper.
    """

    steps: int
    batch_size: int
    cross_entropy: float
    means: float = 0.0
    authors: bool = False
    learning_rate: float = 1e-2
    longer: int = 1


class Shadows(NamedTuple):
    """Shadow edges that differ in their seeds.

    Attributes:
      network: of all of them, an edge.
      params: of each.
      accuracy: of each, followed by the cloud, on images that taught none of them; None without
        labels.
      seconds: wall time of the training.
      compile_seconds: wall time of compiling it.
    """

    network: Network
    params: tuple[Params, ...]
    accuracy: tuple[float, ...] | None
    seconds: float
    compile_seconds: float

    def features(self, images: Images) -> np.ndarray:
        """Computes the features of images `[N, H, W, C]` by each shadow, `[S, N, ...]`."""
        return np.stack(
            [
                devices.in_slices(_clean, images, static=(self.network,), shared=(own,))
                for own in self.params
            ]
        )


def fit(
    cloud: Network,
    cloud_params: Params,
    samples: Samples,
    *,
    network: Network,
    recipe: Recipe,
    seeds: int,
    key: Array,
    stream: Stream | None = None,
    defense: Defense = NONE,
    releases: int = 1,
    shelf: Shelf = NOWHERE,
) -> Shadows:
    """Trains shadow edges, which differ in their seeds, in one compiled program.

    The cloud's parameters are constants of the program: they do not move.

    Args:
      cloud: the part of the network that the attacker runs; returns one logit a class, if images
        are labelled.
      cloud_params: its parameters.
      samples: the attacker's, with labels or without; the last tenth only measures the accuracy.
      network: of a shadow, from images to what the cloud takes.
      recipe: the settings.
      seeds: how many shadows to train; each sees the images in an order of its own.
      key: of the initial parameters and those orders.
      stream: of the cloud, if the recipe weighs its class means.
      defense: stands behind the edge; behind a shadow it stands, too.
      releases: of one input, which the stream combines.
      shelf: keeps what is trained.

    Raises:
      UserError: the shadow does not make what the cloud takes, a needed stream is missing or summed
        up otherwise, needed labels are missing, or a label has no logit.
    """
    if network.output_shape != cloud.input_shape:
        raise UserError(
            f"The shadow makes features {network.output_shape}, the cloud takes "
            f"{cloud.input_shape}."
        )
    if samples.has_labels or not recipe.means:
        unit_space.labels(samples.labels, len(samples), *cloud.output_shape[-1:])
    if recipe.means:
        _check_stream(stream, samples)
    held = max(1, len(samples) // 10)
    taught, rest = samples[: len(samples) - held], samples[len(samples) - held :]
    own = cloud.select(cloud_params)
    release = defenses.release_function(network, defense, releases=releases)

    def loss_of_one(params: Params, batch: dict[str, Array], key: Array) -> Array:
        images = unit_space.from_stored(batch["pixels"])
        features = release(params, jax.random.split(key, len(images)), images)
        outputs = cloud.apply(own, features)
        return _objective(recipe, stream, features, outputs, batch.get("labels"))

    def loss(params: Params, batch: dict[str, Array], key: Array):
        rows = {name: jnp.moveaxis(array, 1, 0) for name, array in batch.items()}
        losses = losses_of_each(loss_of_one, params, (rows, jax.random.split(key, seeds)))
        # The sum: the gradient of a shadow must not depend on how many there are.
        return losses.sum(), {}

    batch_size = _batch_size(recipe, taught, network, loss_of_one)
    key_init, key_order, key_fit = jax.random.split(key, 3)
    each_key = jax.vmap(jax.random.fold_in, (None, 0))
    params = jax.jit(jax.vmap(network.init))(each_key(key_init, jnp.arange(seeds)))
    # A shadow's images come in an order of its own, however many others are trained with it.
    shuffle = partial(jax.random.permutation, x=len(taught))
    order = np.asarray(jax.vmap(shuffle)(each_key(key_order, jnp.arange(seeds)))).T

    def known() -> dict[str, Any]:
        first = jax.tree.map(lambda leaf: leaf[0], params)
        return {
            # Outputs stand for the layers and the defense, which cannot be hashed.
            "outputs": _outputs(network, defense, releases, cloud, first, taught[:8].images, own),
            "cloud_params": own,
            **_arrays(samples),
            "key": jax.random.key_data(key),
            "stream": stream and {name: getattr(stream, name) for name in _TAUGHT},
            "recipe": np.array([repr(recipe), str(seeds)]),
        }

    epochs, steps = whole_epochs(recipe.steps, len(taught), batch_size)
    done = fit_loop(
        loss,
        params,
        {name: Reordered(array, order) for name, array in _arrays(taught).items()},
        optimizer=_optimizer(recipe, steps),
        epochs=epochs,
        batch_size=batch_size,
        key=key_fit,
        seeds=seeds,
        checkpoint=shelf.path("shadows", __name__, known),
        description=f"shadows {shelf.label}",
    )
    each = tuple(jax.tree.map(lambda leaf, i=i: leaf[i], done.params) for i in range(seeds))
    accuracy = None
    if rest.has_labels:
        accuracy = tuple(_accuracy(network, shadow, cloud, own, rest) for shadow in each)
    return Shadows(network, each, accuracy, done.seconds, done.compile_seconds)


def _check_stream(stream: Stream | None, samples: Samples) -> None:
    """Checks that a stream is summed up by what is known of images.

    Raises:
      UserError: it is not, or there is none.
    """
    if stream is None:
        raise UserError("A recipe that weighs class means needs a stream of features.")
    if samples.has_labels != (stream.groups is None):
        raise UserError("Images without labels need a stream of groups, and others one of classes.")


def _objective(
    recipe: Recipe, stream: Stream | None, features: Array, outputs: Array, labels: Array | None
) -> Array:
    """Computes the objective of one shadow on a batch.

    Args:
      recipe: its weights.
      stream: to be met; may be None if its weight is 0.
      features: `[B, ...]`, what the shadow made.
      outputs: `[B, ...]`, what the cloud made of them.
      labels: `[B]` or None.
    """
    if labels is None:
        assert stream is not None
        return recipe.means * group_mean_distance(features, outputs, stream)
    error = optax.softmax_cross_entropy_with_integer_labels(outputs, labels).mean()
    total = recipe.cross_entropy * error
    if recipe.means:
        assert stream is not None
        total += recipe.means * class_mean_distance(features, labels, stream)
    return total


def _arrays(samples: Samples) -> dict[str, np.ndarray]:
    """Returns pixels and, where there are any, labels."""
    return {"pixels": samples.pixels, **({"labels": samples.labels} if samples.has_labels else {})}


def _batch_size(
    recipe: Recipe, samples: Samples, network: Network, loss: Callable[..., Array]
) -> int:
    """Returns how many images a step of a shadow has: fewer where they hold too much memory."""

    def step(params: Params, rows: dict[str, Array]) -> Any:
        return jax.grad(loss)(params, rows, jax.random.key(0))

    params = jax.eval_shape(network.init, jax.random.key(0))
    rows = _arrays(samples)
    wanted = min(recipe.batch_size, len(samples))
    return footprint.batch_within(memory.TRAINING, wanted, step, params, rows)


def calibrated(
    shadows: Shadows,
    images: Images,
    stream: Stream,
    *,
    defense: Defense = NONE,
    releases: int = 1,
) -> Shadows:
    """Scales each channel of shadows, by one more layer, to vary as much as the stream's.

    Args:
      shadows: trained ones.
      images: `[N, H, W, C]`, the attacker's.
      stream: of the cloud.
      defense: stands behind the edge.
      releases: of one input, which the stream combines.
    """
    noisy = defenses.is_noisy(defense.structure)
    step = slice_of(shadows.network, shadows.params[0], images)
    scaling = Layer(lambda key, x: {"factor": jnp.ones(x.shape[-1], x.dtype)}, _scale)
    params = []
    for own in shadows.params:
        released, before = Moments(), Moments()
        for begin in range(0, len(images), step):
            part = np.asarray(images[begin : begin + step])
            keys = jax.random.split(jax.random.fold_in(jax.random.key(0), begin), len(part))
            released.add(np.asarray(_released(shadows.network, defense, releases, own, keys, part)))
            if noisy:
                before.add(np.asarray(_clean(shadows.network, own, part)))
        wanted, has = stream.spread**2, released.spread**2
        if noisy:
            # Noise is added to what was scaled, and scales with nothing.
            wanted, has = wanted - (has - before.spread**2), before.spread**2
        # A channel that is dead in one of the two is left as it is.
        alive = (has > 0) & (wanted > 0)
        factor = np.sqrt(np.where(alive, wanted / np.where(alive, has, 1), 1))
        params.append({**own, _SCALE: {"factor": jnp.asarray(factor, jnp.float32)}})
    network = append(shadows.network, _SCALE, scaling)
    return shadows._replace(network=network, params=tuple(params))


def _scale(params: Params, x: Array) -> Array:
    return x * params["factor"].reshape(*(1,) * (x.ndim - 1), -1)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _released(network, defense, releases, params, keys, images):
    return defenses.release_function(network, defense, releases=releases)(params, keys, images)


@partial(jax.jit, static_argnums=0)
def _clean(network, params, images):
    return network.apply(params, images)


@partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _outputs(network, defense, releases, cloud, params, images, cloud_params):
    release = defenses.release_function(network, defense, releases=releases)
    features = release(params, jax.random.split(jax.random.key(0), len(images)), images)
    return features, cloud.apply(cloud_params, features)


def _optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """Optimises each shadow by itself, in parameters `[S, ...]`."""
    one = amsgrad(1e-3, eps=1e-3) if recipe.authors else one_cycle(steps, recipe.learning_rate)
    return for_each(one)


def _accuracy(
    network: Network, shadow: Params, cloud: Network, cloud_params: Params, samples: Samples
) -> float:
    """Share of samples that the cloud classifies rightly behind a shadow."""
    classes = devices.in_slices(
        _classes, samples.pixels, static=(network, cloud), shared=(shadow, cloud_params)
    )
    return int((classes == samples.labels).sum()) / len(samples)


def _classes(network, cloud, shadow, cloud_params, pixels):
    images = pixels.astype(jnp.float32) / 255
    return cloud.apply(cloud_params, network.apply(shadow, images)).argmax(-1)
