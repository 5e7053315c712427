"""Grids on which trained maps put features, of bounded size. Standard library."""

from collections.abc import Iterator, Sequence

MOST_WEIGHTS = 2**24
"""Weights of one dense layer, or of a linear map, that is trained."""


def of_tokens(count: int, image_shape: Sequence[int]) -> tuple[int, tuple[int, int] | None]:
    """Returns how tokens `[count, d]` lie in an image: those before the grid, and its sides.

    Transformers cut an image into patches, row by row, and may put one token for all before them.

    Args:
      count: number of tokens.
      image_shape: `(H, W, C)`, whose proportions the grid has.

    Returns:
      `(0 or 1, (h, w))`, or `(0, None)` where the tokens fill no such grid. Those of a series lie
      in its time, however many there are.
    """
    height, width = image_shape[:2]
    if width == 1 and height > 1:
        return 0, (count, 1)
    for before in (0, 1):
        for rows in range(2, min(height, count) + 1):
            columns = rows * width // height
            if columns * height == rows * width and rows * columns == count - before:
                return before, (rows, columns)
    return 0, None


def seeds(
    values: int, sides: tuple[int, int], channels: int, *, deeper: bool = True
) -> tuple[tuple[int, int], int]:
    """Returns sides and channels of the grid that a dense layer makes of values without a place.

    Args:
      values: number of them.
      sides: of the grid that is wanted.
      channels: of it.
      deeper: whether a grid of half the sides has twice the channels.

    Returns:
      The wanted grid, or half of it again and again, until the layer has at most `MOST_WEIGHTS`;
      one place of fewer channels where that is too many.
    """
    for grid, more in _halves(sides):
        found = channels * more if deeper else channels
        if values * grid[0] * grid[1] * found <= MOST_WEIGHTS:
            return grid, found
    return grid, max(1, min(found, MOST_WEIGHTS // values))


def _halves(sides: tuple[int, int]) -> Iterator[tuple[tuple[int, int], int]]:
    """Yields sides and how often they were halved, as a power of two, down to one place."""
    power = 1
    while True:
        yield sides, power
        if max(sides) == 1:
            return
        sides, power = (-(-sides[0] // 2), -(-sides[1] // 2)), 2 * power


def coarse(image_shape: Sequence[int], features: int) -> tuple[int, int, int]:
    """Returns the largest image for a linear map of so many features, `(H, W, C)` or smaller."""
    height, width, channels = image_shape
    grid, _ = seeds(features, (height, width), channels, deeper=False)
    return *grid, channels
