"""From an attack to its record: what was attacked, what was recovered, and at what cost. NumPy.

The fields are those of every attack's `record.json`, in base units: dB, seconds, shares in [0, 1].
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from jaxinv.constants import paper
from jaxinv.constants.verdicts import GALLERY
from jaxinv.errors import DamagedError, UserError
from jaxinv.inputs.data import Dataset, Samples
from jaxinv.look import grids
from jaxinv.machine import hosts
from jaxinv.measures import costs, crossed, intervals, linkage, quality, verdicts
from jaxinv.measures.intervals import Share
from jaxinv.measures.leaks import PSNR, SSIM, shares
from jaxinv.store import records
from jaxinv.store.fields import RecordedObstacles, level_text

if TYPE_CHECKING:
    from jaxinv.training.targets import Target

GRID_NAME = "grid.png"
_KEPT_IMAGES = 64  # in images.npz, from the first


def quality_fields(
    originals: np.ndarray, reconstructions: np.ndarray, *, shadows: bool = False
) -> dict[str, Any]:
    """Per-image quality and its summary; diverged images are counted and in no mean.

    Args:
      originals: `[N, H, W, C]` in unit space.
      reconstructions: `[N, H, W, C]`, or `[S, N, H, W, C]` by S attackers that differ in nothing
        but their seeds, or of S releases: then the quality of an image is the mean over them.
      shadows: whether it is attackers who differ. Each is the same for all images, so that the
        interval is over attackers and images (`measures.crossed`); releases are drawn for each
        image by itself, and the interval over images holds their spread.

    Returns:
      `psnr [N]` and `psnr_mean`, `_std`, `_median`, `_ci` (95% interval of the mean; see
      `intervals`), the same for `ssim`, `mse [N]`, `exact_fraction` and `diverged`, the number of
      non-finite images (for any attacker). Of several attackers also `psnr_by_seed [S]`, the mean
      of each over images that did not diverge for it, and `psnr_seed_std`, their standard deviation
      (NaN of one); and the same for `ssim`.
    """
    several = reconstructions.ndim == originals.ndim + 1
    tries = reconstructions if several else reconstructions[None]
    qualities = [quality.evaluate(originals, found) for found in tries]
    measured = quality.Quality(*(np.stack(values) for values in zip(*qualities, strict=True)))
    diverged = measured.diverged.any(axis=0)
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
    return fields | {
        "exact_fraction": float(measured.exact.mean()),
        "diverged": int(diverged.sum()),
        "psnr": measured.psnr.mean(axis=0),
        "ssim": measured.ssim.mean(axis=0),
        "mse": np.where(diverged, np.nan, mse),
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
        wide = crossed.widened(
            Share(summary.mean, len(by_image)), np.mean(found, axis=1), least=0.0, most=1.0
        )
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
    originals: np.ndarray, ways: Mapping[str, np.ndarray], test: Samples
) -> dict[str, dict[str, Any]]:
    """Measures each of an attacker's ways, of which it answers with one.

    Args:
      originals: `[N, H, W, C]`, the first N test images.
      ways: reconstructions by name, each as for `quality_fields`.
      test: the test split.

    Returns:
      `psnr_mean`, `_std` and `_ci`, the same for `ssim` and `ssim [N]`, `reid_top1`,
      `reid_top1_ci` and `diverged` of each way.
    """
    names = ("psnr_mean", "psnr_std", "psnr_ci", "ssim_mean", "ssim_std", "ssim_ci", "ssim")
    found = {}
    for way, images in ways.items():
        quality_of = quality_fields(originals, images)
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
    measured = shares(
        *((answer, count) for answer in (answers or [fields["reid_top1"]])),
        (fields.get("reid_likelihood"), fields.get("reid_likelihood_images")),
    )
    return {
        "reid": max(sample.mean for sample in measured),
        "reid_ci": list(verdicts.greatest_of(measured)),
    }


def target_fields(target: "Target", dataset: Dataset, cuts: Sequence[str]) -> dict[str, Any]:
    """Returns what a record says of the data and of the network that was attacked at some cuts."""
    return {
        "cuts": list(costs.cuts_with(target.network, cuts)),
        "dataset": dataset.name,
        "data_source": dataset.source,
        "data_fingerprint": dataset.fingerprint,
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
    kept = slice(_KEPT_IMAGES)
    rows = [(row_label(record), reconstructions[kept])]
    grids.reconstruction_grid(folder / GRID_NAME, originals[kept], rows, title=grid_title([record]))
    images = {"originals": originals[kept], "reconstructions": reconstructions[kept]}
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
    grids.reconstruction_grid(path, originals, rows, title=title or grid_title(written))


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
    return f"{name}\n{record['psnr_mean']:.1f} dB / {record['ssim_mean']:.3f}"


def grid_title(written: list[dict[str, Any]] | list[Mapping[str, Any]]) -> str:
    """Names what the rows of a grid have in common."""
    first = written[0]
    return (
        f"{first['experiment']}, {first['method']}, {first['dataset']}: "
        f"mean PSNR / SSIM of {first['num_images']:,} images"
    )


_TABLE_HEADER = (
    f"{'split':<10}{'PSNR dB [95% interval]':<26}{'SSIM':<8}{'exact':<8}"
    f"{'paper dB/SSIM':<15}{'compile s':>10}{'attack s':>10}{'images/s':>10}"
)


def table_row(record: Mapping[str, Any]) -> str:
    """A run as a line of `TABLE`."""
    psnr, ssim = record["psnr_mean"], record["ssim_mean"]
    if psnr is None:
        quality = f"{'diverged':<26}{'-':<8}"
    else:
        quality = f"{intervals.told(psnr, record['psnr_ci'], '.2f'):<26}{ssim:<8.4f}"
    printed = record["paper"]
    beside = f"{printed['psnr']:.2f}/{printed['ssim']:.2f}" if printed else "-"
    row = (
        f"{record['split']:<10}{quality}{record['exact_fraction']:<8.1%}{beside:<15}"
        f"{_told(record['compile_s'])}{_told(record['attack_s'])}{_told(record['images_per_s'])}"
    )
    if record.get("queries"):
        edge = f"; edge: {record['edge']}" if record.get("edge") else ""
        row += f"  ({record['queries']:,} queries{edge})"
    if record.get("joint") and record["psnr_seed_std"] is not None:
        row += f"  (+- {record['psnr_seed_std']:.2f} over {len(record['psnr_by_seed'])} seeds"
        row += f"; jointly {record['joint']['psnr_mean']:.2f})"
    some = 0 < record["diverged"] < record["num_images"]
    row += f"  ({record['diverged']} diverged, not in the means)" if some else ""
    if record.get("obstacles"):
        row += f"  (in the way: {msgspec.convert(record['obstacles'], RecordedObstacles).words})"
    return row + dead_words(record)


def _told(measured: float | None) -> str:
    """A time or a rate in its column; a dash where it was not measured."""
    return f"{'-':>10}" if measured is None else f"{measured:>10.1f}"


def dead_words(record: Mapping[str, Any]) -> str:
    """Tells how many images did not move from their start; "" if all did."""
    dead = record.get("dead")
    return f"  ({dead} of {record['num_images']} dead: not moved from the start)" if dead else ""


TABLE = (_TABLE_HEADER, table_row)
"""A header and the line of a record, of undefended runs."""
