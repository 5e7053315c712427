"""Query-free reconstruction: shadows stand in for the edge (He, Zhang & Lee 2021, Eqs. 3-5). JAX.

The attacker runs the cloud and has labelled images of the same kind. It may not query the edge and
knows nothing of its layers. What it was sent is what it inverts; `strong` also learns from a stream
of what it was sent before.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.learned.queries import check_images, divide
from jaxinv.attacks.queryfree import shadow
from jaxinv.attacks.queryfree.shadow import Recipe, Shadows
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.attacks.whitebox.rmle import Features
from jaxinv.defenses import NONE, Defense, Query
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs.data import Samples
from jaxinv.networks import Network, Params

METHODS = {
    "paper": "the cloud's layers and parameters; labelled surrogate images; the sign of features",
    "strong": "the cloud's layers and parameters; labelled surrogate images; a stream of features",
}
"""What `invert` offers, and what each knows."""

RECIPES = {
    "paper": Recipe(steps=5625, batch_size=32, cross_entropy=1.0, authors=True, longer=2),
    "strong": Recipe(steps=600, batch_size=256, cross_entropy=0.1, means=10.0),
}

FIT_STEPS = 1000
"""Of training each inverse map of `strong`, unless told otherwise."""

_WIDTHS = {"paper": 8, "strong": 16}  # more filters than needed are found more easily
_FAR = 6.0  # standard deviations, which noise does not reach
_SEEN = 500  # features and images that tell of all


class Reconstruction(NamedTuple):
    """What an attack returns.

    Attributes:
      images: `[S, N, H, W, C]` NumPy, by each of S shadows, in unit space but not clipped to it.
      joint: `[N, H, W, C]` NumPy, the mean over the shadows that did not diverge.
      shadows: what they are.
      fit_seconds: wall time of all training, compilation included.
      compile_seconds, seconds: wall time of compiling and running the attack itself.
    """

    images: np.ndarray
    joint: np.ndarray
    shadows: Shadows
    fit_seconds: float
    compile_seconds: float
    seconds: float


def invert(
    method: str,
    cloud: Network,
    cloud_params: Params,
    features: Features,
    samples: Samples,
    *,
    key: Array,
    stream: Features | None = None,
    defense: Defense = NONE,
    releases: int = 1,
    normalization: tuple[Sequence[float], Sequence[float]] | None = None,
    network: Network | None = None,
    seeds: int = 3,
    shadow_steps: int | None = None,
    fit_steps: int = FIT_STEPS,
    folder: Path | None = None,
    label: str = "edge",
) -> Reconstruction:
    """Reconstructs the inputs of an edge from what the cloud received of it.

    Args:
      method: "paper", shadows trained by cross-entropy alone and inverted by rMLE with the authors'
        settings; or "strong", shadows that also meet the stream's class means and the spread of its
        channels, inverted by maps that were trained on pairs of theirs.
      cloud: the part of the network that the attacker runs; returns one logit a class.
      cloud_params: its parameters; those of other layers are ignored.
      features: `[N, *cloud.input_shape]`, what is to be inverted.
      samples: images and labels of the attacker's own.
      key: of all randomness.
      stream: `[L, *cloud.input_shape]`, what the cloud was sent besides; for strong.
      defense: that strong knows to stand behind the edge; paper does not ask.
      releases: of one input, which features and stream combine.
      normalization: mean and standard deviation of pixels, which belong to the knowledge of a
        defence at the input; by default those of the attacker's images.
      network: of a shadow; by default `shadow.design` makes it.
      seeds: number of shadows.
      shadow_steps: of training them; by default the method's own number.
      fit_steps: of training each inverse map; for strong.
      folder: keeps what is trained, named by all that it depends on: it is read where it is
        complete, and gone on with where its training was killed. None keeps nothing.
      label: of the edge, for people.

    Raises:
      UsageError: there is no such method.
      UserError: there are too few images, or no shadow fits.
    """
    if method not in METHODS:
        raise UsageError(f"method={method}: expected one of {', '.join(METHODS)}.")
    check_images(method, len(samples))
    recipe, known = RECIPES[method], defense if method == "strong" else NONE
    rectified = _look_rectified(features[np.arange(min(_SEEN, len(features)))], known)
    steps = shadow_steps or recipe.steps * (recipe.longer if rectified else 1)
    recipe = dataclasses.replace(recipe, steps=steps)
    key_shadows, key_maps = jax.random.split(key)
    began = time.perf_counter()
    network = network or _design(cloud, rectified, samples, method, normalization)
    seen = None
    if recipe.means:
        if stream is None:
            raise UserError(f"{method} learns from a stream of features, and got none.")
        seen = shadow.observe(cloud, cloud_params, stream)
    shadows = shadow.fit(
        cloud,
        cloud_params,
        samples,
        network=network,
        recipe=recipe,
        seeds=seeds,
        key=key_shadows,
        stream=seen,
        defense=known,
        releases=releases,
        folder=folder,
        label=label,
    )
    if seen is not None:
        shadows = shadow.calibrated(shadows, samples.images, seen, defense=known, releases=releases)
        network = shadows.network
    answers = []
    for number, params in enumerate(shadows.params):
        if method == "paper":
            answers.append(_by_rmle(network, params, features))
            continue
        query = defenses.query_function(network, params, known, releases=releases)
        key_map, name = jax.random.fold_in(key_maps, number), f"{label}-shadow{number}"
        answers.append(_by_map(query, features, samples, key_map, fit_steps, folder, name))
    images = np.stack([answer.images for answer in answers])
    training = shadows.seconds + shadows.compile_seconds
    training += sum(answer.fit_seconds for answer in answers)
    compiling = sum(answer.compile_seconds for answer in answers)
    running = sum(answer.seconds for answer in answers)
    # Training that was done before a kill counts as well.
    fit_seconds = max(time.perf_counter() - began - compiling - running, training)
    joint = _mean_of_finite(np.clip(images, 0, 1))
    return Reconstruction(images, joint, shadows, fit_seconds, compiling, running)


def settings(method: str, shadow_steps: int | None = None) -> dict[str, Any]:
    """What decides a method's result beside the arguments of `invert`, for a configuration."""
    recipe = RECIPES[method]
    return {
        "shadow_steps": shadow_steps or recipe.steps,
        "recipe": repr(recipe),
        "width": _WIDTHS[method],
    }


