"""A folder of images, flat or in folders by class, and in folders by part above these."""

import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, NamedTuple

from jaxinv.errors import UserError
from jaxinv.inputs import images, parts
from jaxinv.inputs.encoded import Encoded
from jaxinv.store import files


class Folder(NamedTuple):
    """The image files of a folder, by their path inside it, and how many other files are there."""

    place: Path
    paths: dict[str, Path]
    num_others: int


def find(place: Path) -> Folder:
    """Lists the images of a folder; hidden files and folders do not count.

    Raises:
      UserError: there are none; the message continues a sentence about the folder.
    """
    paths, num_others = {}, 0
    for path in _files(place):
        if path.suffix.lower() in images.SUFFIXES:
            paths[path.relative_to(place).as_posix()] = path
        else:
            num_others += 1
    if not paths:
        raise UserError(
            f"has no images ({', '.join(images.SUFFIXES)}) among {num_others} files; expected some."
        )
    return Folder(place, dict(sorted(paths.items())), num_others)


def _files(place: Path) -> Iterator[Path]:
    """Yields the files below a folder that are not hidden."""
    seen: set[tuple[int, int]] = set()  # folders, which links may lead to again
    for folder, folders, names in os.walk(place, followlinks=True, onerror=_refuse):
        told = os.stat(folder)
        again = (told.st_dev, told.st_ino) in seen
        seen.add((told.st_dev, told.st_ino))
        folders[:] = [] if again else sorted(name for name in folders if not name.startswith("."))
        if not again:
            yield from (Path(folder, name) for name in names if not name.startswith("."))


def _refuse(error: OSError) -> None:
    raise UserError(f"has {error.filename}, which cannot be read: {files.reason(error)}.")


def listing(found: Folder) -> tuple[list[Encoded], list[str]]:
    """Returns the images, and the names of their classes.

    Raises:
      UserError: some images lie in folders of classes and others do not, or parts are missing; the
        message continues a sentence about the folder.
    """
    placed = _placed(found.paths)
    classes = sorted({name for _, _, name in placed if name is not None})
    outside = next((path for path, _, name in placed if name is None), None)
    if classes and outside is not None:
        raise UserError(
            f"has the folders {', '.join(classes[:10])} by class, and {outside} in none of them; "
            "expected all images in folders by class, or none."
        )
    numbers = {name: number for number, name in enumerate(classes)}
    encoded = [
        Encoded(str(path), partial(_open, path), part, None if name is None else numbers[name])
        for path, part, name in placed
    ]
    return encoded, classes


def _placed(paths: dict[str, Path]) -> list[tuple[Path, str | None, str | None]]:
    """Returns the path of each image, its part as `parts.named` has them, and its class or None."""
    steps = {path: name.split("/") for name, path in paths.items()}
    top = {first for first, *rest in steps.values() if rest}
    if not _are_parts(top):
        return [
            (path, None, folders[0] if folders else None) for path, (*folders, _) in steps.items()
        ]
    known = parts.named(top)
    outside = next((path for path, names in steps.items() if len(names) == 1), None)
    if outside is not None:
        raise UserError(
            f"has the parts {', '.join(sorted(top))}, and {outside} in none of them; expected all "
            "images in parts, or none."
        )
    return [
        (path, known[part], folders[0] if folders else None)
        for path, (part, *folders, _) in steps.items()
        if part in known
    ]


def _are_parts(names: set[str]) -> bool:
    """Tells whether folders are parts; classes may have such names, too, but not all of them."""
    return bool(names) and ("test" in names or names <= set(parts.NAMES))


def _open(path: Path) -> IO[bytes]:
    return path.open("rb")
