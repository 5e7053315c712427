"""Sparse coding (Dibbo et al. 2024, SCA): codes of the features in a learned dictionary cross.

Codes minimise `|z - D a|^2 / 2 + t |a|_1` over `a >= 0`, for the channels of each place. The paper
has the locally competitive algorithm; here it is fast iterative shrinkage (Beck & Teboulle 2009),
which comes as near in fewer steps. The cloud takes `D a`. The dictionary has twice as many atoms as
there are channels, begins with features of the target's images, and learns to explain them.
"""

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.defenses.mechanism import Mechanism, unchanged, unchanged_residual
from jaxinv.defenses.training import FIXED, Beginning, EdgeLayer, Lesson, Training
from jaxinv.machine.numbers import widened
from jaxinv.networks import Params

_STEPS = 10
_ATOMS = 2  # for each channel


def _init(key: Array, beginning: Beginning) -> Params:
    features, level = beginning.features, beginning.level
    channels = features.shape[-1]
    rows = widened(features).reshape(-1, channels)
    lengths = jnp.linalg.norm(rows, axis=1)
    key_rows, key_noise = jax.random.split(key)
    likely = jnp.where(lengths > 0, 1.0, 1e-6)
    chosen = jax.random.choice(key_rows, len(rows), (_ATOMS * channels,), p=likely / likely.sum())
    spread = 0.1 * jnp.maximum(lengths.mean(), 1e-6) / channels**0.5
    noise = spread * jax.random.normal(key_noise, (_ATOMS * channels, channels))
    return {"atoms": rows[chosen] + noise, FIXED: {"threshold": level * lengths.mean()}}


def atoms(params: Params) -> Array:
    """Returns the dictionary `[atoms, channels]`, of rows of length 1."""
    rows = params["atoms"]
    return rows / jnp.maximum(jnp.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def codes(params: Params, features: Array) -> Array:
    """Returns sparse codes `[..., atoms]` of features `[..., channels]`."""
    rows, threshold = atoms(params), params[FIXED]["threshold"]
    between = jnp.matmul(rows, rows.T, precision="highest")
    step = 1 / jnp.max(jnp.abs(between).sum(axis=1))  # at most 1 / the largest eigenvalue
    flat = features.reshape(-1, features.shape[-1])  # one product of matrices each time
    wanted = jnp.matmul(flat, rows.T, precision="highest") - threshold

    code = ahead = jnp.zeros(wanted.shape, jnp.float32)
    pace = 1.0
    for _ in range(_STEPS):
        slope = wanted - jnp.matmul(ahead, between, precision="highest")
        before, code = code, jax.nn.relu(ahead + step * slope)
        last, pace = pace, (1 + (1 + 4 * pace**2) ** 0.5) / 2
        ahead = code + (last - 1) / pace * (code - before)
    return code.reshape(*features.shape[:-1], len(rows))


def _decode(params: Params, crossing: Array) -> Array:
    return jnp.matmul(crossing, atoms(params), precision="highest")


def unexplained(lesson: Lesson) -> Array:
    """Computes the share of the features' squares that the codes leave unexplained."""
    left = lesson.features - _decode(lesson.layer, lesson.clean)
    return jnp.sum(left**2) / jnp.maximum(jnp.sum(lesson.features**2), 1e-6)


def _loss(lesson: Lesson, helpers: Params, level: Array) -> Array:
    del helpers, level
    return unexplained(lesson)


SCA = Mechanism(
    "sca",
    unchanged,
    unit="threshold of the codes, in mean lengths of the features at a place",
    source="Dibbo et al. 2024, sparse coding architectures",
    sweep=(0.0, 0.05, 0.1, 0.2, 0.4),
    random=False,
    residual=unchanged_residual,
    training=Training(_loss, layer=EdgeLayer(_init, codes, _decode, mixes="channels")),
)
