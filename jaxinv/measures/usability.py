"""Usability of a network behind a defense: accuracy, or agreement with the undefended output. JAX.

Where labels tell what the output should be, it is the share of right answers. Elsewhere the
undefended network's own output is the measure: the share of images with the same top score where
the output is a vector of scores `[K]`, and else (embeddings, detections, maps) the mean cosine of
the two outputs, beside their relative error. A single value has a sign and no direction: there it
is the mean closeness, 1 - |a - b| / max(|a|, |b|), in [-1, 1].
"""

import functools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.defenses import Defense, release_levels
from jaxinv.machine import devices
from jaxinv.measures import intervals
from jaxinv.measures.intervals import Ends, Score, Share
from jaxinv.networks import Network, Params
from jaxinv.unit_space import Images

Kind = Literal["accuracy", "agreement", "cosine", "closeness"]

COMPARED = ("cosine", "closeness")
"""Kinds that compare outputs themselves, and not the classes that they tell."""


class Usability(NamedTuple):
    """Usability of a network, as measured.

    Attributes:
      kind: of measure.
      value: share of images, or the mean cosine or closeness.
      value_undefended: the same without a defense; 1 where the undefended output is the measure.
      interval: 95% of `value`; see `measures.intervals`.
      relative_error: mean norm of the difference of the outputs beside the undefended one's; of
        a cosine or closeness alone.
      scores: `[N]`, the cosine or closeness of each image, of these alone.
    """

    kind: Kind
    value: float | None
    value_undefended: float | None
    interval: Ends = Ends()
    relative_error: float | None = None
    scores: np.ndarray | None = None

    @property
    def fields(self) -> dict[str, Any]:
        """Returns the fields of a record: `usability`, `accuracy` and its relatives."""
        low, high = self.interval
        is_accuracy = self.kind == "accuracy"
        told: dict[str, Any] = {
            "kind": self.kind,
            "value": self.value,
            "value_undefended": self.value_undefended,
            "ci": [low, high],
        }
        if self.kind in COMPARED:
            told["relative_error"] = self.relative_error
            if self.scores is not None:
                told["scores"] = self.scores
        return {
            "usability": told,
            "accuracy": self.value if is_accuracy else None,
            "accuracy_undefended": self.value_undefended if is_accuracy else None,
            "accuracy_ci": [low, high] if is_accuracy else [None, None],
        }


def undefended(kind: Kind, accuracy: float | None, count: int) -> Usability:
    """Returns the usability of an undefended network, on so many images.

    Args:
      kind: of measure.
      accuracy: the share of right answers, where that is the measure; else it agrees with itself.
      count: number of images.
    """
    if accuracy is None:
        return Usability(kind, 1.0, 1.0, Ends(1.0, 1.0), 0.0 if kind in COMPARED else None)
    return Usability(kind, accuracy, accuracy, Share(accuracy, count).interval())


def at_confidence(told: Mapping[str, Any], count: int, confidence: float) -> dict[str, Any]:
    """Returns recorded usability with the interval of another confidence.

    Args:
      told: the field of a record, whose interval is of 95%.
      count: number of images.
      confidence: of the interval.
    """
    low, high = told["ci"]
    if confidence == intervals.CONFIDENCE or low is None or low == high:
        return dict(told)  # where the output is the measure, it agrees with itself for certain
    own = sample(told, count)
    return {**told, "ci": list(Ends() if own is None else own.interval(confidence))}


def sample(told: Mapping[str, Any], count: int) -> Share | Score | None:
    """Returns what recorded usability was measured on; None where an older version kept no scores.

    Args:
      told: the field of a record.
      count: number of images.
    """
    if told["kind"] in COMPARED:
        return intervals.score(told.get("scores", ()), least=-1, most=1)
    right = told["value"] * count
    return Share(told["value"], count, means=abs(right - round(right)) > 1e-6 * count)


class Scores(NamedTuple):
    """Usability image by image, `[..., N]`: a share, or a likeness with relative errors."""

    values: np.ndarray
    errors: np.ndarray | None = None

    def as_draw(self) -> "Scores":
        """Returns those of images `[N]` as those of one draw, `[1, N]`."""
        return Scores(self.values[None], None if self.errors is None else self.errors[None])

    @classmethod
    def perfect(cls, kind: Kind, count: int) -> "Scores":
        """Returns those of the undefended network where its own output is the measure."""
        errors = np.zeros(count) if kind in COMPARED else None
        return cls(np.ones(count, bool if kind == "agreement" else float), errors)


