"""Corrects what shadows answer by what images are known to be, and by where shadows agree. NumPy.

By the law of total expectation, the mean of an image given its features is, on average over the
features of a class, the mean image of the class. So the mean of a shadow's answers to a stream is
moved there, as far as it is further away than by chance. Where shadows disagree, their errors are
their own. So in every direction an answer is scaled by the share of its variance that the shadows
agree on, as a Wiener filter does. Maps scale down what they are unsure of, too; answers vary less
than images do there, and are scaled down by so much less. No attacked image is compared with.
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
_BY_CHANCE = 2.0  # squared distances of means, over the expected one, that chance explains


class Scales(NamedTuple):
    """Factors of what answers differ by from the mean of their class, 1 at most.

    Attributes:
      inside: `[R]`, in each principal direction of images.
      outside: in all other directions.
    """

    inside: np.ndarray
    outside: float


class Agreement(NamedTuple):
    """Facts about shadows that a stream tells.

    Attributes:
      answered: `[S, K + 1, D]`, the mean answer of each shadow to the features of each class, and
        last to all.
      centres: `[S, K + 1, D]`, where this mean is moved.
      has: `[K]`, whether a class has a mean of its own.
      directions: `[R, D]`, principal ones of images about the mean of their class.
      alone, together: scales of one shadow's answer, and of the mean of all.
    """

    answered: np.ndarray
    centres: np.ndarray
    has: np.ndarray
    directions: np.ndarray
    alone: Scales
    together: Scales


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
    of_images = _members(labels, len(known), count)
    of_answers = _members(classes, len(classes), count)
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
    answers_around = flat - answered[:, _places(has[:-1], classes)]
    scales = _scales(answers_around, around, directions)
    return Agreement(answered, centres, has[:-1], directions, *scales)


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
        found = centres + np.stack([_scaled(agreement, each, agreement.alone) for each in apart])
        alone[:, rows] = found.reshape(alone[:, rows].shape)
        finite = np.isfinite(flat).all(axis=-1, keepdims=True)
        number = np.where(finite.any(axis=0), finite.sum(axis=0), np.nan)
        mean = np.where(finite, apart, 0).sum(axis=0) / number
        centre = np.where(finite, centres, 0).sum(axis=0) / number
        together = centre + _scaled(agreement, mean, agreement.together)
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


def _scales(
    answers: np.ndarray, images: np.ndarray, directions: np.ndarray
) -> tuple[Scales, Scales]:
    """Returns the scales of one answer and of the mean of all.

    Args:
      answers: `[S, L, D]`, less the mean answers of their classes.
      images: `[N, D]`, less the means of their classes.
      directions: `[R, D]`.
    """
    (inside, outside), (mean_inside, mean_outside), (of_images, others) = (
        _variances(rows, directions) for rows in (answers, answers.mean(axis=0), images)
    )
    found = [
        Scales(
            _scale(inside, mean_inside, of_images, len(answers), together),
            float(_scale(outside, mean_outside, others, len(answers), together)),
        )
        for together in (False, True)
    ]
    return found[0], found[1]


def _variances(rows: np.ndarray, directions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns the variances of rows `[..., D]` in each direction, and in all others together."""
    inside = rows @ directions.T
    outside = ((rows - inside @ directions) ** 2).sum(axis=-1).mean()
    return (inside**2).reshape(-1, len(directions)).mean(axis=0), outside


def _scale(
    each: np.ndarray, mean: np.ndarray, images: np.ndarray, count: int, together: bool
) -> np.ndarray:
    """Returns scales, of variances of single answers, of their mean over shadows, and of images."""
    if count == 1:
        return np.ones_like(each)
    own = np.maximum(mean if together else each, 1e-12)
    agreed = np.maximum((count * mean - each) / (count - 1), 0) / own
    return np.minimum(agreed * np.maximum(np.sqrt(images / own), 1), 1).astype(np.float32)


def _scaled(agreement: Agreement, apart: np.ndarray, scales: Scales) -> np.ndarray:
    """Returns rows `[N, D]`, scaled in every direction."""
    inside = apart @ agreement.directions.T
    change = inside * (scales.inside - scales.outside)[None]
    return change @ agreement.directions + scales.outside * apart
