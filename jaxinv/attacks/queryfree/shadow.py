"""Shadow edges, for an attacker who neither knows the edge nor may query it (Eqs. 3-5). JAX.

The attacker holds the cloud's layers, which stay as they are, and labelled images of its own. A
shadow edge is trained so that the cloud classifies what it makes of those images. What the cloud is
sent while it serves tells more: the mean of the features that it takes for a class must be the mean
of what the shadow makes of that class, and channels must vary as much.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.inversion.solvers import amsgrad
from jaxinv.defenses import NONE, Defense
from jaxinv.errors import UserError
from jaxinv.inputs.data import Samples
from jaxinv.machine import source
from jaxinv.networks import Layer, Network, Params, append, max_pool, sequence
from jaxinv.store import checkpoints
from jaxinv.training import classification
from jaxinv.training.fit import fit as fit_loop
from jaxinv.training.fit import for_each, losses_of_each, one_cycle, whole_epochs

_SCALE = "scale"  # the name of the layer that calibrates a shadow
_TAUGHT = ("means", "counts", "scale")  # what training learns of a stream
_SLICE = 500  # images at once where nothing is learned


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How shadows are trained.

    Attributes:
      steps: of training, about: epochs are whole.
      batch_size: images a step, for each shadow.
      cross_entropy: weight of the classification error under the frozen cloud (Eq. 5).
      means: weight of the squared distance between class means of shadow and stream, in units of
        the stream's variance. Needs a stream.
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
      accuracy: of each, followed by the cloud, on images that taught none of them.
      seconds: wall time of the training.
      compile_seconds: wall time of compiling it.
    """

    network: Network
    params: tuple[Params, ...]
    accuracy: tuple[float, ...]
    seconds: float
    compile_seconds: float


class Stream(NamedTuple):
    """What a cloud knows of the features that it was sent.

    Attributes:
      means: `[K, M]`, of the flattened features that it takes for each of K classes.
      counts: `[K]`, how many those are.
      scale: standard deviation of all features.
      spread: `[c]`, that of each channel (of each feature, where they have no place).
    """

    means: np.ndarray
    counts: np.ndarray
    scale: float
    spread: np.ndarray


def observe(cloud: Network, params: Params, features: Any) -> Stream:
    """Sums up a stream of features, labelled by the cloud's own predictions.

    Args:
      cloud: the part of the network that the attacker runs; returns one logit a class.
      params: its parameters.
      features: `[N, *cloud.input_shape]`, by index: an array or a `defenses.Release`.
    """
    own = cloud.select(params)
    classify = jax.jit(lambda features: cloud.apply(own, features))
    (classes,) = cloud.output_shape
    sums, counts = np.zeros((classes, int(np.prod(cloud.input_shape)))), np.zeros(classes)
    moments = _Moments()
    for begin in range(0, len(features), _SLICE):
        rows = np.arange(begin, min(begin + _SLICE, len(features)))
        part = np.asarray(features[rows])
        labels = np.asarray(classify(part)).argmax(-1)
        np.add.at(sums, labels, part.reshape(len(part), -1).astype(np.float64))
        np.add.at(counts, labels, 1)
        moments.add(part)
    means = sums / np.maximum(counts, 1)[:, None]
    return Stream(
        means.astype(np.float32), counts.astype(np.float32), moments.scale, moments.spread
    )


class _Moments:
    """Standard deviations of features that come in parts, `[B, ..., c]`."""

    def __init__(self):
        self._count, self._sum, self._squares = 0, np.zeros(1), np.zeros(1)

    def add(self, features: np.ndarray) -> None:
        flat = features.reshape(-1, features.shape[-1]).astype(np.float64)
        self._count += len(flat)
        self._sum = self._sum + flat.sum(axis=0)
        self._squares = self._squares + (flat**2).sum(axis=0)

    @property
    def spread(self) -> np.ndarray:
        """`[c]`, of each channel."""
        variance = self._squares / self._count - (self._sum / self._count) ** 2
        return np.sqrt(np.maximum(variance, 0)).astype(np.float32)

    @property
    def scale(self) -> float:
        """Of all of them."""
        mean = self._sum.mean() / self._count
        return float(np.sqrt(max(self._squares.mean() / self._count - mean**2, 1e-12)))


