"""Accuracy of targets on the test split: measured, never read from a target's own file. JAX.

What was measured is kept in the cache, by the content of network, parameters, images and labels,
and by what computes: devices and numeric modes round differently.
"""

import contextlib
from pathlib import Path

import jax
import numpy as np

from jaxinv.errors import UserError
from jaxinv.inputs.places import cache_root
from jaxinv.inputs.samples import Samples
from jaxinv.machine import environment, hosts
from jaxinv.networks import Network, Params
from jaxinv.store import checkpoints, files
from jaxinv.training import classification

_NAME = "accuracy"


def fingerprint(network: Network, params: Params) -> str:
    """Returns 12 hex digits that identify a network and its parameters."""
    digits = np.frombuffer(bytes.fromhex(network.fingerprint), np.uint8)
    return checkpoints.fingerprint({"network": digits, "params": params})


def accuracy(network: Network, params: Params, samples: Samples) -> float:
    """Returns the share of samples that a network classifies correctly, measured once.

    Args:
      network: returns one logit a class.
      params: its parameters.
      samples: images and labels.
    """
    known = {"pixels": samples.pixels, "labels": samples.labels}
    mode = {"platform": jax.default_backend(), **environment.numeric_mode()}
    computed = checkpoints.fingerprint(mode)
    key = f"{fingerprint(network, params)}-{checkpoints.fingerprint(known)}-{computed}"
    path = cache_root() / "accuracies" / f"{key}.safetensors"
    kept: float | None = hosts.first(lambda: _kept(path))
    if kept is not None:
        return kept
    hosts.first(lambda: files.clear(path.parent))
    found = classification.accuracy(network, params, samples)
    with contextlib.suppress(UserError):  # a cache that cannot be written costs time alone
        checkpoints.save(path, {_NAME: np.float64(found)})
    return found


def _kept(path: Path) -> float | None:
    """Returns what was measured before; None where that cannot be read."""
    if not path.is_file():
        return None
    try:
        arrays, _ = checkpoints.read(path)
    except UserError:  # damaged, or not ours to open
        return None
    found = arrays.get(_NAME)
    if found is None or found.shape != () or found.dtype != np.float64:
        return None
    return float(found) if 0 <= float(found) <= 1 else None
