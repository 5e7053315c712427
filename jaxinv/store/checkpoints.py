"""Trees of arrays on disk, as safetensors: no code is ever loaded. NumPy at the boundary.

A file holds `{path of the leaf: array}` and text metadata, and a checksum of all of that. It is
written whole or not at all.
"""

import hashlib
import os
from collections.abc import Mapping
from typing import Any

import jax
import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as to_bytes

from jaxinv.errors import DamagedError, UserError
from jaxinv.machine import hosts, rows
from jaxinv.store.files import atomic_write

_CHECKSUM = "checksum"  # in the metadata of a file; those of old have none


def _leaves_by_path(tree: Any) -> dict[str, Any]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): leaf for path, leaf in leaves}


def save(
    path: str | os.PathLike[str], tree: Any, *, metadata: Mapping[str, str] | None = None
) -> None:
    """Writes a tree of arrays, atomically.

    Args:
      path: of the file.
      tree: any pytree of arrays whose leaves have distinct paths.
      metadata: text to keep beside the arrays.

    Raises:
      UserError: the file cannot be written.
    """
    # A leaf may be a strided view; the format stores bytes as they lie.
    arrays = {name: np.array(leaf, order="C") for name, leaf in _leaves_by_path(tree).items()}
    texts = dict(metadata or {})
    content = to_bytes(arrays, metadata={**texts, _CHECKSUM: _checksum(arrays, texts)})
    atomic_write(path, lambda file: file.write(content))


def read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads `{path of the leaf: array}` and the metadata; of several hosts, the first does.

    Raises:
      UserError: there is no such file, or it cannot be opened.
      DamagedError: it is truncated, not what was written, or of another format.
    """
    arrays, metadata = hosts.first(lambda: _read(path))
    return arrays, metadata


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    if not os.path.isfile(path):  # Path's would raise where a name is too long
        what = "a folder, and no such checkpoint" if os.path.isdir(path) else "no such checkpoint"
        raise UserError(f"{path}: {what}.")
    try:
        with safe_open(path, framework="numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            texts = file.metadata() or {}
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (SafetensorError, OSError, ValueError, TypeError, AttributeError) as error:
        why = " ".join(str(error).split())
        raise DamagedError(path, f"not a readable checkpoint, or truncated ({why})") from error
    if texts.pop(_CHECKSUM, None) not in (None, _checksum(arrays, texts)):
        raise DamagedError(path, "a checkpoint with another checksum")
    return arrays, texts


def load(path: str | os.PathLike[str], like: Any) -> tuple[Any, dict[str, str]]:
    """Reads a tree of the structure and the shapes of `like`, and the metadata.

    Args:
      path: of a file that `save` wrote.
      like: a pytree of arrays or of `jax.ShapeDtypeStruct`.

    Raises:
      UserError: the file is missing, cannot be opened, or holds other arrays than `like`.
      DamagedError: it is damaged.
    """
    arrays, metadata = read(path)
    return as_tree(arrays, like, path), metadata


def as_tree(arrays: Mapping[str, np.ndarray], like: Any, path: str | os.PathLike[str]) -> Any:
    """Returns the arrays of a file as a tree of the structure and the shapes of `like`.

    Raises:
      UserError: they are others than `like`'s.
    """
    expected = _leaves_by_path(like)
    different = [
        name
        for name in sorted(set(expected) | set(arrays))
        if name not in arrays
        or name not in expected
        or arrays[name].shape != tuple(expected[name].shape)
        or arrays[name].dtype != expected[name].dtype
    ]
    if different:
        name = different[0]
        found = (
            f"holds {arrays[name].dtype}{list(arrays[name].shape)}"
            if name in arrays
            else "lacks it"
        )
        wanted = (
            f"expects {expected[name].dtype}{list(expected[name].shape)}"
            if name in expected
            else "has no such array"
        )
        raise UserError(
            f"{path}: a checkpoint of another model ({name}: the file {found}, the model {wanted})."
        )
    leaves = [arrays[name] for name in expected]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def _checksum(arrays: Mapping[str, np.ndarray], texts: Mapping[str, str]) -> str:
    digest = hashlib.sha256(fingerprint(dict(arrays)).encode())
    for name, text in sorted(texts.items()):
        digest.update(f"{len(name)} {name} {len(text)} {text}".encode())
    return digest.hexdigest()[:12]


def fingerprint(tree: Any) -> str:
    """12 hexadecimal digits that identify the arrays of a tree, and their names."""
    digest = hashlib.sha256()
    for name, leaf in sorted(_leaves_by_path(tree).items()):
        array = leaf if rows.are_made(leaf) else np.asarray(leaf)
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        for block in rows.blocks(array):  # may be mapped
            digest.update(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data)
    return digest.hexdigest()[:12]
