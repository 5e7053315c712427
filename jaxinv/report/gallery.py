"""Pictures: which runs are shown, and their images as strips of PNG. NumPy and Pillow.

A strip is a row of images in their own pixels, enlarged by the browser. All strips of a page
together are at most `BUDGET` characters: the most telling come first.
"""

import base64
import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from jaxinv.constants.kinds import IMAGE, in_words
from jaxinv.errors import DamagedError
from jaxinv.report import findings
from jaxinv.report.results import ShownAttack, in_order, strongest
from jaxinv.report.values import MISSING
from jaxinv.store import records

if TYPE_CHECKING:
    from PIL.Image import Image

BUDGET = 2_400_000  # characters of base64
_GREY, _COLOUR = 10, 8  # images in a strip
_LEVELS = 4  # of a defence
_GAP, _FRAME = 1, 128  # pixels between images, and their grey


class Strip(NamedTuple):
    """A row of images. `source` is a data URI; `size` is width and height in pixels.

    `is_drawn` is whether it is a drawing, whose pixels are not those of images.
    """

    label: str
    quality: str
    alt: str
    source: str
    size: tuple[int, int]
    run: int | None
    is_drawn: bool = False


class Group(NamedTuple):
    """Strips below their originals. `defense` is empty where there is none."""

    dataset: str
    title: str
    defense: str
    strips: list[Strip]


class Gallery(NamedTuple):
    """Groups of a page, how many runs there was no room for, and whose pictures are damaged."""

    groups: list[Group]
    left_out: int
    damaged: list[str]


class _Plan(NamedTuple):
    """A group before its pictures are read: runs, the most telling first by `rank`."""

    dataset: str
    title: str
    defense: str
    rank: int
    attacks: list[ShownAttack]


def build(attacks: Iterable[ShownAttack], *, budget: int = BUDGET) -> Gallery:
    """Chooses and draws.

    Undefended cuts show the best of each threat model, and what the paper's attacker of it finds.
    Defences show some of their levels, by each attacker.
    """
    plans = plan(attacks)
    groups: dict[int, Group] = {}
    left_out, damaged = 0, []
    for place, chosen in sorted(enumerate(plans), key=lambda item: item[1].rank):
        if budget <= 0:
            left_out += len(chosen.attacks)
            continue
        group, lost = _draw(chosen)
        damaged += lost
        cost = sum(len(strip.source) for strip in group.strips)
        if cost > budget:
            left_out += len(chosen.attacks)
        elif len(group.strips) > (chosen.attacks[0].record.inputs is None):
            budget -= cost
            groups[place] = group
    return Gallery([groups[place] for place in sorted(groups)], left_out, damaged)


def plan(attacks: Iterable[ShownAttack]) -> list[_Plan]:
    """Groups the runs that are shown together: datasets as they come, cuts in order."""
    by_dataset: dict[str, list[ShownAttack]] = {}
    for each in attacks:
        by_dataset.setdefault(each.dataset, []).append(each)
    plans = []
    for dataset, own in by_dataset.items():
        splits = in_order(own)
        for split in splits:
            here = [each for each in own if each.split == split]
            if chosen := _of_cut([each for each in here if each.defense.is_none]):
                plans.append(_Plan(dataset, f"{split}, undefended", "", 0, chosen))
        plans += [made for found in findings.tradeoffs(own) for made in _of_defense(found)]
    return plans


def _of_cut(attacks: Sequence[ShownAttack]) -> list[ShownAttack]:
    """The best of each threat model, and the best by the paper's settings."""
    chosen = []
    for own in findings.by_threat(attacks).values():
        best = strongest(own)
        paper = strongest([each for each in own if each.method == "paper"])
        chosen += [each for each in (paper, best) if each]
    return list(dict.fromkeys(chosen))


def _of_defense(found: findings.Tradeoff) -> list[_Plan]:
    """A group for each line of defences, its attackers side by side, level by level."""
    lines: dict[str, list[ShownAttack]] = {}
    for line in found.lines:
        lines.setdefault(line.name, []).extend(line.attacks)
    plans = []
    for name, own in lines.items():
        levels = sorted({each.defense.levels for each in own if not each.defense.is_none})
        shown = set(spread(levels, _LEVELS))
        kept = [each for each in own if each.defense.levels in shown]
        kept.sort(key=lambda each: (each.defense.levels, each.method != "paper", each.method))
        unique = {(each.defense.levels, each.method): each for each in reversed(kept)}
        chosen = [each for each in kept if unique[each.defense.levels, each.method] is each]
        if chosen:
            threat = chosen[0].attacker.split(", ")[0]
            title = f"{name} ({found.split}, {threat})"
            plans.append(_Plan(found.dataset, title, name, 1, chosen))
    return plans


