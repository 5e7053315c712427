"""rMLE about a trained map's answers, for a family of defenses at one edge. JAX.

The likelihood is that of the defense, and the prior the distribution of the map's errors on the
attacker's own images: one shape for all members, a size for each.
"""

import dataclasses
from collections.abc import Sequence
from functools import cached_property

import jax
import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.attack import EdgeKnown, Features, Reconstruction
from jaxinv.attacks.inversion import priors
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.whitebox import trials
from jaxinv.attacks.whitebox.settings import hybrid_settings
from jaxinv.attacks.whitebox.stage import Stage, run_stage
from jaxinv.defenses import Joined, Release, Structure
from jaxinv.unit_space import Images

# Weights of the total variation and of the prior at the end, to choose from. Where the data term
# is in standard deviations its mean is about 1, and so the prior's weight. Defended inputs are not
# smooth.
_NOISY = ((0.1, 3.0), (0.1, 1.0), (0.03, 0.3), (0.3, 0.3), (0.01, 0.1))
_EXACT = ((0.03, 0.03), (0.01, 0.01), (0.01, 0.001), (1e-3, 3e-5), (1e-5, 3e-7), (1e-3, 1e-3))
_INPUT = ((0.0, 0.1), (0.0, 0.01), (0.0, 0.001))
_STEPS, _TRIAL_STEPS, _CG_STEPS = 8, 6, 8  # at last, to choose by, and in each of them

# Of releases that the attacker makes of its own images, by use.
TRIALS, ERRORS, LESSONS = range(3)


@dataclasses.dataclass(frozen=True)
class DefendedEdge:
    """An edge behind a family of defenses, as an attacker runs it on images of its own.

    Attributes:
      known: the edge and the family.
      key: of the defenses' draws.
    """

    known: EdgeKnown
    key: Array

    @property
    def structure(self) -> Structure:
        return self.known.family[0].structure

    @property
    def at_input(self) -> bool:
        return any(site == "input" for _, site in self.structure)

    @cached_property
    def levels(self) -> np.ndarray:
        """Levels `[L, P]` of each member's steps, as releases combine."""
        return np.stack([each.combined(self.known.releases) for each in self.known.family])

    def keys(self, use: int) -> list[Array]:
        """Returns a key for each member."""
        key = jax.random.fold_in(self.key, use)
        return [jax.random.fold_in(key, member) for member in range(len(self.known.family))]

    def releases(self, images: Sequence[np.ndarray], use: int) -> list[Release]:
        """Returns what each member releases of its own images, by index."""
        known = self.known
        return [
            Release(known.edge, known.params, own, defense, key, releases=known.releases)
            for key, defense, own in zip(self.keys(use), known.family, images, strict=True)
        ]

    def inputs(self, images: np.ndarray, use: int) -> np.ndarray:
        """Returns what goes into the edge behind each member, `[L, N, H, W, C]`."""
        return np.stack(
            [
                defenses.defended_inputs(self.known.edge, images, defense, own)
                for defense, own in zip(self.known.family, self.keys(use), strict=True)
            ]
        )


def mapped(trained: TrainedMap, seen: Sequence[Features], members: Sequence[int]) -> np.ndarray:
    """Estimates the images of what some members released, all in one array."""
    return np.concatenate(
        [trained.of(member)(part) for member, part in zip(members, seen, strict=True)]
    )


