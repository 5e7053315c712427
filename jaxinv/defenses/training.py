"""Training as part of a defense: what is learned behind it, and with which loss. JAX.

A defense that is trained in is a mechanism with a `Training`. The target learns to live with it:
the loss of training is the task's cross-entropy plus the defense's own loss. The defense may put a
layer at the edge's end, which the cloud undoes, and may train helpers beside the target, such as
the decoder of an imagined attacker. Helpers are thrown away; layers are public, and every attacker
who knows the edge knows them.
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.errors import UsageError
from jaxinv.networks import Layer, Network, Params, arguments
from jaxinv.networks.insertion import insert

FIXED = "fixed of the defense"
"""Key of the parameters of a layer that training leaves as they are."""

MOST_MIXED = 4096
"""Channels or values of features that a layer mixes, at most."""


class Lesson(NamedTuple):
    """One batch of a training behind a defense.

    Attributes:
      images: `[B, *input_shape]` in unit space.
      labels: `[B]`.
      features: `[B, ...]` at the cut, before the defense's layer if it has one.
      clean: features `[B, ...]` at the edge's end, behind the defense's layer if it has one.
      released: features `[B, ...]` as they cross the wire.
      layer: parameters of that layer.
    """

    images: Array
    labels: Array
    features: Array
    clean: Array
    released: Array
    layer: Params


class Shapes(NamedTuple):
    """Shapes that a defense is made for.

    Attributes:
      image: of an input.
      features: of what crosses.
      classes: number of logits.
    """

    image: tuple[int, ...]
    features: tuple[int, ...]
    classes: int


@dataclasses.dataclass(frozen=True)
class Helpers:
    """Parameters that are trained beside the target, and thrown away.

    Attributes:
      init: `(key, Shapes) -> params`.
      loss: `(Lesson, params) -> scalar`, which the helpers alone minimise.
    """

    init: Callable[[Array, Shapes], Params]
    loss: Callable[[Lesson, Params], Array]


class Beginning(NamedTuple):
    """Features and slopes that a layer begins with.

    Attributes:
      features: `[N, ...]` at the cut, of the target's images.
      slopes: `[N, ...]`, the gradient by them of the logits in a mixture drawn for each image, with
        normal weights that add up to zero.
      level: of the defense.
    """

    features: Array
    slopes: Array
    level: Array


@dataclasses.dataclass(frozen=True)
class EdgeLayer:
    """A layer at the edge's end, and how the cloud undoes it.

    Attributes:
      init: `(key, Beginning) -> params`. What is under `FIXED` is not trained.
      encode: `(params, features [N, ...]) -> what crosses [N, ...]`, example by example.
      decode: `(params, what crosses [N, ...]) -> features [N, ...]`.
      mixes: whether it has a weight for each pair of "channels", or of "values" of an example; ""
        for neither.
    """

    init: Callable[[Array, Beginning], Params]
    encode: Callable[[Params, Array], Array]
    decode: Callable[[Params, Array], Array]
    mixes: Literal["", "channels", "values"] = ""


def no_loss(lesson: Lesson, helpers: Params, level: Array) -> Array:
    """Returns zero: the loss of a defense that is trained by the task alone."""
    del lesson, helpers
    return 0 * level


@dataclasses.dataclass(frozen=True)
class Training:
    """Part of training that a defense adds to that of the task.

    Attributes:
      loss: `(Lesson, helpers, level) -> scalar`, added to the task's loss. Helpers have no gradient
        from it.
      helpers: of the loss; None where it needs none.
      layer: at the edge's end; None where the network stays as it is.
      part: of the target that learns: "both" halves, or the "cloud" alone. The layer always does.
    """

    loss: Callable[[Lesson, Params, Array], Array] = no_loss
    helpers: Helpers | None = None
    layer: EdgeLayer | None = None
    part: Literal["cloud", "both"] = "both"


class Plan(NamedTuple):
    """A network with the layer of a defense.

    Attributes:
      network: the whole.
      cut: place where it is released: behind the layer, whose parameters have the same name.
      number: of the step that has the layer.
      layer: of the defense, or None.
    """

    network: Network
    cut: str
    number: int = 0
    layer: EdgeLayer | None = None

    def start(
        self,
        params: Params,
        features: np.ndarray,
        slopes: np.ndarray,
        levels: np.ndarray,
        key: Array,
    ) -> list[Params]:
        """Returns the parameters with which the training of each level begins.

        Args:
          params: of the target.
          features, slopes: as in `Beginning`, at the cut that was asked for.
          levels: `[L, P]`, of the steps.
          key: of what is drawn.
        """
        if self.layer is None:
            return [params] * len(levels)
        init = jax.jit(self.layer.init)
        seen = (jnp.asarray(features), jnp.asarray(slopes))
        own = [
            init(jax.random.clone(key), Beginning(*seen, jnp.float32(row[self.number])))
            for row in levels
        ]
        return [{**params, self.cut: each} for each in own]

    def layer_of(self, params: Params) -> Params:
        """Returns the parameters of the layer, none where there is no layer."""
        return params[self.cut] if self.layer else {}


def layer_at(structure: Any) -> int | None:
    """Returns the number of the step that ends the edge with a layer, or None.

    Args:
      structure: of a defense.

    Raises:
      UsageError: a step before it is at the features, there are several, or one clips them.
    """
    found = [
        number
        for number, (mechanism, _) in enumerate(structure)
        if mechanism.training and mechanism.training.layer
    ]
    if not found:
        return None
    kinds = "+".join(mechanism.name for mechanism, _ in structure)
    first = found[0]
    name = structure[first][0].name
    if len(found) > 1:
        other = structure[found[1]][0].name
        raise UsageError(
            f"defense={kinds}: expected one of {name} and {other}: each ends the edge."
        )
    if any(mechanism.name == "clip" and site == "feature" for mechanism, site in structure):
        raise UsageError(
            f"defense={kinds}: clip clips to the length of features, and {name} ends the edge with "
            "others; expected another beside it."
        )
    if any(site == "feature" for _, site in structure[:first]):
        raise UsageError(f"defense={kinds}: {name} ends the edge; expected it first.")
    return first


@functools.lru_cache(maxsize=64)  # the same each time: programs are kept for a network
def plan(network: Network, cut: str, structure: Any) -> Plan:
    """Puts the layer of a defense into a network.

    Args:
      network: the target.
      cut: a place of it.
      structure: of the defense.

    Raises:
      UsageError: a step before the layer changes the features, there are several layers, or the
        features have more channels than the layer can mix.
    """
    number = layer_at(structure)
    if number is None:
        return Plan(network, cut)
    mechanism = structure[number][0]
    layer = mechanism.training.layer
    shape = network.split(cut)[0].output_shape
    count = {"": 0, "channels": shape[-1], "values": math.prod(shape)}[layer.mixes]
    if count > MOST_MIXED:
        raise UsageError(
            f"split={cut}: has {count:,} {layer.mixes}, {mechanism.name} takes up to "
            f"{MOST_MIXED:,}."
        )
    taken = {taken.lower() for taken in network.all_cuts}
    name = arguments.free_name(arguments.safe_name(f"{cut}.{mechanism.name}"), taken)
    made = Layer(lambda key, x: layer.init(key, Beginning(x, x, jnp.float32(1))), layer.encode)
    return Plan(insert(network, cut, name, made, layer.decode), name, number, layer)
