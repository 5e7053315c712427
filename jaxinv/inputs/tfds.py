"""Prepared TFDS datasets on disk: find them, identify them, prepare new ones.

Finding and identifying a dataset needs file names and hashes alone, and no
`tensorflow_datasets`, so that a dataset whose decoded arrays are cached loads fast.
"""

import hashlib
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import decode as _decode
from jaxinv.inputs import stamps

_NAME = re.compile(r"(?P<name>\w+)(/(?P<config>[\w.-]+))?(:(?P<version>\d+\.\d+\.\d+))?")
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
    match = _NAME.fullmatch(text)
    if match is None:
        raise UsageError(
            f"dataset={text}: expected mnist, cifar10, mnist_5k or a TFDS name, "
            "name[/config][:version]."
        )
    return Spec(**match.groupdict())


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
    """Returns 16 hex digits that identify the files of a prepared dataset by their content.

    Files are read whole only if the name, size, times or sampled blocks of one changed since they
    were read before.

    Args:
      folder: of the dataset.
      memory: folder that remembers digests.
    """
    paths = sorted(path for path in folder.iterdir() if path.is_file())
    seen = {path.name: stamps.sample(path) for path in paths}
    settled = stamps.are_settled(seen.values())
    name = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    known = stamps.remembered(memory / f"{name}.json")
    if isinstance(known, dict) and known.get("seen") == seen and "digest" in known:
        return known["digest"]
    total = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total.update(f"{path.name} {content}\n".encode())
    found = total.hexdigest()[:16]
    if settled:
        stamps.remember(memory / f"{name}.json", {"seen": seen, "digest": found})
    return found


def catalogue() -> list[str]:
    """Returns the names that TFDS can prepare."""
    import tensorflow_datasets as tfds

    return list(tfds.list_builders(with_community_datasets=False))


def prepare(spec: Spec, root: Path) -> str | None:
    """Downloads a dataset and prepares it below `root` as array_record, with TensorFlow.

    Returns:
      None, or the reason of the failure in one line.

    Raises:
      UserError: it is no image classification dataset; found before the download.
    """
    import tensorflow_datasets as tfds

    try:
        _decode.find_keys(spec.title, tfds.builder(str(spec), data_dir=root).info)
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
