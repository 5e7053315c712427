"""Prepared TFDS datasets on disk: find them, identify them, prepare new ones.

Finding and identifying a dataset needs file names and hashes alone, and no
`tensorflow_datasets`, so that a dataset whose decoded arrays are cached loads fast.
"""

import difflib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import decode as _decode
from jaxinv.inputs import embedded, stamps

NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
_VERSION = re.compile(r"\d+\.\d+\.\d+")


class Spec(NamedTuple):
    """A dataset as the user names it: `name[/config][:version]`."""

    name: str
    config: str | None
    version: str | None

    @property
    def title(self) -> str:
        """`name[/config]`."""
        return f"{self.name}/{self.config}" if self.config else self.name

    def __str__(self) -> str:
        return f"{self.title}:{self.version}" if self.version else self.title


class Prepared(NamedTuple):
    """A dataset on disk."""

    title: str  # name[/config]
    folder: Path  # <root>/<title>/<version>


def parse(text: str) -> Spec:
    """Parses `name[/config][:version]`; raises UsageError."""
    match = NAME.fullmatch(text)
    if match is None:
        raise UsageError(
            f"dataset={text}: expected mnist, cifar10, mnist_5k, a TFDS name, "
            "name[/config][:version], a folder of images or FILE.npz."
        )
    return Spec(**match.groupdict())


def find_or_prepare(
    spec: Spec, roots: list[Path], size: tuple[int, int] | None, *, explicit: bool
) -> tuple[Prepared | None, str]:
    """Returns a dataset, prepared below the first of `roots` if need be, or None and why not.

    Args:
      spec: of the dataset.
      roots: directories to search.
      size: that its images are resized to, if they are.
      explicit: whether the user named the directory.

    Raises:
      UsageError: TFDS has none of this name.
    """
    if found := find_in(roots, spec):
        return found, ""
    problem = _prepare(spec, roots, size, explicit=explicit)
    return find_in(roots, spec), problem


def find_in(roots: list[Path], spec: Spec) -> Prepared | None:
    """Returns a dataset that is prepared below one of `roots`, the first that has it, or None."""
    return next((found for root in roots if (found := find(root, spec))), None)


def _prepare(spec: Spec, roots: list[Path], size: tuple[int, int] | None, *, explicit: bool) -> str:
    """Tries to prepare a dataset below the first of `roots`; returns the reason if it fails."""
    if explicit:
        where = f"data_dir={roots[0]}: no {roots[0] / spec.title}/{spec.version or '<version>'}/"
    else:
        where = f"dataset={spec}: not prepared under {' or '.join(map(str, roots))}"
    found = ", ".join(name for root in roots for name in prepared(root)) or "nothing"
    where = f"{where} (found there: {found})"
    if spec.name != "mnist" and spec.name not in (known := catalogue()):
        close = difflib.get_close_matches(spec.name, [*known, embedded.NAME])
        hint = f"; did you mean {' or '.join(close)}?" if close else "."
        raise UsageError(
            f"{where}; TFDS has no {spec.name} to download, and no folder has this name{hint}"
        )
    if not _decode.has_tensorflow():
        return f"{where}; to download and prepare it, install jaxinv[prepare]."
    reason = prepare(spec, roots[0], size)
    return f"{where}, and preparing it failed ({reason})."


def find(root: Path, spec: Spec) -> Prepared | None:
    """Returns the newest version of a dataset prepared below `root`, or None.

    Raises:
      UsageError: the dataset has several configurations there and `spec` names none.
    """
    titles = [spec.title]
    if not spec.config:
        titles += sorted(f"{spec.name}/{path.name}" for path in _children(root / spec.name))
    found = {title: _versions(root / title, spec.version) for title in titles}
    found = {title: folders for title, folders in found.items() if folders}
    if len(found) > 1 and spec.title not in found:
        raise UsageError(f"dataset={spec}: {root} holds several: choose {', '.join(found)}.")
    return next((Prepared(title, folders[-1]) for title, folders in found.items()), None)


def prepared(root: Path) -> list[str]:
    """Lists the datasets prepared below `root`, as `name[/config]:version`."""
    found = [*root.glob("*/*/features.json"), *root.glob("*/*/*/features.json")]
    parts = [path.parent.relative_to(root).parts for path in found]
    return sorted("/".join(names) + ":" + version for *names, version in parts)


def digest(folder: Path, memory: Path) -> str:
    """Returns 16 hex digits that identify the files of a prepared dataset; see `stamps.digest`."""
    paths = {path.name: path for path in folder.iterdir() if path.is_file()}
    return stamps.digest(folder, paths, memory)


def declared_size(folder: Path) -> tuple[int, int] | None:
    """Returns height and width of all images, or None if the features tell no single size."""
    try:
        features = json.loads((folder / "features.json").read_text("utf-8"))
        found = features["featuresDict"]["features"].values()
        (image,) = (each["image"] for each in found if "image" in each)
        height, width, _ = map(int, image["shape"]["dimensions"])
        return height, width
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def catalogue() -> list[str]:
    """Returns the names that TFDS can prepare."""
    import tensorflow_datasets as tfds

    return list(tfds.list_builders(with_community_datasets=False))


def prepare(spec: Spec, root: Path, size: tuple[int, int] | None = None) -> str | None:
    """Downloads a dataset and prepares it below `root` as array_record, with TensorFlow.

    Returns:
      None, or the reason of the failure in one line.

    Raises:
      UserError: it is no image classification dataset; found before the download.
    """
    import tensorflow_datasets as tfds

    try:
        _decode.find_keys(spec.title, tfds.builder(str(spec), data_dir=root).info, size)
    except UserError:
        raise
    except Exception as error:  # a version or configuration that TFDS does not have, for one
        return _decode.one_line(error)
    script = Path(__file__).with_name("prepare.py")
    child = subprocess.run(
        [sys.executable, "-P", script, str(spec), root], stdout=subprocess.PIPE, text=True
    )
    if child.returncode == 0:
        return None
    reasons = child.stdout.strip().splitlines() or [f"exit status {child.returncode}"]
    return reasons[-1]


def _versions(folder: Path, version: str | None) -> list[Path]:
    """Returns the folders of the prepared versions in `folder`, oldest first."""
    found = [
        path
        for path in _children(folder)
        if _VERSION.fullmatch(path.name)
        and version in (None, path.name)
        and (path / "features.json").is_file()
        and (path / "dataset_info.json").is_file()
    ]
    return sorted(found, key=lambda path: tuple(map(int, path.name.split("."))))


def _children(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []
