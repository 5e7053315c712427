"""Attackers whose shadows stand in for the edge (He, Zhang & Lee 2021, Eqs. 3-5). JAX.

The attacker runs the cloud and has images of the same kind, which may be labelled. It may not query
the edge and knows nothing of its layers.
"""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np

from jaxinv import defenses
from jaxinv.attacks.attack import CloudKnown, Features, LearnedAttack, Reconstruction
from jaxinv.attacks.queryfree.design import design
from jaxinv.attacks.queryfree.shadow import Shadows
from jaxinv.constants.threats import SHADOW
from jaxinv.defenses import Defense
from jaxinv.networks import Network
from jaxinv.unit_space import Images

_FAR = 6.0  # standard deviations, which noise does not reach
SEEN = 500  # features and images that tell of all, at most
_BYTES = 2**28  # of these features


@dataclasses.dataclass(frozen=True)
class ShadowedEdge(LearnedAttack):
    """Attacker who inverts each of its shadows.

    Attributes:
      shadows: what stands in for the edge.
      inverters: of each shadow, a function from features to a reconstruction.
      fit_seconds: wall time of all training, compilation included.
      correct: answers `[S, N, ...]` and their features -> the answers of each shadow and of all
        together, as `agreement.corrected` returns them; None leaves them as they are.
    """

    shadows: Shadows
    inverters: Sequence[Callable[[Features], Reconstruction]]
    fit_seconds: float
    correct: Callable[[np.ndarray, Features], tuple[np.ndarray, np.ndarray]] | None = None

    def invert(self, observed: Features, member: int = 0) -> Reconstruction:
        """Reconstructs inputs, by each shadow and by all together."""
        del member
        defenses.check_features(observed, self.shadows.network.output_shape, name="observed")
        found = [inverted(observed) for inverted in self.inverters]
        images = np.stack([each.images for each in found])
        dead = [each.dead for each in found if each.dead is not None]
        info = {
            "shadow_layers": list(self.shadows.network.cuts),
            "shadow_accuracy": self.shadows.accuracy and list(self.shadows.accuracy),
        }
        began = time.perf_counter()
        joint = _mean_of_finite(np.clip(images, 0, 1))
        ways = {"joint": joint}
        if self.correct is not None:
            ways["uncorrected"] = joint
            images, ways["joint"] = self.correct(images, observed)
        if len(images) > 1:
            ways |= {f"{SHADOW}{number}": own for number, own in enumerate(images)}
        seconds = time.perf_counter() - began
        return Reconstruction(
            images,
            sum(each.seconds for each in found) + seconds,
            sum(each.compile_seconds for each in found),
            self.fit_seconds,
            info,
            joint=ways["joint"],
            ways=ways if len(ways) > 1 else {},
            dead=np.stack(dead) if dead else None,
        )

    def believed(self, images: Images) -> np.ndarray:
        """Returns what each shadow makes of images, `[S, G, ...]`."""
        return self.shadows.features(images)


def _mean_of_finite(images: np.ndarray) -> np.ndarray:
    """The mean over shadows, `[S, N, ...]` to `[N, ...]`, without those that diverged, if any did
    not.
    """
    finite = np.isfinite(images).all(axis=tuple(range(2, images.ndim)), keepdims=True)
    total = np.where(finite, images, 0).sum(axis=0)
    count = finite.sum(axis=0)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan).astype(np.float32)


def look_rectified(stream: Features, defense: Defense) -> bool:
    """Returns whether features are never negative, but for the noise of a defense that is known."""
    fits = max(1, _BYTES // (4 * math.prod(stream.shape[1:])))
    seen = stream[np.arange(min(SEEN, fits, len(stream)))]
    if not defenses.is_noisy(defense.structure):
        return bool((seen >= 0).all())
    zeros = jnp.zeros_like(seen)
    levels = jnp.broadcast_to(jnp.asarray(defense.levels), (len(seen), len(defense.steps)))
    # In standard deviations, above what was observed.
    below = defenses.residual(defense.structure, zeros, zeros, jnp.asarray(seen), levels)
    return bool((below < _FAR).all())


def designed(known: CloudKnown, *, rectified: bool, width: int, authors: bool = False) -> Network:
    """Designs a shadow from what the attacker sees of features, and the colours of its images.

    Args:
      known: the cloud, and the images.
      rectified: whether features are never negative.
      width: number of filters of the first layer.
      authors: whether grey pixels are normalised by the authors' constants: lambda is in units of
        normalised pixels.
    """
    images = known.samples[:SEEN].images
    mean, std = images.mean(axis=(0, 1, 2)), images.std(axis=(0, 1, 2)) + 1e-3
    if authors and images.shape[-1] == 1:
        mean, std = np.array([0.5]), np.array([0.5])
    if known.normalization is not None:
        mean, std = (np.asarray(values) for values in known.normalization)
    return design(
        images.shape[1:],
        known.cloud.input_shape,
        rectified=rectified,
        mean=mean.tolist(),
        std=std.tolist(),
        width=width,
    )
