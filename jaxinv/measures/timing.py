"""Edges timed on this machine, and kept in the work folder. JAX.

The fastest run counts: whatever else a machine does makes a run slower, never faster. Edges are
timed in turn, in several rounds, so that what disturbs one round spoils no edge.
"""

import functools
import itertools
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tqdm import tqdm

from jaxinv.machine import environment, hosts, source
from jaxinv.measures import costs
from jaxinv.measures.profiles import Profile, device
from jaxinv.networks import Network, Params
from jaxinv.store import kept, records

_ROUNDS = 3
_RUNS, _SECONDS = 15, 0.1  # of each edge in a round, at least


def on_this_machine(
    profile: Profile,
    network: Network,
    params: Params,
    workdir: str,
    *,
    cuts: Sequence[str] = (),
    rerun: bool = False,
) -> Profile:
    """Returns a profile with the times of a network's edges on this machine, in place of its own.

    A run that is stopped and started again goes on with the next edge.

    Args:
      profile: of all but the edge's times.
      network: the whole.
      params: its parameters.
      workdir: folder to keep the times in.
      cuts: names of cuts beside the default ones.
      rerun: whether to time all edges again.
    """
    facts = environment.facts()
    known = {
        "network": network.fingerprint,
        "code": source.digest(__name__),
        **facts,
        **environment.numeric_mode(),
    }
    path = Path(workdir) / "learned" / f"times-{records.config_hash(known)}.json"
    names = costs.cuts_with(network, cuts)
    find = functools.partial(_times, network, params, names, path, rerun)
    return device.timed(
        profile,
        hosts.first(find),
        name=device.THIS,
        where=f"on this machine ({facts['device']})",
        how=(
            f"fastest of at least {_ROUNDS * _RUNS} runs of one image, in {_ROUNDS} rounds over "
            f"all edges, each compiled by XLA "
            f"(jax {facts['versions']['jax']}) for {facts['device']}"
        ),
    )


def _times(
    network: Network, params: Params, cuts: Sequence[str], path: Path, rerun: bool
) -> dict[str, float]:
    found = None if rerun else kept.read(path, _are_times, "times of edges")
    found = found or {}
    rounds = itertools.product(range(1, _ROUNDS + 1), cuts)
    waiting = [cut for number, cut in rounds if len(found.get(cut, [])) < number]
    for cut in tqdm(waiting, "edges", unit="run", disable=None, leave=False):
        found.setdefault(cut, []).append(seconds(network.split(cut)[0], params))
        kept.write(path, found)
    return {cut: min(found[cut]) for cut in cuts}


def _are_times(found: Any) -> bool:
    """Tells whether a file holds seconds of runs by cut, `{cut: [seconds, ...]}`."""
    return isinstance(found, dict) and all(
        isinstance(own, list) and all(isinstance(one, float) and 0 < one < math.inf for one in own)
        for own in found.values()
    )


def seconds(edge: Network, params: Params) -> float:
    """Measures the fastest run of one image through an edge, compiled, on this machine."""
    image = np.full((1, *edge.input_shape), 0.5, np.float32)
    own, run = jax.device_put(edge.select(params)), _program(edge)
    jax.block_until_ready(run(own, image))
    took: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(took) < _RUNS or time.perf_counter() < end:
        began = time.perf_counter()
        jax.block_until_ready(run(own, image))
        took.append(time.perf_counter() - began)
    return min(took)


@functools.lru_cache(maxsize=256)  # compiled once for all rounds
def _program(edge: Network) -> Callable[[Params, np.ndarray], jax.Array]:
    return jax.jit(edge.apply)
