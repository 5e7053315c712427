"""Pictures of a leaderboard: a chart of its standings, and what attackers reconstruct. NumPy."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from jaxinv.look import pictures
from jaxinv.look.charts import equal, style
from jaxinv.store import records
from jaxinv.store.standing import Standing, points
from jaxinv.studies import runs
from jaxinv.studies.leaderboard.standing import Attacks

CHART_NAME, IMAGES_NAME = "leaderboard.png", "reconstructions.png"


def draw(
    folder: Path, record: Mapping[str, Any], attacked: Sequence[Attacks], scene: runs.Scene
) -> None:
    """Writes the pictures of a board into a folder; one without a finite score has none.

    Args:
      folder: of the record.
      record: with `standings`, as `table` has them.
      attacked: the attacks of each standing, in the same order.
      scene: what was attacked.
    """
    title = f"{scene.title}, {record['split']}: {record['num_images']:,} images"
    chart = equal.figure(
        [msgspec.convert(each, Standing) for each in record["standings"]],
        title=f"{title}, {_trainings(record['seeds'])}",
    )
    if chart:
        style.save(folder / CHART_NAME, chart._replace(kind=scene.dataset.kind))
    loss = min(record["losses"])
    pairs = zip(record["standings"], attacked, strict=True)
    originals, strips = _strips([(each, own) for each, own in pairs if each["loss"] == loss])
    if strips:
        words = f"{title}, at {points(loss)} of accuracy"
        inputs = record.get("inputs")
        pictures.reconstructions(folder / IMAGES_NAME, originals, strips, inputs, title=words)


def _trainings(count: int) -> str:
    return f"{count} training{'s' * (count != 1)} of each defence"


def _strips(
    standings: Sequence[tuple[Mapping[str, Any], Attacks]],
) -> tuple[np.ndarray | None, list[tuple[str, np.ndarray]]]:
    """Returns originals, and what the two attackers make of them on the first training."""
    originals, strips = None, []
    for each, attacks in standings:
        for name, who in (("claimed", each["claimed"]), ("strongest", each["strongest_psnr"])):
            if who is None:
                continue
            record = attacks[who["threat_model"], who["method"]][0]
            found = records.read_images(Path(record.path).parent)
            if found is None:
                continue
            first = found["originals"] if originals is None else originals
            if np.array_equal(first, found["originals"]):
                originals = first
                strips.append((f"{each['defense']}\n{name}", found["reconstructions"]))
    return originals, strips