@dataclasses.dataclass(frozen=True)
class Refinement:
    """rMLE about estimates.

    Attributes:
      defended: the edge behind its defenses.
      prior: distribution of the estimates' errors.
      sizes: `[L]`, weight of that prior for each member: a larger error is a weaker prior.
      weights: `[L, 2, 2]`, chosen for each member; None before the choice.
    """

    defended: DefendedEdge
    prior: priors.Gaussian
    sizes: np.ndarray
    weights: np.ndarray | None = None

    def run(
        self,
        seen: Sequence[Features],
        means: np.ndarray,
        members: Sequence[int],
        *,
        weights: np.ndarray | None = None,
        steps: int | None = None,
    ) -> Reconstruction:
        """Refines estimates of what some members released, all in one batch.

        Args:
          seen: features of each.
          means: `[N, H, W, C]`, the estimates, one after another.
          members: their numbers.
          weights: `[len(seen), 2, 2]`; by default those chosen.
          steps: of the solver; by default those of an attack.
        """
        known, structure = self.defended.known, self.defended.structure
        sizes = [len(part) for part in seen]
        if weights is None:
            assert self.weights is not None
            weights = self.weights[list(members)]
        settings = dataclasses.replace(
            hybrid_settings(),
            steps=steps or _STEPS,
            cg_steps=_CG_STEPS,
            box=not self.defended.at_input,
        )
        at_features = any(site == "feature" for _, site in structure)
        found = run_stage(
            known.edge,
            known.params,
            Joined(seen),
            Stage(settings, self.prior, structure=structure if at_features else ()),
            means,
            np.repeat(weights, sizes, axis=0),
            levels=np.repeat(self.defended.levels[list(members)], sizes, axis=0),
        )
        finite = np.isfinite(found.images).all(axis=(1, 2, 3), keepdims=True)
        return dataclasses.replace(found, images=np.where(finite, found.images, means))

    def chosen(
        self, seen: Sequence[Release], means: np.ndarray, trial: np.ndarray
    ) -> tuple["Refinement", np.ndarray]:
        """Chooses weights for each member on the trial images.

        Args:
          seen: what each member released of them.
          means: `[L N, H, W, C]`, their estimates.
          trial: `[N, H, W, C]`, the trial images.

        Returns:
          The refinement with its weights, and what it finds with them in fewer steps.
        """
        options, members = self._options(), range(len(seen))
        turns = len(options)

        def attack(means: np.ndarray | None, weights: np.ndarray) -> np.ndarray:
            assert means is not None
            return self.run(
                [*seen] * turns, means, [*members] * turns, weights=weights, steps=_TRIAL_STEPS
            ).images

        best = trials.choose(attack, options, means, trial)
        return dataclasses.replace(self, weights=options[best.options, members]), best.images

    def _options(self) -> np.ndarray:
        """Weights to choose from for each member, `[O, L, 2, 2]`."""
        at_input, noisy = self.defended.at_input, defenses.is_noisy(self.defended.structure)
        options = []
        for tv, prior in _INPUT if at_input else _NOISY if noisy else _EXACT:
            # Where the likelihood is right from the start, so are the weights.
            start = (tv, prior)
            if not noisy:
                start = (tv if at_input else max(tv, 0.1), max(prior, 0.03))
            rows = [np.array([start, (tv, prior)]) * [[1, size], [1, size]] for size in self.sizes]
            options.append(rows)
        return np.array(options, np.float32)


def learn_refinement(
    defended: DefendedEdge, trained: TrainedMap, taught: Images, held: np.ndarray, key: Array
) -> Refinement:
    """Learns how far a map's estimates are from what goes into the edge.

    Args:
      defended: the edge behind its defenses.
      trained: the map.
      taught: `[N, H, W, C]`, about which the edge's curvature is measured.
      held: images that taught the map nothing.
      key: of that measurement.
    """
    known, members = defended.known, range(len(defended.known.family))
    seen = defended.releases([held] * len(members), ERRORS)
    wanted = defended.inputs(held, ERRORS)
    errors = mapped(trained, seen, members).reshape(wanted.shape) - wanted
    variances = (errors**2).mean(axis=(1, 2, 3, 4)) + 1e-6
    shaped = errors / np.sqrt(variances).reshape(-1, 1, 1, 1, 1)
    covariance = priors.second_moment(shaped.reshape(-1, *held.shape[1:])) * variances.mean()
    curvature = priors.mean_curvature(known.edge, known.edge.select(known.params), taught, key)
    prior = priors.gaussian(np.zeros(held.shape[1:]), covariance, curvature)
    return Refinement(defended, prior, variances.mean() / variances)