def spread(values: Sequence[tuple[float, ...]], most: int) -> list[tuple[float, ...]]:
    """At most so many of them, evenly, with both ends."""
    if len(values) <= most:
        return list(values)
    return [values[round(place)] for place in np.linspace(0, len(values) - 1, most)]


def _draw(chosen: _Plan) -> tuple[Group, list[str]]:
    strips: list[Strip] = []
    seen: set[str] = set()
    damaged = []
    for each in chosen.attacks:
        try:
            originals, found = load(each)
        except (OSError, ValueError, KeyError, DamagedError):
            damaged.append(each.name)
            continue
        if each.record.inputs is not None:
            source, size = _drawn(each, originals, found)
            strips.append(_strip(each, chosen, source, size))
            continue
        source, size = strip(originals)
        if source not in seen:  # runs of another seed or sample have other originals
            seen.add(source)
            words = f"{len(originals)} original test images of {each.dataset}"
            strips.append(Strip("originals", "", words, source, size, None))
        strips.append(_strip(each, chosen, *strip(found)))
    return Group(chosen.dataset, chosen.title, chosen.defense, strips), damaged


def _strip(each: ShownAttack, chosen: _Plan, source: str, size: tuple[int, int]) -> Strip:
    label = each.method if chosen.defense else each.attacker
    if chosen.defense:
        label = f"{each.defense.level_text}, {label}"
    quality = findings.quality_words(each)
    if each.psnr.mean is None:
        quality = "diverged" if each.diverged else MISSING
    is_drawn = each.kind != IMAGE
    words = f"Reconstructions at {each.split} by {each.attacker}, {each.defense.words}: {quality}"
    return in_words(Strip(label, quality, words, source, size, each.number, is_drawn), each.kind)


def _drawn(
    each: ShownAttack, originals: np.ndarray, found: np.ndarray
) -> tuple[str, tuple[int, int]]:
    """Draws series or rows of a table, each beside its original."""
    from jaxinv.look import pictures

    inputs = each.record.fields["inputs"]
    page = pictures.of_vectors(originals, [(each.attacker, found)], inputs)
    return _source(page), (page.width, page.height)


def load(attack: ShownAttack) -> tuple[np.ndarray, np.ndarray]:
    """The first originals and reconstructions that a run left behind, `[N, H, W, C]`, or rows.

    Raises:
      OSError, ValueError, KeyError, DamagedError: there are none, or what is there is no such
        file.
    """
    images = records.load_images(attack.folder / records.IMAGES_NAME)
    pair = images["originals"], images["reconstructions"]
    if attack.record.inputs is not None:
        shape = (-1, *attack.record.inputs.shape)
        return pair[0].reshape(shape), pair[1].reshape(shape)
    if pair[0].shape != pair[1].shape or pair[0].ndim != 4:
        raise ValueError(f"images of shapes {pair[0].shape} and {pair[1].shape}")
    if not pair[0].size:
        raise ValueError("no images")
    kept = _GREY if pair[0].shape[-1] == 1 else _COLOUR
    return np.asarray(pair[0][:kept], np.float32), np.asarray(pair[1][:kept], np.float32)


def strip(images: np.ndarray) -> tuple[str, tuple[int, int]]:
    """A row of images as a PNG: its data URI, and its width and height.

    An image with a value that is not finite is a cross.

    Args:
      images: `[N, H, W, C]` in unit space; clipped to it. Of many channels three are shown.
    """
    from PIL import Image

    from jaxinv.look.grids import in_colours

    images = in_colours(images)
    count, height, width, channels = images.shape
    row = np.full((height, count * (width + _GAP) - _GAP, channels), _FRAME, np.uint8)
    for place, image in enumerate(images):
        left = place * (width + _GAP)
        row[:, left : left + width] = _pixels(image)
    picture = Image.fromarray(row[..., 0] if channels == 1 else row)
    return _source(picture), (row.shape[1], height)


def _source(picture: "Image") -> str:
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(file.getvalue()).decode()}"


def _pixels(image: np.ndarray) -> np.ndarray:
    if np.isfinite(image).all():
        return np.rint(255 * image.clip(0, 1)).astype(np.uint8)
    height, width, _ = image.shape
    down = np.arange(height)[:, None] * (width - 1)
    right = np.arange(width) * (height - 1)
    near = max(height, width)
    cross = (abs(down - right) < near) | (abs(down + right - (width - 1) * (height - 1)) < near)
    return np.where(cross, 200, 60).astype(np.uint8)[..., None].repeat(image.shape[-1], axis=-1)
