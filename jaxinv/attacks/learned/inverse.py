"""Learned estimates of images: from features (an inverse map), or from images (a correction). JAX.

One convolutional network does both. It works at half the images' resolution, where a pixel stands
for 2 x 2, and its shape follows from the shapes of what goes in and of the images alone.
"""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jax import Array
from jax.tree_util import Partial

from jaxinv.attacks.learned.queries import Pool, Queries, checkpoint_path, make_pool
from jaxinv.defenses import Query
from jaxinv.errors import DamagedError, UserError
from jaxinv.machine import devices, hosts, source
from jaxinv.networks import Params
from jaxinv.networks.convolution import conv_general_dilated
from jaxinv.store import checkpoints, files
from jaxinv.training.fit import fit, one_cycle, whole_epochs

STEPS = 2000
"""Of training, unless told otherwise."""

NUM_QUERIES = 100_000
"""That an attacker may ask for an inverse map, unless told otherwise."""

_BATCH_SIZE, _LEARNING_RATE = 32, 3e-3
_LINEAR_FEATURES = 5000  # up to so many features the best linear map is part; more overfit it
_LEAST_ERROR = 1e-4  # mean square below which an error hardly counts
_SAMPLE = 500  # queries whose features tell their scale
_SLICE = 500  # images at once where nothing is learned
_AT_ONCE = 4  # members of a family whose moments are in memory


