"""Black-box reconstruction: an inverse network (He, Zhang & Lee 2021, Eq. 2). JAX.

The attacker may query the release with images of its own, and sees the features to be inverted. It
is given nothing else: neither layers nor parameters, and no constant of the network's.
"""

import time
from pathlib import Path
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import Array
from jax.tree_util import Partial

from jaxinv.attacks.blackbox import affine
from jaxinv.attacks.inversion.solvers import amsgrad
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.learned.decoders import Decoder
from jaxinv.attacks.learned.inverse import Learned
from jaxinv.attacks.learned.queries import Queries, check_images, checkpoint_path, divide, make_pool
from jaxinv.attacks.whitebox.rmle import Features
from jaxinv.defenses import Query
from jaxinv.errors import UsageError
from jaxinv.machine import devices
from jaxinv.measures import metrics
from jaxinv.networks import Params
from jaxinv.training.fit import fit, whole_epochs

METHODS = ("paper", "strong")
KNOWLEDGE_OF_ANSWERS = "answers to queries of the release; no images"
KNOWLEDGE = "answers to queries of the release; surrogate images"
FEWEST_QUERIES = 20

VERSION = 1
"""Of the authors' decoders and their training here."""

PAPER_STEPS = 56_250
"""30 epochs of the authors' 60,000 images; the rate is halved after each third."""

_PAPER_BATCH, _PAPER_RATE, _PAPER_EPS = 32, 1e-3, 1e-3
_FIRST = 500  # rows with which an estimator is compiled


class Reconstruction(NamedTuple):
    """What an attack returns.

    Attributes:
      images: `[N, H, W, C]` NumPy, in unit space but not clipped to it.
      way: how they were found: "affine", "inverse map" or "decoder".
      queries: different ones that may have been asked, at most: a training draws from its pool.
      held_out_psnr: mean in dB on the attacker's own images that taught nothing; None if there were
        no queries for that, or no need.
      fit_seconds: wall time of querying and learning, compilation included.
      compile_seconds, seconds: wall time of compiling and running what was learned.
    """

    images: np.ndarray
    way: str
    queries: int
    held_out_psnr: float | None
    fit_seconds: float
    compile_seconds: float
    seconds: float


def invert(
    method: str,
    query: Query,
    features: Features,
    images: np.ndarray,
    *,
    key: Array,
    num_queries: int | None = None,
    fit_steps: int | None = None,
    folder: Path | None = None,
    label: str = "edge",
) -> Reconstruction:
    """Reconstructs the inputs of an edge from what it released.

    Args:
      method: "paper", the authors' decoder, which is asked each image once; or "strong", exact
        recovery where the edge is affine, else an inverse map (`inverse.learn`).
      query: the release, as a function.
      features: `[N, ...]`, what crossed the wire, as an array or a `Release`.
      images: `[M, H, W, C]` in unit space, the attacker's own.
      key: of all randomness.
      num_queries: different queries, at most; by default the method's own number.
      fit_steps: of training; by default the method's own number.
      folder: keeps what is trained, named by all that it depends on: it is read where it is
        complete, and gone on with where its training was killed. None keeps nothing.
      label: of the edge, for people.

    Raises:
      UsageError: there is no such method, or too few queries are allowed.
      UserError: there are too few images.
    """
    number, steps = settings(method, len(images), num_queries, fit_steps)
    check_images(method, len(images))
    began, tried, shape = time.perf_counter(), affine.Attempt(None, 0, 0), images.shape[1:]
    keys = inverse.split_key(key)
    # A black-box attacker has no other use for this one.
    key_affine, key_held = jax.random.split(keys.correction)
    if method == "strong":
        first = features[np.arange(1)]
        tried = affine.ask(query, first, shape, key=key_affine, num_queries=number)
    if tried.matrix is not None:
        asked = time.perf_counter()
        found = affine.solve(tried.matrix, features, shape)
        if found is not None:
            seconds = time.perf_counter() - asked
            return Reconstruction(found, "affine", tried.queries, None, asked - began, 0.0, seconds)
    left = number - tried.impulses
    if left < FEWEST_QUERIES:
        raise UsageError(
            f"--num_queries={number}: the edge takes {tried.impulses} to be found not affine; "
            f"expected at least {tried.impulses + FEWEST_QUERIES}, or fewer than {tried.impulses}."
        )
    # Probes are saved on images held out, so that the map is the one of a white-box attacker, too.
    taught, held, size = divide(images, left)
    size = min(size, left - tried.probes)
    learned = (inverse.learn if method == "strong" else learn_decoder)(
        query,
        taught,
        key=keys.inverse,
        num_queries=size,
        steps=steps,
        folder=folder,
        label=label,
    )
    held = held[: left - size - tried.probes]
    quality = _held_out_psnr(learned, query, held, key_held)
    # Time of training counts even if it was before a kill, or for another attack.
    elapsed = time.perf_counter() - began
    fit_seconds = max(elapsed, learned.seconds + learned.compile_seconds)
    way = "inverse map" if method == "strong" else "decoder"
    queries = tried.queries + learned.queries + len(held)
    found, compile_seconds, seconds = learned.timed(features)
    return Reconstruction(
        found, way, queries, quality, fit_seconds, compile_seconds=compile_seconds, seconds=seconds
    )


