"""White-box attackers who know the defence, for all of its levels at once. JAX.

What they know of a defence at the features is how likely it makes what they see (its residual);
of any defence, that they can run it on images of their own. An inverse map is trained on defended
releases; it is where rMLE with the right likelihood starts, with the distribution of its errors as
prior; a correction learns from what that makes of the attacker's images. What serves best is chosen
on images of the attacker's that taught nothing.

Behind a defence at the input rMLE looks for what went into the edge, the defended input, whose
distribution about the map's answer is known from the attacker's images; the correction learns what
the image was.
"""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.inversion import priors
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.learned.queries import check_images, divide
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.attacks.whitebox.rmle import Features
from jaxinv.attacks.whitebox.surrogate import affordable
from jaxinv.defenses import Defense, Release
from jaxinv.machine import source
from jaxinv.measures import quality
from jaxinv.networks import Network, Params
from jaxinv.store import checkpoints

FIT_STEPS = 1000
"""Of training the inverse map, and as many of the correction, unless told otherwise."""

KNOWLEDGE = "the edge's layers and parameters; the defence and its level; surrogate images"

WAYS = ("inverse map", "rMLE", "correction")

# Weights of the total variation and of the prior at the end, to choose from. Where the data term
# is in standard deviations its mean is about 1, and so the prior's weight. Defended inputs are not
# smooth.
_NOISY = ((0.1, 3.0), (0.1, 1.0), (0.03, 0.3), (0.3, 0.3), (0.01, 0.1))
_EXACT = ((0.03, 0.03), (0.01, 0.01), (0.01, 0.001), (1e-3, 3e-5), (1e-5, 3e-7), (1e-3, 1e-3))
_INPUT = ((0.0, 0.1), (0.0, 0.01), (0.0, 0.001))
_STEPS, _TRIAL_STEPS, _CG_STEPS = 8, 6, 8  # of rMLE: at last, to choose by, and in each of them
_TRIALS, _HELD = 24, 400  # images of each level: to choose by, and to tell errors by
_TRIAL_ACTIVATIONS = 3_000_000
_TAUGHT_ACTIVATIONS, _TAUGHT = 40_000_000, (200, 4000)  # of attacks that a correction learns from


class Reconstruction(NamedTuple):
    """What an attack returns, in the order of the defences.

    Attributes:
      images: for each defence `[N, H, W, C]` NumPy, in unit space but not clipped to it.
      ways: for each, of `WAYS`, how they were found.
      compile_seconds, seconds: wall time of all of them.
    """

    images: list[np.ndarray]
    ways: list[str]
    compile_seconds: float
    seconds: float