class Estimator(nn.Module):
    """A residual convolutional network from features, images or both to an image.

    Attributes:
      image_shape: `(H, W, C)` of what it returns.
      width: channels of its hidden layers.
      depth: of them, how many.
    """

    image_shape: tuple[int, int, int]
    width: int
    depth: int = 3

    @nn.compact
    def __call__(self, inputs: list[Array]) -> Array:
        """Maps `[B, h, w, c]` and `[B, M]` arrays, of any number and size, to `[B, H, W, C]`."""
        height, width, channels = self.image_shape
        grid = (-(-height // 2), -(-width // 2))
        placed = [self._on_grid(value, grid, number) for number, value in enumerate(inputs)]
        x = jnp.concatenate(placed, axis=-1)
        x = self._convolution(self.width)(x)
        for _ in range(self.depth):
            x += self._convolution(self.width)(nn.gelu(x))
        last = self._convolution(4 * channels, kernel_init=nn.initializers.zeros)
        return from_quarters(last(nn.gelu(x)))[:, :height, :width]

    def _on_grid(self, x: Array, grid: tuple[int, int], number: int) -> Array:
        if x.ndim != 4:
            x = nn.Dense(grid[0] * grid[1] * 8)(x.reshape(len(x), -1))
            return x.reshape(len(x), *grid, 8)
        while x.shape[1] > grid[0] or x.shape[2] > grid[1]:
            x = to_quarters(x)
        if x.shape[-1] > 4 * self.width:
            x = nn.Dense(self.width)(x)
        # Where rows and columns of features lie in the image is learned; at first, evenly.
        for axis, size in enumerate(grid, start=1):
            even = jax.image.resize(jnp.eye(x.shape[axis]), (size, x.shape[axis]), "linear")
            places = self.param(f"places{number}_{axis}", lambda _, even=even: even)
            x = jnp.moveaxis(jnp.tensordot(places, x, (1, axis)), 0, axis)
        return x

    def _convolution(self, features: int, **options: Any) -> nn.Module:
        return nn.Conv(features, (3, 3), conv_general_dilated=conv_general_dilated, **options)


def to_quarters(x: Array) -> Array:
    """`[B, H, W, C]` to `[B, ceil(H / 2), ceil(W / 2), 4 C]`: 2 x 2 pixels become one."""
    n, height, width, c = x.shape
    x = jnp.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
    h, w = x.shape[1] // 2, x.shape[2] // 2
    return x.reshape(n, h, 2, w, 2, c).transpose(0, 1, 3, 2, 4, 5).reshape(n, h, w, 4 * c)


def from_quarters(x: Array) -> Array:
    """`[B, H, W, 4 C]` to `[B, 2 H, 2 W, C]`: undoes `to_quarters`."""
    n, h, w, c = x.shape
    x = x.reshape(n, h, w, 2, 2, c // 4).transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(n, 2 * h, 2 * w, c // 4)


@dataclasses.dataclass(frozen=True)
class Learned:
    """A trained estimator.

    Attributes:
      apply: `(params, *inputs) -> images [B, H, W, C]`, pure.
      params: what `apply` takes first: what was trained, and with it what was not but is needed.
      seconds: wall time of the training.
      compile_seconds: wall time of compiling it.
      queries: different ones that its training may have asked, at most.
      given: what `apply` takes behind the inputs.
    """

    apply: Callable[..., Array]
    params: Any
    seconds: float
    compile_seconds: float
    queries: int = 0
    given: tuple[Array, ...] = ()

    def of(self, which: int) -> "Learned":
        """The one for a member of the family that this was trained for."""
        return dataclasses.replace(self, given=(jnp.int32(which),))

    def __call__(self, *inputs: Any) -> np.ndarray:
        """Estimates N images, slice by slice; each input is indexed `[N, ...]`."""
        shared = (self.params, self.given)
        return devices.in_slices(_estimates, *inputs, static=(self.apply,), shared=shared)

    def timed(self, features: Any) -> tuple[np.ndarray, float, float]:
        """Estimates of features, and the seconds of compiling and of running that."""
        began = time.perf_counter()
        self(features[np.arange(min(len(features), devices.slice_size(len(features))))])
        compiled = time.perf_counter()
        images = self(features)
        return images, compiled - began, time.perf_counter() - compiled


def _estimates(apply, params, given, *inputs):
    return apply(params, *inputs, *given)


class Keys(NamedTuple):
    """What an attacker's randomness is for, in white-box and in black-box attacks alike."""

    curvature: Array
    inverse: Array
    correction: Array


def split_key(key: Array) -> Keys:
    """An attacker's keys. Attackers of one key train one inverse map, which they can share."""
    return Keys(*jax.random.split(key, 3))


def learn(
    query: Query,
    images: np.ndarray,
    *,
    key: Array,
    num_queries: int = NUM_QUERIES,
    steps: int = STEPS,
    family: int = 0,
    folder: Path | None = None,
    label: str = "edge",
) -> Learned:
    """Trains a map from features to images (Eq. 2) on pairs that it queries.

    The best linear map, where features are few enough for it, is found first (ridge regression);
    the network adds to it, and a sigmoid bounds the sum. A part of the images of a step are zoomed
    and shifted a little, as far as there are queries for that.

    For a family of defences one network serves all: it is told which one it sees, and adds to the
    linear map of that one. Every step has as many pairs of each.

    Args:
      query: the release, as a function.
      images: `[N, H, W, C]`, the attacker's.
      key: of the initial parameters, the order of images, their jitter, and a defence's draws.
      num_queries: different queries, at most (of each of a family); fewer than N use the first
        images alone.
      steps: of training: up to one epoch as many, beyond it about, as epochs are whole.
      family: how many defences the query stands for; `Learned.of` chooses among them. 0 where it
        is the query of one.
      folder: keeps what is trained, named by all that it depends on: it is read where it is
        complete, and gone on with where its training was killed. None keeps nothing.
      label: of the edge, for people.

    Raises:
      UserError: there are fewer images than members of the family.
    """
    if family > len(images[:num_queries]):
        raise UserError(f"{len(images)} images are too few to learn {family} levels from.")
    pool = make_pool(query, images, num_queries, jax.random.fold_in(key, 0), family)
    key_init, key_fit = (jax.random.fold_in(key, number) for number in (1, 2))
    shape = images.shape[1:]
    sample = pool.features(-(-_SAMPLE // max(1, family)), family)
    network = Estimator(shape, _width(shape))
    checkpoint = checkpoint_path(
        folder, label, "inverse", pool, steps=steps, code=source.digest(__name__), family=family
    )
    linear = None
    if sample[0].size <= _LINEAR_FEATURES:
        linear = _kept_ridge(checkpoint, pool, family)
    known = linear, jnp.float32(sample.mean()), jnp.float32(sample.std() + 1e-6)

    def estimate(state: tuple[Params, Any], features: Array, *which: Array) -> Array:
        params, (linear, center, spread) = state
        inputs = [(features - center) / spread]
        logits: Any = 0.0
        if linear is not None:
            guess = _linear(linear, features.reshape(len(features), -1), *which)
            # A sigmoid of this slope follows the linear map where it is between black and white.
            logits = 5 * (guess.reshape(-1, *shape) - 0.5)
            inputs.append(logits)
        for one in which:
            inputs.append(jax.nn.one_hot(jnp.broadcast_to(one, len(features)), family))
        return nn.sigmoid(logits + _apply(network, params, inputs))

    def loss(queries: Queries, known: Any, params: Params, batch: tuple[Array, Array], key: Array):
        which = (jnp.arange(len(batch[1])) % family,) if family else ()
        features, wanted = queries.draw(key, *batch, *which)
        return _log_error(estimate((params, known), features, *which), wanted), {}

    inputs = [sample[:1]] + ([] if linear is None else [images[:1]])
    inputs += [np.zeros((1, family), np.float32)] if family else []
    params = jax.jit(network.init)(key_init, inputs)["params"]
    batch_size = _BATCH_SIZE
    if family:
        batch_size = family * max(1, min(-(-_BATCH_SIZE // family), len(pool.images) // family))
    learned = _fit(
        Partial(loss, pool.queries, known),
        params,
        known,
        pool.batch,
        estimate,
        key_fit,
        steps,
        checkpoint,
        f"inverse map {label}",
        batch_size,
    )
    return dataclasses.replace(learned, queries=pool.queries.size)


def _linear(maps: tuple[Array, Array], features: Array, which: Array | None = None) -> Array:
    """Linear maps `[L, M, D]`, `[L, D]` of features `[B, M]`: one for all, or each in its turn."""
    weights, offsets = maps
    if which is None or not which.ndim:
        chosen = 0 if which is None else which
        return features @ weights[chosen] + offsets[chosen][None]
    # Rows come in the order of the family, again and again: a product for each member.
    rows = features.reshape(-1, len(weights), features.shape[1])
    found = jnp.einsum("glm,lmd->gld", rows, weights) + offsets[None]
    return found.reshape(len(features), -1)


def fit_correction(
    originals: np.ndarray,
    found: list[np.ndarray],
    features: np.ndarray,
    *,
    key: Array,
    which: np.ndarray | None = None,
    steps: int = STEPS,
    checkpoint: Path | None = None,
    description: str = "correction",
) -> Learned:
    """Trains a map from what an attack found to what it should have found.

    The network adds to the first of the images found.

    Args:
      originals: `[N, H, W, C]`, the attacker's own.
      found: images `[N, H, W, C]`: those to be corrected, and others that may help.
      features: `[N, ...]`, what was attacked.
      which: `[N, L]`, ones where an image is of a member of a family, for a network that serves all
        of it; it then takes such an array behind the features. None for one.
      key: of the initial parameters and the order of images.
      steps: of training: up to one epoch as many, beyond it about, as epochs are whole.
      checkpoint: file to write after every epoch and to go on from where it exists.
      description: shown before the progress bar.
    """
    key_init, key_fit = jax.random.split(key)
    shape = originals.shape[1:]
    network = Estimator(shape, _width(shape))
    known, count = (jnp.float32(features.mean()), jnp.float32(features.std() + 1e-6)), len(found)

    def estimate(state: tuple[Params, Any], *inputs: Array) -> Array:
        params, (center, spread) = state
        first, *others = inputs[:count]
        # Differences are small; the network sees them enlarged.
        enlarged = [first - 0.5, *(10 * (first - other) for other in others)]
        enlarged += [(inputs[count] - center) / spread, *inputs[count + 1 :]]
        return first + _apply(network, params, enlarged)

    def loss(known: Any, params: Params, batch: tuple[Array, list[Array]], key: Array):
        del key
        wanted, inputs = batch
        return _log_error(estimate((params, known), *inputs), wanted), {}

    given = [*found, features] + ([] if which is None else [which])
    params = jax.jit(network.init)(key_init, [value[:1] for value in given])["params"]
    data, loss = (originals, given), Partial(loss, known)
    return _fit(loss, params, known, data, estimate, key_fit, steps, checkpoint, description)


def _fit(
    loss, params, known, data, estimate, key, steps, checkpoint, description, batch_size=_BATCH_SIZE
) -> Learned:
    # Fewer steps than an epoch has take as many images as they see.
    data = jax.tree.map(lambda array: array[: steps * batch_size], data)
    size = len(jax.tree.leaves(data)[0])
    epochs, steps = whole_epochs(steps, size, batch_size)
    trained = fit(
        loss,
        params,
        data,
        optimizer=one_cycle(steps, _LEARNING_RATE),
        epochs=epochs,
        batch_size=batch_size,
        key=key,
        checkpoint=checkpoint,
        description=description,
    )
    state = (trained.params, known)
    return Learned(estimate, state, trained.seconds, trained.compile_seconds)


def _log_error(found: Array, wanted: Array) -> Array:
    """Mean over images of the logarithm of their mean squared error in pixels.

    It is what PSNR measures, so that images which are nearly right count as well.
    """
    errors = jnp.mean((found - wanted) ** 2, axis=(1, 2, 3))
    return jnp.mean(jnp.log(errors + _LEAST_ERROR))


def _apply(network: Estimator, params: Params, inputs: list[Array]) -> Array:
    return cast(Array, network.apply({"params": params}, inputs))


def _width(image_shape: tuple[int, ...]) -> int:
    return 24 + 8 * image_shape[-1]


def _kept_ridge(checkpoint: Path | None, pool: Pool, members: int) -> tuple[Array, Array]:
    """`_ridge`, kept beside the network that adds to it: it can take as long as the training.

    Of several hosts the first reads it, or makes it anew where it is damaged.
    """
    if checkpoint is None:
        return _ridge(pool, members)
    path = checkpoint.with_name(checkpoint.name.replace("-inverse.", "-ridge."))

    def kept() -> tuple[Any, Any]:
        if path.is_file():
            try:
                arrays, _ = checkpoints.read(path)
                return arrays["weights"], arrays["offsets"]
            except DamagedError as error:
                files.set_aside(path, error.why)
        weights, offsets = _ridge(pool, members)
        checkpoints.save(path, {"weights": weights, "offsets": offsets})
        return weights, offsets

    weights, offsets = hosts.first(kept)
    return jnp.asarray(weights), jnp.asarray(offsets)


def _ridge(pool: Pool, members: int = 0) -> tuple[Array, Array]:
    """Linear maps from features to images of least square error: `[L, M, D]` and `[L, D]`.

    For each of so many members of a family; without one, L is 1.
    """

    def solutions(some: tuple[Any, ...]) -> list[np.ndarray]:
        images, places = pool.batch
        sums: Any = [(0.0, 0.0)] * len(some)
        for i in range(0, len(images), _SLICE):
            part = slice(i, i + _SLICE)
            own = _moments(pool.queries, images[part], places[part], some)
            sums = jax.tree.map(lambda total, new: total + np.asarray(new, np.float64), sums, own)
        return [solution(gram, cross, len(images)) for gram, cross in sums]

    def solution(gram: np.ndarray, cross: np.ndarray, count: int) -> np.ndarray:
        # The more features there are beside images, the less a fit to these says of others.
        strength = max(1e-3, 0.03 * (len(gram) / count) ** 2)
        gram[np.diag_indices(len(gram))] += strength * np.trace(gram) / len(gram)
        return np.asarray(scipy.linalg.solve(gram, cross, assume_a="pos"), np.float32)

    each: list[tuple[Array, ...]] = [(jnp.int32(which),) for which in range(members)] or [()]
    groups = [tuple(each[i : i + _AT_ONCE]) for i in range(0, len(each), _AT_ONCE)]
    weights = np.stack([one for some in groups for one in solutions(some)])
    return jnp.asarray(weights[:, :-1]), jnp.asarray(weights[:, -1])


@jax.jit
def _moments(
    queries: Queries, batch: Array, places: Array, some: tuple[Any, ...]
) -> list[tuple[Array, Array]]:
    """Of several members in one program, whose compiler finds that they share an edge."""
    pixels = batch.reshape(len(batch), -1)
    found = []
    for which in some:
        every = (jnp.broadcast_to(number, places.shape) for number in which)
        features = queries.plain(batch, places, *every).reshape(len(batch), -1)
        known = jnp.concatenate([features, jnp.ones((len(batch), 1))], axis=1)
        found.append((known.T @ known, known.T @ pixels))
    return found
