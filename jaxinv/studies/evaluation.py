"""From an attack to its record: what was attacked, what was recovered, and at what cost. NumPy.

The fields are those of every attack's `record.json`, in base units: dB, seconds, shares in [0, 1].
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxinv.constants import kinds, paper
from jaxinv.constants.verdicts import GALLERY
from jaxinv.errors import DamagedError, UserError
from jaxinv.inputs.columns import Columns
from jaxinv.inputs.data import Dataset
from jaxinv.inputs.samples import Samples
from jaxinv.look import pictures
from jaxinv.machine import hosts
from jaxinv.measures import closeness, costs, crossed, intervals, leaks, linkage, quality, verdicts
from jaxinv.measures.intervals import Share
from jaxinv.measures.leaks import PSNR, SSIM
from jaxinv.store import records, similarity
from jaxinv.store.fields import level_text
from jaxinv.store.record import title_of

if TYPE_CHECKING:
    from jaxinv.training.targets import Target

GRID_NAME = "grid.png"
_KEPT_IMAGES = 64  # in images.npz, from the first


def quality_fields(
    originals: np.ndarray,
    reconstructions: np.ndarray,
    columns: Columns | None = None,
    *,
    shadows: bool = False,
) -> dict[str, Any]:
    """Per-image quality and its summary; diverged images are counted and in no mean.

    Args:
      originals: `[N, H, W, C]` in unit space.
      reconstructions: `[N, H, W, C]`, or `[S, N, H, W, C]` by S attackers that differ in nothing
        but their seeds, or of S releases: then the quality of an image is the mean over them.
      columns: of series and rows of tables; None for images.
      shadows: whether it is attackers who differ. Each is the same for all images, so that the
        interval is over attackers and images (`measures.crossed`); releases are drawn for each
        image by itself, and the interval over images holds their spread.

    Returns:
      `psnr [N]` and `psnr_mean`, `_std`, `_median`, `_ci` (95% interval of the mean; see
      `intervals`), the same for `ssim`, `mse [N]`, `exact_fraction` and `diverged`, the number of
      non-finite images (for any attacker). Of several attackers also `psnr_by_seed [S]`, the mean
      of each over images that did not diverge for it, and `psnr_seed_std`, their standard deviation
      (NaN of one); and the same for `ssim`. Of series and tables `ssim` is the correlation; in
      place of `exact_fraction` there are `rmse [N]` in shares of the range, its `_mean` and `_ci`,
      and `rmse_by_column [C]` in the columns' units.
    """
    several = reconstructions.ndim == originals.ndim + 1
    tries = reconstructions if several else reconstructions[None]
    qualities = [quality.evaluate(originals, found, columns) for found in tries]
    measured = quality.Quality(*(np.stack(values) for values in zip(*qualities, strict=True)))
    diverged = np.asarray(measured.diverged.any(axis=0))
    fields: dict[str, Any] = {}
    for name, leak in (("psnr", PSNR), ("ssim", SSIM)):
        values: np.ndarray = getattr(measured, name)
        # NaN where an attacker diverged.
        by_image = values.mean(axis=0)
        by_seed = np.array([intervals.summarise(row).mean for row in values])
        summary = leak.summarise(by_image)
        interval: tuple[float | None, ...] = summary[3:]
        if shadows:
            interval = leak.over_shadows(by_seed, by_image)
        fields |= {
            f"{name}_mean": summary.mean,
            f"{name}_std": summary.std,
            f"{name}_median": summary.median,
            f"{name}_ci": list(interval),
        }
        if several:
            spread = float(by_seed.std(ddof=1)) if len(by_seed) > 1 else float("nan")
            fields |= {f"{name}_by_seed": by_seed, f"{name}_seed_std": spread}
    error = (np.clip(tries, 0, 1) - originals).astype(np.float64) ** 2
    mse = error.mean(axis=(0, *range(2, error.ndim)))
    if columns is None:
        fields["exact_fraction"] = float(measured.exact.mean())
    else:
        fields |= _vector_fields(originals, tries, diverged, columns)
    return fields | {
        "diverged": int(diverged.sum()),
        "psnr": measured.psnr.mean(axis=0),
        "ssim": measured.ssim.mean(axis=0),
        "mse": np.where(diverged, np.nan, mse),
    }


def _vector_fields(
    originals: np.ndarray, tries: np.ndarray, diverged: np.ndarray, columns: Columns
) -> dict[str, Any]:
    """Returns the root mean squared errors of series or rows: of each, and of each column."""
    errors = np.mean([closeness.rmse(originals, found) for found in tries], axis=0)
    errors = np.where(diverged, np.nan, errors)
    summary = intervals.summarise_scores(errors, least=0.0, most=1.0)
    kept = [closeness.rmse_by_column(originals[~diverged], x[~diverged], columns) for x in tries]
    by_column = np.mean(kept, axis=0) if not diverged.all() else np.full(len(columns.names), np.nan)
    return {
        "rmse_mean": summary.mean,
        "rmse_ci": list(summary[3:]),
        "rmse": errors,
        "rmse_by_column": by_column,
    }


def reidentification_fields(
    reconstructions: np.ndarray, test: Samples, *, shadows: bool = False
) -> dict[str, Any]:
    """Counts how often a reconstruction tells its original (`linkage.reidentified`).

    Args:
      reconstructions: `[N, H, W, C]`, or `[S, N, H, W, C]`, of the first N test images; not more
        than the first 1,000 are looked at.
      test: the test split.
      shadows: as for `quality_fields`.

    Returns:
      `reid_top1`, a share; `reid_top1_ci`, its exact 95% limits over images, or the interval over
      attackers and images where that reaches further; and `reid_gallery`, among how many images.
    """
    gallery = test[:GALLERY].scaled
    several = reconstructions.ndim == gallery.ndim + 1
    tries = reconstructions if several else reconstructions[None]
    found = [linkage.reidentified(images[:GALLERY], gallery) for images in tries]
    by_image = np.mean(found, axis=0)
    summary = intervals.summarise_share(by_image)
    low, high = summary.low, summary.high
    if shadows and len(found) > 1:
        share = Share(summary.mean, len(by_image), means=True)
        wide = crossed.widened(share, np.mean(found, axis=1), least=0.0, most=1.0)
        low, high = min(low, wide.low or 0.0), max(high, wide.high or 0.0)
    return {
        "reid_top1": summary.mean,
        "reid_top1_ci": [low, high],
        "reid_gallery": len(gallery),
    }


NO_LINK: dict[str, Any] = {
    "reid_likelihood": None,
    "reid_likelihood_ci": [None, None],
    "reid_likelihood_images": None,
    "reid_likelihood_way": "none",
}
"""Fields about linkage by the release, of an attacker who has nothing to compare with."""


def ways_fields(
    originals: np.ndarray,
    ways: Mapping[str, np.ndarray],
    test: Samples,
    columns: Columns | None = None,
) -> dict[str, dict[str, Any]]:
    """Measures each of an attacker's ways, of which it answers with one.

    Args:
      originals: `[N, H, W, C]`, the first N test images.
      ways: reconstructions by name, each as for `quality_fields`.
      test: the test split.
      columns: as for `quality_fields`.

    Returns:
      `psnr_mean`, `_std` and `_ci`, the same for `ssim` and `ssim [N]`, `reid_top1`,
      `reid_top1_ci` and `diverged` of each way.
    """
    names = ("psnr_mean", "psnr_std", "psnr_ci", "ssim_mean", "ssim_std", "ssim_ci", "ssim")
    found = {}
    for way, images in ways.items():
        quality_of = quality_fields(originals, images, columns)
        linked = reidentification_fields(images, test)
        del linked["reid_gallery"]
        found[way] = {name: quality_of[name] for name in (*names, "diverged")} | linked
    return found


def worst_linkage(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `reid`, the greatest share by any way's reconstructions or by release, and `reid_ci`.

    Args:
      fields: of a record, which tell all of them.
    """
    count = min(fields["num_images"], GALLERY)
    answers = [way["reid_top1"] for way in fields.get("ways", {}).values()]
    draws, seeds = fields.get("draws", 1), len(fields.get("psnr_by_seed", ()))
    measured = [
        *leaks.answered(answers, fields["reid_top1"], count, draws=draws, attackers=seeds),
        *leaks.shares((fields.get("reid_likelihood"), fields.get("reid_likelihood_images"))),
    ]
    return {
        "reid": max(sample.mean for sample in measured),
        "reid_ci": list(verdicts.greatest_of(measured)),
    }


