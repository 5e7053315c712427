"""Networks as a command line names them: of the zoo, of a Python file or module, of ONNX. JAX.

A builder takes nothing. It returns a `Network`; a network and its parameters; or `(apply,
variables, input_shape)` with `apply(variables, x [N, ...])` and the shape of one example.
"""

import dataclasses
import difflib
import functools
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np

from jaxinv.errors import UsageError, UserError
from jaxinv.machine import own_code
from jaxinv.networks import arguments, zoo
from jaxinv.networks.modules import from_function, from_linen
from jaxinv.networks.network import Network, Params

_SPELLINGS = "a name of the zoo, FILE.py:function, package.module:function or FILE.onnx[:OUTPUT]"
_RETURNS = "a Network, (Network, params), or (apply, variables, input_shape)"

Constants = Sequence[float] | None


class Model(NamedTuple):
    """A network that was asked for.

    Attributes:
      name: as it was spelled.
      network: the whole of it.
      params: with which it comes; None where it is to be trained.
      note: a line about it that people should know; "" for none.
    """

    name: str
    network: Network
    params: Params | None = None
    note: str = ""

    @property
    def short_name(self) -> str:
        """Name for folders and tables: of the zoo, or of the function, or of the file."""
        place, _, function = self.name.rpartition(":")
        last = Path(place or function).name
        stem = last.removesuffix(".py").removesuffix(".onnx")
        return arguments.safe_name(f"{stem}.{function}" if place else stem)

    @property
    def facts(self) -> dict[str, str]:
        """Returns what a record says of it."""
        return {"name": self.name, "fingerprint": self.network.fingerprint}


def default(image_shape: tuple[int, ...], num_classes: int) -> Model:
    """Returns the usual network for inputs of a shape, `(H, W, C)`.

    Raises:
      UserError: there is none.
    """
    name = zoo.name_for(image_shape)
    return Model(name, zoo.build(name, image_shape, num_classes))


def load(
    spelling: str,
    image_shape: tuple[int, ...] | None = None,
    num_classes: int | None = None,
    *,
    mean: Constants = None,
    std: Constants = None,
) -> Model:
    """Loads a network.

    Args:
      spelling: a name of the zoo, `FILE.py:function`, `package.module:function`, `FILE.onnx`, or
        `FILE.onnx:OUTPUT`, where it has several.
      image_shape, num_classes: for which a network of the zoo is built; others have their own.
      mean, std: preprocessing, for each channel or one for all, of a network that brings none.

    Raises:
      UsageError: it spells no network, or mean and std do not fit.
      UserError: its author's code fails, or it is no network that can be cut.
    """
    if is_in_zoo(spelling):
        found = Model(spelling, zoo.build(spelling, image_shape, num_classes))
    else:
        path, _ = _parts(spelling)
        found = _built(spelling, str(path and path.resolve()), own_code.digest(path))
    return _normalized(found, mean, std)


def is_in_zoo(spelling: str) -> bool:
    """Tells whether a name is one of the zoo's, whose networks are built for the images.

    Raises:
      UsageError: it spells no network.
    """
    if spelling in zoo.ENTRIES:
        return True
    if ":" in spelling or spelling.endswith((".onnx", ".py")):
        return False
    close = difflib.get_close_matches(spelling, zoo.ENTRIES, n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise UsageError(
        f"network={spelling}: expected {_SPELLINGS}{hint}; the zoo has {', '.join(zoo.ENTRIES)}."
    )


def _normalized(model: Model, mean: Constants, std: Constants) -> Model:
    """Adds preprocessing to a network that brings none."""
    if mean is None and std is None:
        return model
    if model.network.mean is not None:
        told = "mean" if mean is not None else "std"
        value = ",".join(map(str, (mean if mean is not None else std) or ()))
        raise UsageError(f"{told}={value}: network={model.name} brings its own preprocessing.")
    constants = arguments.check_normalization(model.network.input_shape, mean, std)
    network = dataclasses.replace(model.network, mean=constants[0], std=constants[1])
    return model._replace(network=network)


def _parts(spelling: str) -> tuple[Path | None, str]:
    """Returns the file that a spelling names, if it does, and what to call there.

    Raises:
      UsageError: there is no such file, or no function is named.
    """
    if ".onnx" not in spelling:
        return own_code.place("network", spelling)
    place, function = spelling, ""
    if ".onnx:" in spelling:  # names of outputs, such as "Identity:0", may have colons
        place, function = re.split("(?<=[.]onnx):", spelling, maxsplit=1)
    path = Path(os.path.expanduser(place))
    if not path.is_file():
        raise UsageError(f"network={spelling}: there is no file {place} in {Path.cwd()}.")
    return path, function


def forget() -> None:
    """Lets networks be built again: their functions may read files that have changed."""
    _built.cache_clear()
    own_code.forget()


def onnx_of(spelling: str) -> tuple[Path, str | None] | None:
    """Returns the ONNX file and the output that a spelling names; None if it names none.

    Raises:
      UsageError: there is no such file.
    """
    if is_in_zoo(spelling):
        return None
    path, output = _parts(spelling)
    return (path, output or None) if path is not None and path.suffix == ".onnx" else None


@functools.lru_cache(maxsize=16)  # within a run, programs are traced once
def _built(spelling: str, path: str, digest: str) -> Model:
    """Builds a network from a file of this content, or from a module."""
    file, function = _parts(spelling)
    if file is not None and file.suffix == ".onnx":
        return _from_onnx(spelling, file, function)
    build, code = own_code.value("network", spelling, file, function)
    with own_code.importable(file), own_code.guarded("network", spelling, code):
        return _as_model(spelling, build())


def _from_onnx(spelling: str, file: Path, output: str) -> Model:
    from jaxinv.networks.onnx import importer  # here: to import onnx takes half a second

    try:
        network, params, graph = importer.network(file, None, None, output or None)
    except UserError as error:
        raise type(error)(f"network={spelling}: {error}") from error
    note = ""
    if len(graph.outputs) > 1 and not output:
        note = (
            f"network={spelling}: of its outputs {', '.join(graph.outputs)} it is cut on the way "
            f"to {graph.output}; network={spelling}:OUTPUT takes another."
        )
    return Model(spelling, network, params, note)


def _as_model(spelling: str, made: Any) -> Model:
    """Reads what a builder returned.

    Raises:
      UserError: it is none of what is expected, or no network that can be cut.
    """
    if isinstance(made, Network):
        return Model(spelling, made)
    parts = made if isinstance(made, tuple | list) else ()
    network, params = _parted(*parts) if len(parts) in (2, 3) else (None, None)
    if network is None:
        raise UserError(f"the function returns {_kind(made)}: expected {_RETURNS}.")
    if not all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(params)):
        raise UserError("its parameters are not all finite.")
    return Model(spelling, network, params)


def _parted(first: Any, params: Any, shape: Any = None) -> tuple[Network | None, Params]:
    """Returns network and parameters of several parts; None if they are none."""
    if shape is None and isinstance(first, Network) and isinstance(params, Mapping):
        first.check(params)
        return first, params
    if shape is not None and isinstance(first, nn.Module):
        return from_linen(first, params, shape)
    if shape is not None and callable(first):
        return from_function(first, params, shape)
    return None, params


def _kind(made: Any) -> str:
    if isinstance(made, tuple):
        return f"({', '.join(type(each).__name__ for each in made)})"
    return type(made).__name__
