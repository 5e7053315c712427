"""White-box attacks, and those on shadows, as works. JAX."""

import dataclasses
import time
from typing import Any

import jax
import numpy as np

from jaxinv import defenses
from jaxinv.attacks import registry
from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.inversion.loop import compile_programs, minimize
from jaxinv.attacks.whitebox.map import image_prior
from jaxinv.attacks.whitebox.stage import Stage, problem_of
from jaxinv.inputs import data
from jaxinv.machine import devices
from jaxinv.networks import Network, Params
from jaxinv.studies.benchmark.flops import step_flops
from jaxinv.studies.benchmark.work import Timing, Work, program_bytes
from jaxinv.training.targets import Target

SURROGATES = 2000
"""Images that teach a prior or a training here: enough for their speed."""


def whitebox_stage(
    method: str, target: Target, dataset: data.Dataset, split: str, key: jax.Array
) -> Stage:
    """A white-box method with its own settings; for map, with a prior of a few images."""
    attack: Any = registry.make("whitebox", method, network=target.network, cut=split)
    if not attack.learns:
        return Stage(attack.settings)
    edge, _ = target.network.split(split)
    images = dataset.attacker[:SURROGATES].images
    prior = image_prior(EdgeKnown(edge, target.params, images), images, key).of_images
    # In the middle of the weights that map chooses from.
    return Stage(dataclasses.replace(attack.settings, tv_weight=1e-3, prior_weight=3e-5), prior)


def attack_work(
    method: str,
    network: Network,
    params: Params,
    features: np.ndarray,
    stage: Stage,
    *,
    split: str,
    chunk: int,
    steps: int,
) -> Work:
    """An optimisation of N images by one stage, as `rmle.invert` runs it.

    Args:
      method: its name.
      network, params: what is inverted.
      features: `[N, *network.output_shape]`.
      stage: without an estimate.
      split: the cut's name.
      chunk: images at once on each device.
      steps: of a run, if the method takes as many.
    """
    count, own = devices.count(), stage.settings.steps
    steps = min(steps, own)
    weights = np.broadcast_to(stage.settings.weights, (len(features), 2, 2))
    problem = problem_of(network, params, features, stage, None, weights)
    programs = compile_programs(*problem, chunk=chunk)
    memory = programs.advance.memory_analysis()

    def run() -> Timing:
        with devices.use(count):
            began = time.perf_counter()
            found = minimize(*problem, steps=steps, chunk=chunk, programs=programs)
            return Timing(int(found.steps.sum()), time.perf_counter() - began)

    return Work(
        method=method,
        split=split,
        phase="attack",
        batch=chunk,
        devices=count,
        run=run,
        images=len(features),
        whole=own / steps,
        compile_seconds=programs.seconds,
        flops=step_flops(problem),
        memory_bytes=memory and program_bytes(memory),
    )


def features_of(target: Target, dataset: data.Dataset, split: str, count: int) -> np.ndarray:
    """Returns the features of the first test images, `[count, ...]`."""
    edge, _ = target.network.split(split)
    images = dataset.test[:count].images
    release = defenses.Release(edge, target.params, images, defenses.NONE, jax.random.key(0))
    return release[np.arange(count)]