def design(
    image_shape: Sequence[int],
    feature_shape: Sequence[int],
    *,
    rectified: bool,
    mean: Sequence[float],
    std: Sequence[float],
    width: int = 8,
) -> Network:
    """An edge that maps images of one shape to features of another, made by what shows from there.

    Convolutions of 3 x 3, pairs where the authors' target has one of 5 x 5, if the height of the
    features tells of borders that were cut off; of 5 x 5 where it is that of the image or was only
    halved, and there pairs of 3 x 3 are usual. Max-pooling where the size asks for it, a dense
    layer where features have no place. At their cuts these are the authors' shadows.

    Args:
      image_shape: `(H, W, C)`.
      feature_shape: `(h, w, c)` or `(M,)`.
      rectified: whether features are never negative.
      mean, std: per channel, of the attacker's images.
      width: filters of the first layer where borders are cut off; the authors have 8.
    """
    height, columns, _ = image_shape
    spatial = len(feature_shape) == 3
    goal = feature_shape[0] if spatial else -(-height // 8)
    channels = feature_shape[-1] if spatial else 32
    ratio = height / goal
    if spatial and ratio == columns / feature_shape[1] and ratio in (1, 2, 4, 8, 16, 32):
        layers = _padded(int(np.log2(ratio)), channels, rectified)
    else:
        layers = _cropped(height, goal, channels, rectified or not spatial, width)
    network = sequence(layers, image_shape, mean=mean, std=std)
    if network.output_shape == tuple(feature_shape):
        return network
    # Any other shape is reached by a dense layer.
    layers += [
        ("flatten", lambda x: x.reshape(len(x), -1)),
        ("dense", nn.Dense(int(np.prod(feature_shape)))),
        *([("rectify", nn.relu)] if rectified else []),
        ("shape", lambda x: x.reshape(len(x), *feature_shape)),
    ]
    return sequence(layers, image_shape, mean=mean, std=std)


def _padded(halvings: int, channels: int, rectified: bool) -> list[tuple[str, Any]]:
    """Layers that keep the border: 5 x 5 convolutions between poolings, or a 3 x 3 pair."""
    if not halvings and not rectified:
        return [("conv0", nn.Conv(16, (3, 3))), ("conv1", nn.Conv(channels, (3, 3)))]
    layers: list[tuple[str, Any]] = []
    for number in range(halvings + 1):
        filters = channels if number == halvings else max(16, min(64 << number, channels))
        layers.append((f"conv{number}", nn.Conv(filters, (5, 5))))
        if number < halvings or rectified:
            layers.append((f"relu{number}", nn.relu))
        if number < halvings:
            layers.append((f"pool{number}", max_pool))
    return layers


def _cropped(
    size: int, goal: int, channels: int, rectified: bool, width: int
) -> list[tuple[str, Any]]:
    """Layers that lose the border: 3 x 3 convolutions, in pairs before each pooling."""
    filters: list[int] = []
    pools: list[int] = []
    while size > goal + 1 and size > 2:
        pooled = (size - 4) // 2
        if pooled >= goal:
            filters += [16 if filters else width, 16]
            pools.append(len(filters))
            size = pooled
        else:
            filters.append(16 if filters else width)
            size -= 2
    if filters:
        filters[-1] = channels
    layers: list[tuple[str, Any]] = []
    for number, count in enumerate(filters, start=1):
        layers.append((f"conv{number}", nn.Conv(count, (3, 3), padding="VALID")))
        if number in pools or (number == len(filters) and rectified):
            layers.append((f"relu{number}", nn.relu))
        if number in pools:
            layers.append((f"pool{number}", max_pool))
    return layers


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
    folder: Path | None = None,
    label: str = "edge",
) -> Shadows:
    """Trains shadow edges, which differ in their seeds, in one compiled program.

    The cloud's parameters are constants of the program: they do not move.

    Args:
      cloud: the part of the network that the attacker runs; returns one logit a class.
      cloud_params: its parameters.
      samples: images and labels of the attacker's; the last tenth only measures the accuracy.
      network: of a shadow, from images to what the cloud takes.
      recipe: the settings.
      seeds: how many shadows to train; each sees the images in an order of its own.
      key: of the initial parameters and those orders.
      stream: what the cloud was sent, if the recipe weighs its class means.
      defense: that the attacker knows to stand behind the edge: its shadow stands there, too.
      releases: of one input, which the stream combines.
      folder: keeps what is trained, named by all that it depends on: it is read where it is
        complete, and gone on with where its training was killed. None keeps nothing.
      label: of the edge, for people.

    Raises:
      UserError: the shadow does not make what the cloud takes, or a needed stream is missing.
    """
    if network.output_shape != cloud.input_shape:
        raise UserError(
            f"The shadow makes features {network.output_shape}, the cloud takes "
            f"{cloud.input_shape}."
        )
    if recipe.means and stream is None:
        raise UserError("A recipe that weighs class means needs a stream of features.")
    held = max(1, len(samples) // 10)
    taught, rest = samples[: len(samples) - held], samples[len(samples) - held :]
    own = cloud.select(cloud_params)
    batch_size = min(recipe.batch_size, len(taught))

    release = defenses.release_function(network, defense, releases=releases)

    def loss_of_one(params: Params, images: Array, labels: Array, key: Array) -> Array:
        features = release(params, jax.random.split(key, len(images)), images)
        logits = cloud.apply(own, features)
        error = optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()
        total = recipe.cross_entropy * error
        if recipe.means:
            assert stream is not None
            total += recipe.means * class_mean_distance(features, labels, stream)
        return total

    def loss(params: Params, batch: dict[str, Array], key: Array):
        images, labels = (jnp.moveaxis(batch[name], 1, 0) for name in ("pixels", "labels"))
        images = images.astype(jnp.float32) / 255
        losses = losses_of_each(loss_of_one, params, (images, labels, jax.random.split(key, seeds)))
        # The sum: the gradient of a shadow must not depend on how many there are.
        return losses.sum(), {}

    key_init, key_order, key_fit = jax.random.split(key, 3)
    each_key = jax.vmap(jax.random.fold_in, (None, 0))
    params = jax.jit(jax.vmap(network.init))(each_key(key_init, jnp.arange(seeds)))
    # A shadow's images come in an order of its own, however many others are trained with it.
    shuffle = partial(jax.random.permutation, x=len(taught))
    order = np.asarray(jax.vmap(shuffle)(each_key(key_order, jnp.arange(seeds)))).T
    checkpoint = None
    if folder is not None:
        some = {"images": taught[:8].images, "cloud_params": own}
        known = {
            # Outputs stand for the layers and the defence, which cannot be hashed.
            "outputs": _outputs(release, cloud, jax.tree.map(lambda leaf: leaf[0], params), **some),
            "cloud_params": own,
            "pixels": samples.pixels,
            "labels": samples.labels,
            "key": jax.random.key_data(key),
            "stream": stream and {name: getattr(stream, name) for name in _TAUGHT},
            "recipe": np.array([repr(recipe), str(seeds), source.digest(__name__)]),
        }
        checkpoint = folder / f"{label}-{checkpoints.fingerprint(known)}-shadows.safetensors"
    epochs, steps = whole_epochs(recipe.steps, len(taught), batch_size)
    done = fit_loop(
        loss,
        params,
        {"pixels": np.asarray(taught.pixels)[order], "labels": taught.labels[order]},
        optimizer=_optimizer(recipe, steps),
        epochs=epochs,
        batch_size=batch_size,
        key=key_fit,
        seeds=seeds,
        checkpoint=checkpoint,
        description=f"shadows {label}",
    )
    each = tuple(jax.tree.map(lambda leaf, i=i: leaf[i], done.params) for i in range(seeds))
    accuracy = tuple(_accuracy(network, shadow, cloud, own, rest) for shadow in each)
    return Shadows(network, each, accuracy, done.seconds, done.compile_seconds)


def calibrated(
    shadows: Shadows,
    images: np.ndarray,
    stream: Stream,
    *,
    defense: Defense = NONE,
    releases: int = 1,
) -> Shadows:
    """Shadows whose channels vary as much as the stream's: their last layer scales each.

    Args:
      shadows: trained ones.
      images: `[N, H, W, C]`, the attacker's.
      stream: what the cloud was sent.
      defense: that the attacker knows to stand behind the edge.
      releases: of one input, which the stream combines.
    """
    clean = jax.jit(shadows.network.apply)
    run = jax.jit(defenses.release_function(shadows.network, defense, releases=releases))
    noisy = defenses.is_noisy(defense.structure)
    scaling = Layer(lambda key, x: {"factor": jnp.ones(x.shape[-1])}, _scale)
    params = []
    for own in shadows.params:
        released, before = _Moments(), _Moments()
        for begin in range(0, len(images), _SLICE):
            part = images[begin : begin + _SLICE]
            keys = jax.random.split(jax.random.fold_in(jax.random.key(0), begin), len(part))
            released.add(np.asarray(run(own, keys, part)))
            if noisy:
                before.add(np.asarray(clean(own, part)))
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


@partial(jax.jit, static_argnums=(0, 1))
def _outputs(release, cloud, params, images, cloud_params):
    features = release(params, jax.random.split(jax.random.key(0), len(images)), images)
    return features, cloud.apply(cloud_params, features)


def class_mean_distance(features: Array, labels: Array, stream: Stream) -> Array:
    """Squared distance between a batch's class means and a stream's, a value and class.

    The square of a batch's error would count its own sampling noise. The errors of the two halves
    of the batch are independent, so their product has the right mean.

    Args:
      features: `[B, ...]`, what a shadow made.
      labels: `[B]`, of the images.
      stream: the means to be met.

    Returns:
      A scalar, in units of the stream's variance; it may be negative.
    """
    half = len(features) // 2
    flat = features[: 2 * half].reshape(2, half, -1) / stream.scale
    members = jax.nn.one_hot(labels[: 2 * half].reshape(2, half), len(stream.counts))
    counts = members.sum(axis=1)
    # Both halves in one product: one by one, XLA's CPU backend (jaxlib 0.10) crashes at some sizes.
    means = jnp.einsum("hbk,hbm->hkm", members, flat) / jnp.maximum(counts, 1)[..., None]
    errors = means - (stream.means / stream.scale)[None]
    present = (counts > 0).all(axis=0) & (jnp.asarray(stream.counts) > 0)
    product = jnp.sum(errors[0] * errors[1], axis=1) * present
    return product.sum() / (flat.shape[-1] * jnp.maximum(present.sum(), 1))


def _optimizer(recipe: Recipe, steps: int) -> optax.GradientTransformation:
    """The same for each shadow by itself, in parameters `[S, ...]`."""
    one = amsgrad(1e-3, eps=1e-3) if recipe.authors else one_cycle(steps, recipe.learning_rate)
    return for_each(one)


def _accuracy(
    network: Network, shadow: Params, cloud: Network, cloud_params: Params, samples: Samples
) -> float:
    """Share of samples that the cloud classifies rightly behind a shadow."""
    release = defenses.Release(network, shadow, samples.images, NONE, jax.random.key(0))
    return float(classification.correct(cloud, cloud_params, release, samples.labels).mean())
