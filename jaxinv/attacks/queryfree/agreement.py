"""Corrects what shadows answer by what images are known to be, and by where shadows agree. NumPy.

The mean of an image given its features is, on average over the features of a class, the mean image
of the class. So the mean of a shadow's answers to a stream is moved there, as far as it is further
away than by chance. Errors that shadows do not share show in that they disagree: in every direction
an answer keeps the share of its variance that the shadows agree on, as in a Wiener filter, and
loses the rest. Nothing is compared with an image that is attacked.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxinv.inputs.samples import Samples

SEEN = 500
"""Features of the stream that are answered, at most."""

_BYTES = 2**28  # of answers, and of images, at once
_TAUGHT = 4000  # images that tell the mean of classes, at most
_DIRECTIONS, _SPREAD = 128, 1000  # principal directions; images that tell them, at most
_EACH = 20  # features of a class, on average, or all are taken together
_BY_CHANCE = 2.0  # as far as this, in expected squared distances, a mean lies by chance


class Shares(NamedTuple):
    """Shares of answers' variance that shadows agree on.

    Attributes:
      inside: `[R]`, in each principal direction of images.
      outside: in all other directions.
    """

    inside: np.ndarray
    outside: float


class Agreement(NamedTuple):
    """What a stream tells of shadows.

    Attributes:
      answered: `[S, K + 1, D]`, the mean answer of each shadow to the features of each class, and
        last to all.
      centres: `[S, K + 1, D]`, where this mean is moved.
      has: `[K]`, whether a class has a mean of its own.
      directions: `[R, D]`, principal ones of images about the mean of their class.
      alone, together: shares of one shadow's answer, and of the mean of all.
    """

    answered: np.ndarray
    centres: np.ndarray
    has: np.ndarray
    directions: np.ndarray
    alone: Shares
    together: Shares


def seen(stream_shape: Sequence[int], image_shape: Sequence[int], shadows: int) -> int:
    """Returns how many features of a stream `[L, ...]` are answered."""
    largest = max(math.prod(stream_shape[1:]), shadows * math.prod(image_shape))
    return min(stream_shape[0], SEEN, max(2, _BYTES // (4 * largest)))


def measured(answers: np.ndarray, classes: np.ndarray, samples: Samples) -> Agreement:
    """Measures what shadows answer to a stream.

    Args:
      answers: `[S, L, *input_shape]`, finite.
      classes: `[L]`, what the cloud takes the features for.
      samples: the attacker's images; without labels all are of one class.
    """
    known = samples[: max(2, min(_TAUGHT, _BYTES // (4 * math.prod(answers.shape[2:]))))]
    taught = known.images.reshape(len(known), -1)
    flat = np.clip(answers, 0, 1).reshape(*answers.shape[:2], -1)
    count, labels = 0, classes[:0]
    if samples.has_labels and len(classes) >= _EACH * (1 + classes.max()):
        labels = known.labels
        count = 1 + int(max(classes.max(), labels.max()))
    of_images, of_answers = (
        _members(labels, len(known), count),
        _members(classes, len(classes), count),
    )
    means, numbers = _means(taught, of_images)
    answered = np.stack([_means(each, of_answers)[0] for each in flat])
    shown = of_answers.sum(axis=0)
    has = (numbers > 0) & (shown > 0)
    around = taught - means[labels if count else np.zeros(len(known), int)]
    chance = (around**2).sum(axis=1).mean() / np.maximum(np.stack([shown, numbers]), 1)
    apart = means[None] - answered
    far = np.maximum((apart**2).sum(axis=-1), 1e-12)
    moved = np.maximum(1 - _BY_CHANCE * chance.sum(axis=0) / far, 0)
    centres = answered + moved[..., None] * apart
    directions = _principal(around[:_SPREAD])
    shares = _agreed(flat - answered[:, _places(has[:-1], classes)], directions)
    return Agreement(answered, centres, has[:-1], directions, *shares)


def corrected(
    agreement: Agreement, answers: np.ndarray, classes: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Corrects answers.

    Args:
      agreement: what the stream told.
      answers: `[S, N, *input_shape]`.
      classes: `[N]`, what the cloud takes the features for.

    Returns:
      The answer of each shadow `[S, N, *input_shape]`, not finite where it was not, and that of all
      together `[N, *input_shape]`, without those that are not.
    """
    shape, places = answers.shape, _places(agreement.has, classes)
    alone = np.empty(shape, np.float32)
    joint = np.empty(shape[1:], np.float32)
    step = max(1, _BYTES // (4 * shape[0] * math.prod(shape[2:])))
    for begin in range(0, shape[1], step):
        rows = slice(begin, begin + step)
        part = answers[:, rows]
        flat = np.where(np.isfinite(part), np.clip(part, 0, 1), np.nan)
        flat = flat.reshape(shape[0], -1, math.prod(shape[2:]))
        centres = agreement.centres[:, places[rows]]
        apart = flat - agreement.answered[:, places[rows]]
        found = centres + np.stack([_kept(agreement, each, agreement.alone) for each in apart])
        alone[:, rows] = found.reshape(alone[:, rows].shape)
        finite = np.isfinite(flat).all(axis=-1, keepdims=True)
        number = np.where(finite.any(axis=0), finite.sum(axis=0), np.nan)
        mean = np.where(finite, apart, 0).sum(axis=0) / number
        centre = np.where(finite, centres, 0).sum(axis=0) / number
        together = centre + _kept(agreement, mean, agreement.together)
        joint[rows] = together.reshape(joint[rows].shape)
    return alone, joint


def _places(has: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """Returns the places of the means of classes `[N]`: the last for those that have none."""
    known = classes < len(has)
    known[known] = has[classes[known]]
    return np.where(known, classes, len(has))


def _members(classes: np.ndarray, count: int, several: int) -> np.ndarray:
    """Returns `[N, K + 1]`: which class each is of, and last a one for all."""
    own = np.eye(several, dtype=np.float32)[classes[: count * bool(several)]]
    return np.hstack([own.reshape(count, several), np.ones((count, 1), np.float32)])


def _means(rows: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the means of rows `[N, D]` by members `[N, K]`: `[K, D]`, and their numbers `[K]`."""
    numbers = members.sum(axis=0)
    return members.T @ rows / np.maximum(numbers, 1)[:, None], numbers


def _principal(rows: np.ndarray) -> np.ndarray:
    """Returns principal directions of centred rows `[N, D]`, with the largest variance first."""
    values, vectors = np.linalg.eigh(rows @ rows.T)
    kept = [
        place for place in np.argsort(-values)[:_DIRECTIONS] if values[place] > 1e-6 * values[-1]
    ]
    found = vectors[:, kept].T @ rows
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def _agreed(apart: np.ndarray, directions: np.ndarray) -> tuple[Shares, Shares]:
    """Returns the shares of variance that shadows agree on, in answers `[S, L, D]`."""
    inside = apart @ directions.T
    outside = apart - inside @ directions
    of_each = (inside**2).mean(axis=(0, 1)), np.array([(outside**2).sum(axis=-1).mean()])
    of_mean = (
        (inside.mean(axis=0) ** 2).mean(axis=0),
        np.array([(outside.mean(axis=0) ** 2).sum(axis=-1).mean()]),
    )
    shares = [_shares(*each, len(apart)) for each in zip(of_each, of_mean, strict=True)]
    (alone, together), (rest, rest_together) = shares
    return Shares(alone, float(rest[0])), Shares(together, float(rest_together[0]))


def _shares(each: np.ndarray, mean: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the shares of the variance of one, and of the mean of several, that all share."""
    if count == 1:
        return np.ones_like(each), np.ones_like(each)
    common = np.maximum((count * mean - each) / (count - 1), 0)
    alone, together = (np.minimum(common / np.maximum(own, 1e-12), 1) for own in (each, mean))
    return alone.astype(np.float32), together.astype(np.float32)


def _kept(agreement: Agreement, apart: np.ndarray, shares: Shares) -> np.ndarray:
    """Returns of rows `[N, D]` what the shadows agree on."""
    inside = apart @ agreement.directions.T
    change = inside * (shares.inside - shares.outside)[None]
    return change @ agreement.directions + shares.outside * apart