def kind_of(network: Network, num_classes: int) -> Kind:
    """Returns how usability of a network is measured.

    Args:
      network: the whole.
      num_classes: of the labels; 0 where there are none.
    """
    if len(network.wire.shapes) > 1:
        return "cosine"
    shape = network.output_shape
    if math.prod(shape) == 1:
        return "closeness"
    if num_classes and shape == (num_classes,):
        return "accuracy"
    return "agreement" if len(shape) == 1 and shape[0] >= 2 else "cosine"


def may_be_classes(network: Network, num_classes: int) -> bool:
    """Tells whether labels may be numbers of a network's outputs, of which it has more.

    Args:
      network: the whole.
      num_classes: of the labels; 0 where there are none.
    """
    if len(network.wire.shapes) > 1 or len(network.output_shape) != 1:
        return False
    return 2 <= num_classes < network.output_shape[0]


def summarise(kind: Kind, scores: Scores, undefended: float | None) -> Usability:
    """Summarises scores of images `[N]`, or of several draws `[draws, N]`."""
    by_image = np.asarray(scores.values, float)
    by_image = by_image.mean(axis=0) if by_image.ndim == 2 else by_image
    if kind in COMPARED:
        found = intervals.summarise_scores(by_image, least=-1, most=1)
        error = None if scores.errors is None else float(np.mean(scores.errors))
    else:
        found, error = intervals.summarise_share(by_image), None
    low, high = (None if np.isnan(end) else float(end) for end in (found.low, found.high))
    kept = by_image if kind in COMPARED else None
    return Usability(kind, float(found.mean), undefended, Ends(low, high), error, kept)


def scores(
    kind: Kind,
    parts: tuple[Network, Network],
    params: Params,
    images: Images,
    wanted: np.ndarray | None,
    family: Sequence[Defense],
    key: Array,
    *,
    whole: tuple[Network, Params],
) -> Scores:
    """Measures images behind each defense, `[L, N]`.

    The features are those of a `Release` of the images with this key, but for rounding. They never
    leave the device, and the edge is computed once for all defenses at its features.

    Args:
      kind: of measure.
      parts: edge and cloud.
      params: of both.
      images: `[N, H, W, C]` in unit space.
      wanted: `[N]`, the classes of the labels or of the undefended network; None for outputs.
      family: defenses that differ in their levels alone.
      key: of their randomness.
      whole: the undefended network and its parameters, with which outputs are compared.
    """
    edge, cloud = parts
    (structure,) = {defense.structure for defense in family}
    network, own = whole if kind in COMPARED else (None, {})
    found = devices.in_slices(
        _outcomes,
        np.arange(len(images), dtype=np.int32),
        images,
        static=(edge, cloud, structure, network),
        shared=(
            edge.select(params),
            cloud.select(params),
            own,
            key,
            np.stack([defense.levels for defense in family]),
        ),
    )
    if kind in COMPARED:
        return Scores(found[..., 0].T, found[..., 1].T)
    assert wanted is not None
    return Scores(np.equal(found.T, wanted))


def _outcomes(
    edge, cloud, structure, whole, edge_params, cloud_params, own, key, levels, places, images
):
    """Classes `[B, L]`, or likeness and relative error beside the undefended one `[B, L, 2]`."""
    then = _top if whole is None else functools.partial(_compared, _flat(whole.apply(own, images)))

    def found(features: Array) -> Array:
        return then(cloud.apply(cloud_params, features))

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
    released = release_levels(edge, structure, edge_params, keys, images, levels, found)
    return jnp.moveaxis(released, 0, 1)


def _top(outputs: Array) -> Array:
    return outputs.argmax(-1)


def _flat(outputs: Array) -> Array:
    return outputs.reshape(len(outputs), -1)


def _compared(reference: Array, outputs: Array) -> Array:
    """Cosine, or closeness of single values, and relative error `[B, 2]`.

    Outputs of zero agree with zero alone.
    """
    found = _flat(outputs)
    norm, other = (jnp.linalg.norm(each, axis=1) for each in (reference, found))
    product = (reference * found).sum(axis=1)
    both = norm * other
    cosine = jnp.where(both > 0, product / jnp.where(both > 0, both, 1), norm == other)
    apart = jnp.linalg.norm(found - reference, axis=1)
    error = apart / jnp.where(norm > 0, norm, 1)
    if found.shape[1] == 1:
        most = jnp.maximum(norm, other)
        cosine = 1 - apart / jnp.where(most > 0, most, 1)
    return jnp.stack([jnp.clip(cosine, -1, 1), error], axis=1)