def _mean_of_finite(images: np.ndarray) -> np.ndarray:
    """The mean over shadows, `[S, N, ...]` to `[N, ...]`; what diverged is left out, if not all."""
    finite = np.isfinite(images).all(axis=tuple(range(2, images.ndim)), keepdims=True)
    total = np.where(finite, images, 0).sum(axis=0)
    count = finite.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


class _Answer(NamedTuple):
    """What one shadow leads to."""

    images: np.ndarray
    fit_seconds: float
    compile_seconds: float
    seconds: float


def _by_rmle(network: Network, params: Params, features: Features) -> _Answer:
    found = whitebox.invert(network, params, features, paper_settings(network))
    return _Answer(found.images, 0.0, found.compile_seconds, found.seconds)


def _by_map(
    query: Query,
    features: Features,
    samples: Samples,
    key: Array,
    steps: int,
    folder: Path | None,
    label: str,
) -> _Answer:
    learned = inverse.learn(
        query,
        divide(samples.images, inverse.NUM_QUERIES).taught,
        key=key,
        steps=steps,
        folder=folder,
        label=label,
    )
    images, compile_seconds, seconds = learned.timed(features)
    fit_seconds = learned.seconds + learned.compile_seconds
    return _Answer(images, fit_seconds, compile_seconds, seconds)


def paper_settings(network: Network) -> whitebox.Settings:
    """How the authors invert a shadow: as they do an edge, in 500 large steps, lambda 2."""
    settings = whitebox.paper_settings(network, network.cuts[-1])
    return dataclasses.replace(settings, steps=500, learning_rate=0.1, tv_weight=2.0, tv_start=2.0)


def _look_rectified(seen: np.ndarray, defense: Defense) -> bool:
    """Whether features are never negative, but for the noise of a defence that is known."""
    if not defenses.is_noisy(defense.structure):
        return bool((seen >= 0).all())
    zeros = jnp.zeros_like(seen)
    levels = jnp.broadcast_to(jnp.asarray(defense.levels), (len(seen), len(defense.steps)))
    # In standard deviations, above what was observed.
    below = defenses.residual(defense.structure, zeros, zeros, jnp.asarray(seen), levels)
    return bool((below < _FAR).all())


def _design(
    cloud: Network,
    rectified: bool,
    samples: Samples,
    method: str,
    normalization: tuple[Sequence[float], Sequence[float]] | None,
) -> Network:
    """A shadow, from what the attacker has seen of features, and the colours of its images."""
    images = samples[:_SEEN].images
    mean, std = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2)) + 1e-3
    if method == "paper" and images.shape[-1] == 1:
        # The authors' constants for grey images: lambda is in units of normalised pixels.
        mean, std = np.array([0.5]), np.array([0.5])
    if normalization is not None:
        mean, std = (np.asarray(values) for values in normalization)
    return shadow.design(
        images.shape[1:],
        cloud.input_shape,
        rectified=rectified,
        mean=mean.tolist(),
        std=std.tolist(),
        width=_WIDTHS[method],
    )