def settings(
    method: str, num_images: int, num_queries: int | None = None, fit_steps: int | None = None
) -> tuple[int, int]:
    """The number of queries and of steps that a method takes, where none is given its own.

    Raises:
      UsageError: there is no such method, or too few queries are allowed.
    """
    if method not in METHODS:
        raise UsageError(f"--method={method}: expected one of {', '.join(METHODS)}.")
    if num_queries is not None and num_queries < FEWEST_QUERIES:
        raise UsageError(f"--num_queries={num_queries}: expected at least {FEWEST_QUERIES}.")
    if method == "paper":
        return num_queries or num_images, fit_steps or PAPER_STEPS
    return num_queries or inverse.NUM_QUERIES, fit_steps or inverse.STEPS


def _held_out_psnr(learned: Learned, query: Query, images: np.ndarray, key: Array) -> float | None:
    """Mean PSNR in dB on images that taught nothing, one query each; None without images."""
    if not len(images):
        return None

    def answer(images: Array, places: Array) -> Array:
        return query(jax.vmap(lambda place: jax.random.fold_in(key, place))(places), images)

    features = devices.in_slices(answer, images, np.arange(len(images)))
    return metrics.summarise(metrics.evaluate(images, learned(features)).psnr).mean


def learn_decoder(
    query: Query,
    images: np.ndarray,
    *,
    key: Array,
    num_queries: int,
    steps: int = PAPER_STEPS,
    folder: Path | None = None,
    label: str = "edge",
) -> Learned:
    """Trains a decoder as the authors did; see `inverse.learn` for the arguments.

    Mean squared error in normalised pixels, of which the attacker knows its own images' mean and
    standard deviation; Adam with AMSGrad; each image queried once.
    """
    images = images[:num_queries]
    keys = [jax.random.fold_in(key, number) for number in range(3)]
    pool = make_pool(query, images, len(images), keys[0])
    mean, std = (
        jnp.asarray(value, jnp.float32).reshape(1, 1, 1, -1)
        for value in (images.mean((0, 1, 2)), images.std((0, 1, 2)) + 1e-6)
    )
    decoder = Decoder(images.shape[1:])

    def estimate(params: Params, features: Array) -> Array:
        return cast(Array, decoder.apply({"params": params}, features)) * std + mean

    def loss(queries: Queries, params: Params, batch: tuple[Array, Array], key: Array):
        del key
        features, wanted = queries.ask(*batch, jnp.zeros_like(batch[1]))
        return jnp.mean(((estimate(params, features) - wanted) / std) ** 2), {}

    batch_size = min(_PAPER_BATCH, len(images))
    epochs, taken = whole_epochs(steps, len(images), batch_size)
    third = max(1, taken // 3)
    rate = optax.piecewise_constant_schedule(_PAPER_RATE, {third: 0.5, 2 * third: 0.5})
    trained = fit(
        Partial(loss, pool.queries),
        jax.jit(decoder.init)(keys[1], pool.features(1))["params"],
        pool.batch,
        optimizer=optax.chain(amsgrad(1.0, eps=_PAPER_EPS), optax.scale_by_schedule(rate)),
        epochs=epochs,
        batch_size=batch_size,
        key=keys[2],
        checkpoint=checkpoint_path(folder, label, "decoder", pool, steps=steps, version=VERSION),
        description=f"decoder {label}",
    )
    asked = pool.queries.size
    return Learned(estimate, trained.params, trained.seconds, trained.compile_seconds, asked)