class Attack:
    """What was learned of defences that differ in their levels alone, by `learn`.

    Attributes:
      ways: for each defence, of `WAYS`, what serves best.
      quality: for each, mean PSNR in dB of every way on images held out; of rMLE, and of what is
        made of it, after the fewer steps of a trial.
      fit_seconds: wall time of learning, compilation included.
    """

    def __init__(
        self, edge, params, images, family, key, releases, fit_steps, correct, folder, label
    ):
        began = time.perf_counter()
        self._edge, self._params = edge, edge.select(params)
        self._family, self._releases, self._label = list(family), releases, label
        self._levels = np.stack([defense.combined(releases) for defense in family])
        self._structure = family[0].structure
        self._at_input = any(site == "input" for _, site in self._structure)
        keys = inverse.split_key(key)
        self._key_release, key_correction = jax.random.split(keys.correction)
        taught, held, num_queries = divide(images, inverse.NUM_QUERIES)
        self._map = inverse.learn(
            defenses.query_family(edge, params, family, releases=releases),
            taught,
            key=keys.inverse,
            num_queries=num_queries,
            steps=fit_steps,
            family=len(family),
            folder=folder,
            label=label,
        )
        earlier = self._map.seconds + self._map.compile_seconds - (time.perf_counter() - began)
        count = min(affordable(edge, _TRIAL_ACTIVATIONS, (8, _TRIALS)), -(-len(held) // 2))
        trial, rest = held[-count:], held[: len(held) - count]
        self._correction: inverse.Learned | None = None
        seen = self._release([trial] * len(family), 0)
        found = [self._mapped(seen)]
        # The mean of what several inputs led to is of no single one.
        if releases == 1 or not self._at_input:
            self._prepare(taught, rest[:_HELD], keys.curvature)
            found.append(self._choose(seen, found[0], trial))
        if correct and len(found) > 1:
            size = affordable(edge, _TAUGHT_ACTIVATIONS, _TAUGHT)
            self._learn_correction(taught[:size], key_correction, fit_steps, folder)
            found.append(self._corrected(seen, found[0], found[1]))
        scores = np.array([quality.scores(trial, images) for images in found])
        self.quality = [dict(zip(WAYS, row.tolist(), strict=False)) for row in scores.T]
        self._best = scores.argmax(axis=0)
        self.ways = [WAYS[best] for best in self._best]
        self.fit_seconds = time.perf_counter() - began + max(0.0, earlier)

    def invert(self, features: Sequence[Features]) -> Reconstruction:
        """Reconstructs inputs from what each of the defences released.

        Args:
          features: for each defence `[N, *edge.output_shape]`, an array or a `Release` with as many
            releases as were learned from.
        """
        seen, began, compile_seconds = list(features), time.perf_counter(), 0.0
        found = [self._mapped(seen)]
        if self._best.max() > 0:
            refined = self._refined(seen, found[0], self._weights)
            compile_seconds = refined.compile_seconds
            found.append(refined.images)
        if self._best.max() > 1:
            found.append(self._corrected(seen, found[0], found[1]))
        ends = np.cumsum([len(part) for part in seen])[:-1]
        each = [np.split(images, ends) for images in found]
        images = [each[way][number] for number, way in enumerate(self._best)]
        seconds = time.perf_counter() - began - compile_seconds
        return Reconstruction(images, self.ways, compile_seconds, seconds)

    def _release(self, images: Sequence[np.ndarray], number: int) -> list[Release]:
        """What each defence makes of images of one's own."""
        return [
            Release(self._edge, self._params, own, defense, key, releases=self._releases)
            for key, defense, own in zip(self._keys(number), self._family, images, strict=True)
        ]

    def _keys(self, number: int) -> list[Array]:
        key = jax.random.fold_in(self._key_release, number)
        return [jax.random.fold_in(key, i) for i in range(len(self._family))]

    def _mapped(self, seen: Sequence[Features]) -> np.ndarray:
        return np.concatenate([self._map.of(i)(part) for i, part in enumerate(seen)])

    def _prepare(self, taught: np.ndarray, held: np.ndarray, key: Array) -> None:
        """The prior of the map's errors: one shape for all levels, a size for each."""
        seen = self._release([held] * len(self._family), 1)
        wanted = np.stack(
            [
                defenses.defended_inputs(self._edge, held, defense, own)
                for defense, own in zip(self._family, self._keys(1), strict=True)
            ]
        )
        errors = self._mapped(seen).reshape(wanted.shape) - wanted
        variances = (errors**2).mean(axis=(1, 2, 3, 4)) + 1e-6
        shaped = errors / np.sqrt(variances).reshape(-1, 1, 1, 1, 1)
        covariance = priors.second_moment(shaped.reshape(-1, *held.shape[1:])) * variances.mean()
        curvature = priors.mean_curvature(self._edge, self._params, taught, key)
        self._prior = priors.gaussian(np.zeros(held.shape[1:]), covariance, curvature)
        # A larger error is a weaker prior.
        self._sizes = variances.mean() / variances

    def _options(self) -> np.ndarray:
        """`[O, L, 2, 2]`: weights to choose from, for each level."""
        noisy = defenses.is_noisy(self._structure)
        options = []
        for tv, prior in _INPUT if self._at_input else _NOISY if noisy else _EXACT:
            # Where the likelihood is right from the start, so are the weights.
            start = (tv, prior)
            if not noisy:
                start = (tv if self._at_input else max(tv, 0.1), max(prior, 0.03))
            rows = [np.array([start, (tv, prior)]) * [[1, size], [1, size]] for size in self._sizes]
            options.append(rows)
        return np.array(options, np.float32)

    def _choose(self, seen: list[Release], means: np.ndarray, trial: np.ndarray) -> np.ndarray:
        """Chooses weights for each level; returns what they lead to, `[L N, H, W, C]`."""
        options = self._options()
        count = len(options)
        refined = self._refined(
            seen * count,
            np.tile(means, (count, 1, 1, 1)),
            options.reshape(-1, 2, 2),
            steps=_TRIAL_STEPS,
        )
        images = refined.images.reshape(count, len(means), *means.shape[1:])
        scores = np.array([quality.scores(trial, row) for row in images])
        best = scores.argmax(axis=0)
        levels = np.arange(len(best))
        self._weights = options[best, levels]
        each = images.reshape(count, len(best), -1, *means.shape[1:])
        return each[best, levels].reshape(means.shape)

    def _refined(
        self,
        seen: Sequence[Features],
        means: np.ndarray,
        weights: np.ndarray,
        *,
        steps: int | None = None,
    ) -> whitebox.Reconstruction:
        """rMLE of all levels in one batch; `weights [len(seen), 2, 2]`, the levels in turn."""
        sizes = [len(part) for part in seen]
        turns = len(seen) // len(self._family)
        settings = dataclasses.replace(
            whitebox.hybrid_settings(),
            steps=steps or _STEPS,
            cg_steps=_CG_STEPS,
            box=not self._at_input,
        )
        features_alone = any(site == "feature" for _, site in self._structure)
        stage = whitebox.Stage(
            settings, self._prior, structure=self._structure if features_alone else ()
        )
        found = whitebox.run_stage(
            self._edge,
            self._params,
            defenses.Joined(seen),
            stage,
            means,
            np.repeat(weights, sizes, axis=0),
            levels=np.repeat(np.tile(self._levels, (turns, 1)), sizes, axis=0),
        )
        finite = np.isfinite(found.images).all(axis=(1, 2, 3), keepdims=True)
        return found._replace(images=np.where(finite, found.images, means))

    def _learn_correction(
        self, images: np.ndarray, key: Array, steps: int, folder: Path | None
    ) -> None:
        """Every level has its share of the images."""
        count = len(self._family)
        own = [images[i::count] for i in range(count)]
        seen = self._release(own, 2)
        mapped = self._mapped(seen)
        refined = self._refined(seen, mapped, self._weights).images
        originals, features = np.concatenate(own), defenses.Joined(seen)[np.arange(len(images))]
        which = self._which(seen)
        known = {
            "originals": originals,
            "found": refined,
            "mapped": mapped,
            "features": features,
            "which": which,
            "key": jax.random.key_data(key),
            "steps": steps,
            "code": source.digest(__name__),
        }
        self._correction = inverse.fit_correction(
            originals,
            self._to_correct(mapped, refined),
            features,
            key=key,
            which=which,
            steps=steps,
            checkpoint=folder
            and folder / f"{self._label}-{checkpoints.fingerprint(known)}-correction.safetensors",
            description=f"correction {self._label}",
        )

    def _corrected(
        self, seen: Sequence[Features], mapped: np.ndarray, refined: np.ndarray
    ) -> np.ndarray:
        assert self._correction is not None
        features: Any = defenses.Joined(seen)
        found = self._to_correct(mapped, refined)
        return np.clip(self._correction(*found, features, self._which(seen)), 0, 1)

    def _to_correct(self, mapped: np.ndarray, refined: np.ndarray) -> list[np.ndarray]:
        """What is corrected, and what helps: a defended input is no nearer than the map's image."""
        return [mapped, refined] if self._at_input else [refined, mapped]

    def _which(self, seen: Sequence[Features]) -> np.ndarray:
        return np.repeat(np.eye(len(seen), dtype=np.float32), [len(part) for part in seen], axis=0)


def learn(
    edge: Network,
    params: Params,
    images: np.ndarray,
    family: Sequence[Defense],
    *,
    key: Array,
    releases: int = 1,
    fit_steps: int = FIT_STEPS,
    correct: bool = True,
    folder: Path | None = None,
    label: str = "edge",
) -> Attack:
    """Learns an attack on an edge behind defences that differ in their levels alone.

    Args:
      edge: the part of the network on the device.
      params: its parameters.
      images: `[N, H, W, C]`, the attacker's own.
      family: the defences.
      key: of all randomness.
      releases: of one input, which the attacker combines.
      fit_steps: of training the inverse map, and the correction.
      correct: whether to learn a correction. That takes longer than all else.
      folder: keeps what is trained, named by all that it depends on: it is read where it is
        complete, and gone on with where its training was killed. None keeps nothing.
      label: of the edge, for people.

    Raises:
      UserError: there are too few images.
    """
    check_images("an adaptive attacker", len(images))
    return Attack(edge, params, images, family, key, releases, fit_steps, correct, folder, label)
