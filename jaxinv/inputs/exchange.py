"""Files by which evidence goes from one tool to another: pairs, releases, reconstructions. NumPy.

All are NPZ files, whose arrays are checked before they are used. Series and tables take the place
of `images` under their own names, `series` and `table`, in the units of their columns.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np

from jaxinv import unit_space
from jaxinv.constants import kinds
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import arrays, npz, vectors
from jaxinv.inputs.columns import Columns, measured
from jaxinv.inputs.samples import Samples
from jaxinv.store import files

_VECTORS = (kinds.SERIES, kinds.TABLE)
_MOST_OUTSIDE = 0.1
"""By which reconstructions may be outside unit space, on average."""


class PairsFile(NamedTuple):
    """Pairs to learn from, and features to invert.

    Attributes:
      images: `[N, H, W, C]`.
      features: `[N, ...]` float32, of these images.
      observed: `[M, ...]` float32, of unknown images.
      originals: `[M, H, W, C]`, those images where they are known, or None.
      columns: of series and tables, measured on those that are known; None for images.
    """

    images: Samples
    features: np.ndarray
    observed: np.ndarray
    originals: Samples | None
    columns: Columns | None = None


def read_pairs(path: str) -> PairsFile:
    """Reads pairs.

    Raises:
      UserError: it is no file with arrays `images`, `features` and `observed` that belong together.
    """
    with _opened("pairs", path) as file:
        images, columns = _known(file)
        features = _features(_array(file, "features"), "features")
        if len(features) != len(images):
            raise UsageError(f"{len(features)} features of {len(images)} images; expected as many.")
        observed = _features(_array(file, "observed"), "observed")
        if observed.shape[1:] != features.shape[1:]:
            raise UsageError(
                f"observed={list(observed.shape)}: expected [M, "
                f"{', '.join(map(str, features.shape[1:]))}], as features are."
            )
        originals = None
        if "originals" in file:
            expected = (len(observed), *images.pixels.shape[1:])
            originals = _originals(file["originals"], expected, columns)
    return PairsFile(images, features, observed, originals, columns)


def _known(file: Mapping[str, np.ndarray]) -> tuple[Samples, Columns | None]:
    """Returns the inputs of pairs, and the columns of what is no images."""
    kind = next((each for each in _VECTORS if each.name in file), None)
    if kind is None:
        return Samples(arrays.pixels(_array(file, "images"), None)), None
    values = vectors.checked(file[kind.name], kind, name=kind.name)
    columns = measured(values, kind, **npz.columns_of(file))
    return Samples(np.clip(columns.to_unit(values), 0, 1).astype(np.float32)), columns


def number_of_reconstructions(path: str) -> int:
    """Returns how many inputs were reconstructed elsewhere.

    Raises:
      UserError: it is no file of them.
    """
    with _opened("import", path) as file:
        names = ("images", *(kind.name for kind in _VECTORS))
        return len(_array(file, next((name for name in names if name in file), "images")))


def read_reconstructions(
    path: str, shape: Sequence[int] | None = None, columns: Columns | None = None
) -> np.ndarray:
    """Reads `images` that were reconstructed elsewhere, as `[N, *shape]` float32.

    They are uint8, or floats in unit space. Metrics clip what an attack has left a little outside;
    pixels of another range would look like a bad attack, and are refused.

    Args:
      path: of the file.
      shape: of one image; None for any `(H, W, C)`.
      columns: of series and tables, which are read in place of images.

    Raises:
      UserError: it is no file of such images.
    """
    with _opened("import", path) as file:
        if columns is not None:
            return _in_unit_space(_array(file, columns.kind), columns)
        given = _array(file, "images")
        if given.ndim == 3:
            given = given[..., None]
        if given.dtype == np.uint8:
            given = given / np.float32(255)
        found = unit_space.reconstructions(given, shape, name="images")
        if not len(found):
            raise UsageError("images=[]: expected at least one.")
        _check_range(found)
    return found


def _in_unit_space(given: np.ndarray, columns: Columns) -> np.ndarray:
    """Returns values in their units as floats in unit space, on their grid; any may be wrong."""
    if given.dtype.kind not in "iuf" or not len(given) or given.shape[1:] != columns.shape:
        raise UsageError(
            f"{columns.kind}={given.dtype} {list(given.shape)}: expected numbers [N, "
            f"{', '.join(map(str, columns.shape))}], at least one."
        )
    return columns.to_unit(given).astype(np.float32)


def _check_range(found: np.ndarray) -> None:
    """Refuses reconstructions that are mostly outside unit space.

    Raises:
      UsageError: clipping moves their finite values by more than `_MOST_OUTSIDE` on average.
    """
    finite = found[np.isfinite(found)]
    outside = np.abs(finite - np.clip(finite, 0, 1)).mean() if finite.size else 0.0
    if outside > _MOST_OUTSIDE:
        raise UsageError(
            f"images={found.dtype} {list(found.shape)} from {finite.min():g} to {finite.max():g}: "
            "expected unit space, [0, 1] (undo what has scaled them, or clip them)."
        )


def write_release(
    path: str,
    features: Sequence[np.ndarray],
    images: np.ndarray,
    labels: np.ndarray | None,
    columns: Columns | None = None,
) -> None:
    """Writes what crossed the wire, whole or not at all.

    Args:
      path: of the file.
      features: the arrays that crossed, each `[N, ...]`: one is `features`, several are
        `features_0` and so on.
      images: `[N, H, W, C]` in unit space.
      labels: `[N]`, or None.
      columns: of series and tables, which are written in their units.

    Raises:
      UserError: it cannot be written.
    """
    names = ["features"] if len(features) == 1 else [f"features_{n}" for n in range(len(features))]
    found: dict[str, Any] = dict(zip(names, features, strict=True))
    found |= {} if labels is None else {"labels": labels}
    if columns is None:
        found["images"] = images
    else:
        found[columns.kind] = columns.to_values(images).reshape(-1, *columns.shape)
        found |= {"columns": np.array(columns.names), "units": np.array(columns.units)}
    files.atomic_write(files.expanded("export", path), lambda file: np.savez(file, **found))


def _features(given: np.ndarray, name: str) -> np.ndarray:
    found = given[:, None] if given.ndim == 1 else given
    if found.dtype.kind not in "fiub" or not found.size or not found.ndim:
        raise UsageError(f"{name}={given.dtype} {list(given.shape)}: expected numbers [N, ...].")
    found = found.astype(np.float32)
    if not np.isfinite(found).all():
        raise UsageError(f"{name}={list(given.shape)}: expected finite numbers.")
    return found


def _originals(given: np.ndarray, expected: tuple[int, ...], columns: Columns | None) -> Samples:
    if columns is None:
        found = arrays.pixels(given, None, name="originals")
    else:
        values = vectors.checked(given, kinds.KINDS[columns.kind], name="originals")
        if values.shape[1:] != columns.shape:
            raise UsageError(f"originals={list(given.shape)}: expected [M, *{columns.shape}].")
        found = np.clip(columns.to_unit(values), 0, 1).astype(np.float32)
    if found.shape != expected:
        raise UsageError(
            f"originals={list(found.shape)}: expected {list(expected)}, one for each observed, as "
            "images are."
        )
    return Samples(found)


def _array(file: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    if name not in file:
        raise UsageError(f"has the arrays {', '.join(file) or '(none)'}; expected {name}.")
    return file[name]


@contextmanager
def _opened(argument: str, path: str) -> Iterator[Mapping[str, np.ndarray]]:
    """Yields the arrays of a file; what is wrong with it is told in a line that names it."""
    try:
        with npz.opened(path) as file:
            yield file
    except OSError as error:
        raise UserError(f"{argument}={path}: cannot be read: {files.reason(error)}.") from error
    except UserError as error:
        raise UsageError(f"{argument}={path}: {error}") from error
