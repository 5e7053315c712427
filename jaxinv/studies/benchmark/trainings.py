"""Trainings of black-box and query-free attackers, and their answers, as works. JAX."""

import dataclasses
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.blackbox import paper as blackbox_paper
from jaxinv.attacks.learned import inverse, maps
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.queryfree import paper as queryfree_paper
from jaxinv.attacks.queryfree import shadow
from jaxinv.attacks.queryfree.design import design
from jaxinv.attacks.shelf import Shelf
from jaxinv.attacks.whitebox.stage import Stage
from jaxinv.machine import devices
from jaxinv.networks import Params
from jaxinv.studies.benchmark.attacks import SURROGATES, attack_work, features_of
from jaxinv.studies.benchmark.flops import matrix_flops
from jaxinv.studies.benchmark.work import Timing, Work, program_bytes
from jaxinv.training.fit import whole_epochs

_QUERIES = 10_000
_BATCH_SIZE = 32  # of every training here


def maps_work(method, target, dataset, split, batches, steps, key) -> Iterator[Work]:
    """A black-box attacker's training, and what it learns applied."""
    edge, _ = target.network.split(split)
    own, images = edge.select(target.params), dataset.attacker[:SURROGATES].images
    learn: Callable[..., TrainedMap] = inverse.learn
    own_steps = maps.STEPS
    if method == "decoder":
        learn, own_steps = blackbox_paper.learn_decoder, blackbox_paper.STEPS
    known, shelf = EdgeKnown(edge, target.params, images).queries(0), Shelf(label=split)
    train = partial(learn, known, key=key, num_queries=_QUERIES, steps=steps, shelf=shelf)
    learned = train()
    example = features_of(target, dataset, split, 1)

    def loss(params: Params) -> jax.Array:
        features = example  # of the decoder, whose answers are kept; others ask in every step
        if method != "decoder":
            features = edge.apply(own, jnp.asarray(images[:1]))
        return learned.apply(params, features).sum()

    yield _training(method, split, train, learned, loss, steps, own_steps)
    flops = matrix_flops(learned.apply, learned.params, example)
    for batch in batches:
        features = features_of(target, dataset, split, batch * devices.count())
        yield _applied(method, split, learned, features, batch, flops)


def _applied(
    method: str,
    split: str,
    learned: TrainedMap,
    features: np.ndarray,
    batch: int,
    flops: float,
) -> Work:
    count = devices.count()

    @jax.jit
    def estimate(params: Any, rows: Any) -> Any:
        with devices.exact():
            return devices.by_image(mesh, learned.apply, params, rows)

    mesh = devices.mesh()
    params, rows = devices.put(mesh, learned.params), devices.put(mesh, features, devices.IMAGES)
    began = time.perf_counter()
    program = estimate.lower(params, rows).compile()
    compile_seconds = time.perf_counter() - began
    memory = program.memory_analysis()

    def run() -> Timing:
        began = time.perf_counter()
        np.asarray(program(params, devices.put(mesh, features, devices.IMAGES)))
        return Timing(len(features), time.perf_counter() - began)

    return Work(
        method=method,
        split=split,
        phase="attack",
        batch=batch,
        devices=count,
        run=run,
        images=len(features),
        whole=1,
        compile_seconds=compile_seconds,
        flops=flops,
        memory_bytes=memory and program_bytes(memory),
    )


def _training(
    method: str,
    split: str,
    train: Callable[[], Any],
    trained: Any,
    loss: Callable[[Params], jax.Array],
    taken: int,
    own_steps: int,
    rows: int = 1,
) -> Work:
    """A training, of which a first run is done.

    Args:
      method, split: as of `Work`.
      train: runs it and returns what has `params`, `seconds` and `compile_seconds`.
      trained: what the first run returned.
      loss: does what a step does of matrix products for one example, without its gradient.
      taken: number of its steps.
      own_steps: of the method.
      rows: things that are trained side by side, with `params` of each.
    """
    count = devices.count()

    def run() -> Timing:
        with devices.use(count):
            return Timing(taken * _BATCH_SIZE * rows, train().seconds)

    params = trained.params if rows == 1 else trained.params[0]
    return Work(
        method=method,
        split=split,
        phase="fit",
        batch=_BATCH_SIZE,
        devices=count,
        run=run,
        images=0,
        whole=own_steps / taken,
        compile_seconds=trained.compile_seconds,
        flops=matrix_flops(jax.grad(loss), params),
        memory_bytes=None,
    )


def shadows_work(method, target, dataset, split, batches, steps, key) -> Iterator[Work]:
    """A query-free attacker's training of shadows, and the attack on one of them."""
    _, cloud = target.network.split(split)
    samples = dataset.attacker[:SURROGATES]
    mean, std = samples.images.mean((0, 1, 2)), samples.images.std((0, 1, 2)) + 1e-3
    network = design(
        samples.images.shape[1:],
        cloud.input_shape,
        rectified=bool((features_of(target, dataset, split, 10) >= 0).all()),
        mean=mean.tolist(),
        std=std.tolist(),
    )
    own, recipe, seeds = cloud.select(target.params), queryfree_paper.RECIPE, 3
    train = partial(
        shadow.fit,
        cloud,
        target.params,
        samples,
        network=network,
        recipe=dataclasses.replace(recipe, steps=steps),
        seeds=seeds,
        key=key,
        shelf=Shelf(label=split),
    )
    shadows = train()
    images = jnp.asarray(samples.images[:1])

    def loss(params: Params) -> jax.Array:
        return cloud.apply(own, network.apply(params, images)).sum()

    taught = len(samples) - len(samples) // 10
    _, taken = whole_epochs(steps, taught, _BATCH_SIZE)
    yield _training(method, split, train, shadows, loss, taken, recipe.steps, seeds)
    stage = Stage(queryfree_paper.inversion_settings(network))
    for batch in batches:
        features = features_of(target, dataset, split, batch * devices.count())
        yield attack_work(
            method,
            network,
            shadows.params[0],
            features,
            stage,
            split=split,
            chunk=batch,
            steps=steps,
        )
