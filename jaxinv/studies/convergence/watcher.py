"""Follows each image of an attack on its way: PSNR, SSIM and misfit by step and second. JAX."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.attacks.inversion.loop import Snapshot
from jaxinv.inputs.columns import Columns
from jaxinv.machine.numbers import length
from jaxinv.measures import quality
from jaxinv.networks import Network, Params


class Watcher:
    """Follows each image of an attack: what it looks like after how many steps and seconds.

    It alone sees the originals, and the attack never sees it. Its own work is not in the seconds.

    Args:
      originals: `[N, H, W, C]` in unit space.
      features: `[N, ...]`, what the attack was given.
      edge, params: the part of the network on the device, and its parameters.
      columns: of series and rows of tables.
    """

    def __init__(
        self,
        originals: np.ndarray,
        features: np.ndarray,
        edge: Network,
        params: Params,
        columns: Columns | None = None,
    ) -> None:
        self._originals, self._features, self._columns = originals, features, columns
        self._edge, self._params = edge, edge.select(params)
        count = len(originals)
        self._seen: list[np.ndarray] = []  # rows: image, steps, seconds, PSNR, SSIM, misfit
        self._stage, self._waiting, self._before = -1, 0.0, 0.0
        self._began = np.full(count, np.nan)
        # Of the stages before: an image's seconds; the steps are the most that any image took.
        self._earlier_steps, self._earlier_seconds = 0, np.zeros(count)
        self._steps, self._seconds = [0], np.zeros(count)
        self._stage_starts: list[tuple[int, float]] = []

    def spend(self, seconds: float) -> None:
        """Adds what the stage to come costs before its first step, for all images together."""
        self._waiting += seconds

    def __call__(self, stage: int, seen: Snapshot) -> None:
        """Notes what is seen; see `rmle.invert`."""
        if stage != self._stage:
            self._begin(stage)
        places = np.flatnonzero(seen.indices >= 0)
        images = seen.indices[places]
        new = np.isnan(self._began[images])
        self._began[images[new]] = self._before
        self._before = seen.seconds
        # The places of a chunk share its time.
        own = (seen.seconds - self._began[images]) / len(seen.indices)
        self._seconds[images] = self._earlier_seconds[images] + own
        steps = self._earlier_steps + seen.steps[places]
        if steps.max() > self._steps[-1]:
            self._steps.append(int(steps.max()))
        # All places are measured, idle ones too, so that one program does.
        quality = [values[places] for values in self._measure(np.maximum(seen.indices, 0), seen.x)]
        self._seen.append(np.stack([images, steps, self._seconds[images], *quality]))

    def curves(self) -> dict[str, Any]:
        """Returns statistics over images at each number of steps.

        Between what was seen of an image values are interpolated, and after it they stay, so that
        images that ended early, or were attacked later than others, are in each. The first number
        of steps is the first at which all images were seen. Diverged images are in no statistic.

        Returns:
          `[T]` each: `steps`; `seconds`, that an image took until then: the share of its place in
          the time of its chunk, and of the time that the `estimate` of a stage took; `psnr_mean`
          (dB) and `psnr_low`, `psnr_high`, the quartiles; `ssim_mean`; `misfit_median` and
          `misfit_low`, `misfit_high`, the quartiles. And `stage_steps` and `stage_seconds`, where
          the stages after the first begin.
        """
        seen = np.concatenate(self._seen, axis=1)
        ways = [seen[1:, seen[0] == image] for image in range(len(self._originals))]
        first = max(steps[0] for steps, *_ in ways)
        grid = np.array([steps for steps in self._steps if steps >= first], float)
        table = np.array(
            [[np.interp(grid, steps, values) for values in rest] for steps, *rest in ways]
        )
        seconds, psnr, ssim, misfit = table.transpose(1, 0, 2)
        psnr_low, _, psnr_high = _quartiles(psnr)
        misfit_low, misfit_median, misfit_high = _quartiles(misfit)
        return {
            "steps": grid.astype(int),
            "seconds": seconds.mean(axis=0),
            "psnr_mean": _over_finite(np.mean, psnr),
            "psnr_low": psnr_low,
            "psnr_high": psnr_high,
            "ssim_mean": _over_finite(np.mean, ssim),
            "misfit_median": misfit_median,
            "misfit_low": misfit_low,
            "misfit_high": misfit_high,
            "stage_steps": [steps for steps, _ in self._stage_starts[1:]],
            "stage_seconds": [seconds for _, seconds in self._stage_starts[1:]],
        }

    def _begin(self, stage: int) -> None:
        self._stage, self._before = stage, 0.0
        self._began = np.full(len(self._originals), np.nan)
        self._stage_starts.append((self._steps[-1], float(self._seconds.mean())))
        self._earlier_steps = self._steps[-1]
        self._earlier_seconds = self._seconds + self._waiting / len(self._originals)
        self._waiting = 0.0

    def _measure(self, images: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, ...]:
        """PSNR in dB, SSIM and misfit of `x [B, H, W, C]`."""
        measured = quality.evaluate(self._originals[images], x, self._columns, chunk_size=len(x))
        misfit = relative_misfit(self._edge, self._params, x, self._features[images])
        return measured.psnr, measured.ssim, np.asarray(misfit)


@partial(jax.jit, static_argnums=0)
def relative_misfit(edge: Network, params: Params, x: jax.Array, observed: jax.Array) -> jax.Array:
    """`||f1(x) - v||^2 / ||v||^2`, `[B]`, of images `[B, H, W, C]` and features `v [B, ...]`."""
    observed = observed.reshape(len(observed), -1)
    difference = edge.apply(params, x).reshape(observed.shape) - observed
    # Behind a closed rectifier there may be nothing but zeros.
    size = length(observed, 1)
    return (length(difference, 1) / jnp.where(size == 0, 1, size)) ** 2


def _over_finite(statistic: Callable[[np.ndarray], Any], values: np.ndarray) -> np.ndarray:
    """`statistic` of the finite ones of each column of `values` `[N, T]`; NaN if there are none."""
    columns = (column[np.isfinite(column)] for column in values.T)
    return np.array([statistic(column) if column.size else np.nan for column in columns])


def _quartiles(values: np.ndarray) -> list[np.ndarray]:
    return [_over_finite(partial(np.percentile, q=q), values) for q in (25, 50, 75)]