def target_fields(target: "Target", dataset: Dataset, cuts: Sequence[str]) -> dict[str, Any]:
    """Returns what a record says of the data and of the network that was attacked at some cuts."""
    return {
        "cuts": list(costs.cuts_with(target.network, cuts)),
        **dataset.fields,
        "network": {"name": target.name, "fingerprint": target.network.fingerprint},
        "target": {
            "source": target.source,
            "fingerprint": target.fingerprint,
            "seed": target.seed,
        },
    }


def paper_fields(
    experiment: str, target: "Target", dataset: Dataset, split: str
) -> dict[str, float] | None:
    """`{psnr, ssim}` as the paper prints them of its own networks, or None."""
    if not target.is_papers(dataset):
        return None
    figure = paper.printed(experiment, dataset.name, split)
    return figure._asdict() if figure else None


def write_run(
    folder: Path, record: Mapping[str, Any], originals: np.ndarray, reconstructions: np.ndarray
) -> None:
    """Writes the grid, the first images and, last, the record of an attack."""
    if not hosts.is_first():
        return
    inputs = record.get("inputs")
    shape = originals.shape[1:] if inputs is None else inputs["shape"]
    images = {
        name: np.asarray(each[:_KEPT_IMAGES]).reshape(-1, *shape)
        for name, each in (("originals", originals), ("reconstructions", reconstructions))
    }
    rows = [(row_label(record), images["reconstructions"])]
    title = grid_title([record])
    pictures.reconstructions(folder / GRID_NAME, images["originals"], rows, inputs, title=title)
    records.write(folder, record, images=images)


