"""Cuts of a network: where it can be split, what crosses there, and what the edge computes.

Lists the places where a layer or module ends and one array crosses, or all places. That edge and
cloud together give the network's output is checked; and of FILE.onnx, where onnxruntime is
installed, that it gives the same. The names are those that --split takes.

  jaxinv cuts --network=lenet5
  jaxinv cuts --network=model.py:build --all
  jaxinv cuts --network=model.onnx --json
  jaxinv cuts --network=model.onnx --dataset=photos
"""

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from typing import Any

import jax

from jaxinv.errors import UsageError
from jaxinv.look.terminal import aligned, heading
from jaxinv.measures import crossing
from jaxinv.measures.crossing import Crossing
from jaxinv.networks import Network, Params, loading
from jaxinv.networks.loading import Model
from jaxinv.studies import scenes
from jaxinv.studies.config import DataConfig
from jaxinv.studies.experiment import Experiment, setting

_OF_DATA = ("dataset", "data_dir", "image_size", "network", "mean", "std")
_PREFIXES = ("", "k", "M", "G", "T")


@dataclasses.dataclass(frozen=True)
class ListingConfig:
    """Settings of a list of cuts."""

    network: str | None = setting(
        None,
        "The network, as for other experiments. By default the paper's for --dataset, else lenet5.",
    )
    dataset: str | None = setting(
        None,
        "Data for whose images and classes a network of the zoo is built, and which another must "
        "take.",
    )
    data_dir: str | None = setting(None, "Folder of prepared TFDS datasets.", is_path=True)
    image_size: str | None = setting(None, "HxW of the images, as for other experiments.")
    mean: tuple[float, ...] | None = setting(None, "Preprocessing, as for other experiments.")
    std: tuple[float, ...] | None = setting(None, "See --mean.")
    input_shape: str | None = setting(
        None, "HxWxC of the images for which a network of the zoo is built, without a dataset."
    )
    all: bool = setting(False, "List every place, those where several arrays cross among them.")
    json: bool = setting(False, "Print one JSON object and nothing else.")


def run(config: ListingConfig) -> Sequence[dict[str, Any]]:
    """Prints the list; leaves no record."""
    model = find(config)
    network = model.network
    names = network.all_cuts if config.all else network.cuts
    found = crossing.crossings(network, names)
    params = network.init(jax.random.key(0)) if model.params is None else model.params
    compared, apart = crossing.compare(network, params, names)
    elsewhere = _of_runtime(config, network, params)
    if config.json:
        told = {
            "network": model.name,
            "fingerprint": network.fingerprint,
            "input_shape": list(network.input_shape),
            "compared": {"cuts": compared, "difference": apart, "onnxruntime": elsewhere},
            "cuts": [each.fields for each in found],
        }
        print(json.dumps(told))
        return ()
    print(
        f"{model.name}: images {_spelled(network.input_shape)}, fingerprint {network.fingerprint}"
    )
    print("\n".join(_table(found)))
    left = len(network.all_cuts) - len(found)
    more = f" Another {left} places are listed by --all." if left else ""
    print(
        f"Edge and cloud together give the network's output at {compared} of these {len(found)} "
        f"cuts, and so do all parts in turn (largest difference {apart:.1e} of it).{more}"
    )
    if elsewhere is not None:
        print(f"onnxruntime's output of a random image differs by {elsewhere:.1e} of it at most.")
    return ()


def find(config: ListingConfig) -> Model:
    """Returns the network whose cuts are listed.

    Raises:
      UserError: it cannot be had, or does not take the data; the message names the argument.
    """
    shape = _shape(config.input_shape)
    if config.dataset is not None:
        asked = DataConfig(**{each: getattr(config, each) for each in _OF_DATA})
        model = scenes.data_and_model(asked, announce=_say)[1]
    elif config.image_size is not None:
        raise UsageError(f"image_size={config.image_size}: expected dataset, too.")
    else:
        name = config.network or (loading.default(shape, 10).name if shape else "lenet5")
        model = loading.load(name, shape, mean=config.mean, std=config.std)
    if shape not in (None, model.network.input_shape):
        raise UsageError(
            f"input_shape={config.input_shape}: network={model.name} takes images of "
            f"{_spelled(model.network.input_shape)}."
        )
    if model.note:
        _say(model.note)
    return model


def _of_runtime(config: ListingConfig, network: Network, params: Params) -> float | None:
    """Returns how far onnxruntime's output of an ONNX file is; None where nothing is compared."""
    file = config.network and loading.onnx_of(config.network)
    if not file:
        return None
    from jaxinv.networks.onnx import runtime  # here: to import onnx takes half a second

    return runtime.difference(file[0], network, params, file[1])


def _shape(text: str | None) -> tuple[int, ...] | None:
    if text is None:
        return None
    parts = text.lower().split("x")
    if not all(part.isascii() and part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"input_shape={text}: expected HxWxC, such as 32x32x3.")
    return tuple(map(int, parts))


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _table(found: Sequence[Crossing]) -> list[str]:
    rows = [("cut", "crosses", "float32", "int8", "FLOPs so far", "parameters", "")]
    for each in found:
        notes = ["bottleneck"] * each.is_bottleneck + ["several arrays"] * (each.kind != "single")
        crosses = " + ".join(map(_spelled, each.wire.shapes))
        sizes = (_amount(4 * each.wire.size, "B"), _amount(each.wire.size, "B"))
        work = (_amount(each.flops, ""), f"{each.params:,}")
        rows.append((each.name, crosses, *sizes, *work, ", ".join(notes)))
    heads, *others = aligned(rows, numbers=range(2, 6))
    return [heading(heads), *others]


def _amount(value: float, unit: str) -> str:
    """Returns a number in thousands, millions and so on of a unit."""
    power = min(int(math.log10(max(value, 1)) // 3), len(_PREFIXES) - 1)
    return f"{value / 1000**power:.4g} {_PREFIXES[power]}{unit}".rstrip()


def _spelled(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "1"


EXPERIMENT = Experiment("cuts", ListingConfig, run, __doc__)
