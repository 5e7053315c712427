"""Finished runs on TensorBoard: figures, curves and reconstructions. Standard library."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxinv.machine import tracking
from jaxinv.studies.evaluation import GRID_NAME

_FIGURES = (
    *("psnr_mean", "ssim_mean", "rmse_mean", "exact_fraction", "reid"),
    *("accuracy", "fit_s", "attack_s"),
)
_CURVES = ("psnr_mean", "ssim_mean", "misfit_median")


def tell(record: Mapping[str, Any]) -> None:
    """Adds a finished run to what `tracking` writes, if it does.

    A run with reconstructions has a track `<experiment>/<run_id>`: figures and their picture, at
    step 1. A study of convergence has a track below it for each method, by steps of the solver.

    Args:
      record: as it was written, and its `path`.
    """
    folder = Path(record["path"]).parent
    name = f"{record['experiment']}/{folder.name}"
    for method, curves in record.get("curves", {}).items():
        with tracking.track(f"{name}/{method}") as track:
            for place, step in enumerate(curves["steps"]):
                track.add(
                    _numbers({each: curves[each][place] for each in _CURVES if each in curves}),
                    int(step),
                )
    if (folder / GRID_NAME).is_file():
        with tracking.track(name) as track:
            track.add(_numbers({each: record.get(each) for each in _FIGURES}), 1)
            track.add_picture("reconstructions", folder / GRID_NAME)


def _numbers(values: Mapping[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}