def write_joint_grid(
    path: Path, written: list[dict[str, Any]], *, title: str | None = None
) -> None:
    """Draws one row a record (the paper's Fig. 3), from what the runs left behind."""
    rows = []
    for record in written:
        path_images = Path(record["path"]).with_name(records.IMAGES_NAME)
        try:
            images = records.load_images(path_images)
            originals = images["originals"]
            rows.append((row_label(record), images["reconstructions"]))
        except (OSError, DamagedError, KeyError) as error:
            raise UserError(
                f"{path_images} is gone or damaged: the same command makes it anew."
            ) from error
    inputs = written[0].get("inputs")
    pictures.reconstructions(path, originals, rows, inputs, title=title or grid_title(written))


def points_of_seeds(written: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the rows of a chart of splits: of several seeds each alone, and all jointly.

    The interval of the former is the range over seeds, of those that did not diverge.
    """
    rows = []
    for record in written:
        alone = {"split": record["split"], "attacker": "a shadow alone: mean, range over seeds"}
        joint = {"split": record["split"], "attacker": "their joint answer"}
        for name in ("psnr", "ssim"):
            tried = [value for value in record[f"{name}_by_seed"] if value is not None]
            alone[f"{name}_mean"] = record[f"{name}_mean"]
            alone[f"{name}_ci"] = [min(tried, default=None), max(tried, default=None)]
            joint[f"{name}_mean"] = record["joint"][f"{name}_mean"]
        rows += [alone, joint]
    return rows


def row_label(record: Mapping[str, Any]) -> str:
    """A run in two short lines: the split (and the budget of queries), and the mean quality."""
    name = record["split"]
    if record["defense"]["kind"] != "none" or record["experiment"] == "defenses":
        name = f"{level_text(record['defense']['level'])}, {record['method']}"
    if record.get("num_queries"):
        name += f", {record['num_queries']:,} queries"
    if record.get("num_shadows"):
        name += f", first of {record['num_shadows']}"
    if record["diverged"] == record["num_images"]:
        return f"{name}\ndiverged"
    if "rmse_mean" in record:
        return f"{name}\nRMSE {record['rmse_mean']:.3f} / {record['ssim_mean']:.3f}"
    return f"{name}\n{record['psnr_mean']:.1f} dB / {record['ssim_mean']:.3f}"


def subject(record: Mapping[str, Any]) -> str:
    """Names the dataset of a record, and the network; older records name none."""
    network = (record.get("network") or {}).get("name", "")
    return ", ".join(filter(None, [record["dataset"], title_of(network)]))


def grid_title(written: list[dict[str, Any]] | list[Mapping[str, Any]]) -> str:
    """Names what the rows of a grid have in common."""
    first = written[0]
    kind = similarity.kind_of(first)
    measures = "PSNR / SSIM" if kind == kinds.IMAGE else f"RMSE (1 is the range) / {kind.title}"
    return (
        f"{first['experiment']}, {first['method']}, {subject(first)}: "
        f"mean {measures} of {first['num_images']:,} {kind.plural}"
    )
