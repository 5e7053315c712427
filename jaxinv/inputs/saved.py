"""A folder that `save_to_disk` of Hugging Face's `datasets` has left: its arrow files, read alone.

Needs `pyarrow` and not `datasets`. The folder has one table, or several with `dataset_dict.json`.
"""

import importlib.util
import io
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

from jaxinv.errors import UserError
from jaxinv.inputs import parts
from jaxinv.inputs.encoded import Encoded

if TYPE_CHECKING:
    import pyarrow as pa

_SEVERAL, _STATE, _INFO = "dataset_dict.json", "state.json", "dataset_info.json"


class Columns(NamedTuple):
    """Names of the columns of images and labels, and of the classes; no label is None."""

    image: str
    label: str | None
    classes: tuple[str, ...]


def is_one(place: Path) -> bool:
    """Returns True of a folder that `save_to_disk` has made."""
    return (place / _SEVERAL).is_file() or all((place / name).is_file() for name in (_STATE, _INFO))


def files(place: Path) -> dict[str, Path]:
    """Returns the files that tell the data, by their path inside the folder."""
    found = [path for kind in ("*.json", "*.arrow") for path in place.rglob(kind)]
    return {path.relative_to(place).as_posix(): path for path in found if path.is_file()}


def listing(place: Path) -> tuple[list[Encoded], list[str]]:
    """Returns the images, and the names of their classes.

    Raises:
      UserError: `pyarrow` is missing, or the folder is no such dataset of images; the message
        continues a sentence about the folder.
    """
    if importlib.util.find_spec("pyarrow") is None:
        raise UserError(
            "is a Hugging Face dataset, which only pyarrow reads: install jaxinv[huggingface]."
        )
    try:
        tables = _tables(place)
        known = parts.named(tables)
        columns = {_columns(folder) for name, folder in tables.items() if name in known}
        if len(columns) != 1:
            raise UserError("has splits of different features; expected the same.")
        (names,) = columns
        encoded = [
            each for name, part in known.items() for each in _rows(tables[name], name, part, names)
        ]
    except UserError:
        raise
    except Exception as error:  # JSON and Arrow raise many kinds
        raise UserError(f"cannot be read as a Hugging Face dataset: {_line(error)}.") from error
    if not encoded:
        raise UserError("has no images; at least 1 is needed.")
    return encoded, list(names.classes)


def _tables(place: Path) -> dict[str, Path]:
    """Returns the folder of each split."""
    if not (place / _SEVERAL).is_file():
        return {"": place}
    splits = json.loads((place / _SEVERAL).read_text("utf-8"))["splits"]
    return {name: place / name for name in splits}


def _columns(folder: Path) -> Columns:
    features = json.loads((folder / _INFO).read_text("utf-8"))["features"]
    kinds = {name: each.get("_type") for name, each in features.items() if isinstance(each, dict)}
    pictures = [name for name, kind in kinds.items() if kind == "Image"]
    labels = [name for name, kind in kinds.items() if kind == "ClassLabel"]
    if not pictures:
        raise UserError(f"has the features {', '.join(features)}; one of type Image is needed.")
    image = "image" if "image" in pictures else pictures[0]
    if not labels:
        return Columns(image, None, ())
    label = "label" if "label" in labels else labels[0]
    return Columns(image, label, tuple(features[label]["names"]))


def _rows(folder: Path, split: str, part: str | None, columns: Columns) -> Iterator[Encoded]:
    """Yields the images of a split; its files are mapped, not read."""
    state = json.loads((folder / _STATE).read_text("utf-8"))
    if state.get("_indices_files"):
        raise UserError("keeps indices beside its rows: save it again after flatten_indices().")
    number = 0
    for each in state["_data_files"]:
        for batch in _batches(folder / each["filename"]):
            pictures = batch.column(columns.image)
            labels = batch.column(columns.label).to_pylist() if columns.label else None
            for row in range(batch.num_rows):
                label = None if labels is None else _label(labels[row], columns, split, number)
                where = f"{split}[{number}]" if split else f"row {number}"
                yield Encoded(where, partial(_file, pictures, row), part, label)
                number += 1


def _batches(path: Path) -> Iterator["pa.RecordBatch"]:
    import pyarrow as pa

    with pa.ipc.open_stream(pa.memory_map(str(path))) as reader:
        yield from reader


def _label(value: Any, columns: Columns, split: str, number: int) -> int:
    if value is None or not 0 <= value < len(columns.classes):
        raise UserError(
            f"has the {columns.label} {value} in {split}[{number}]; expected 0 to "
            f"{len(columns.classes) - 1}."
        )
    return value


def _file(pictures: "pa.Array", row: int) -> IO[bytes]:
    stored = pictures[row].as_py() or {}
    if not stored.get("bytes"):
        raise UserError("has no bytes of its own; expected the image, not a path to it.")
    return io.BytesIO(stored["bytes"])


def _line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:200]}"
