"""What a split costs: computing, memory, bytes sent, and with a device's profile time and energy.

Of one image, in base units: FLOPs, bytes, seconds, joules. A FLOP is one arithmetic operation; a
multiplication and an addition are two. FLOPs are counted by the compiler, of the convolutions as
the network defines them, whatever form this machine would compute them in.
"""

import dataclasses
import math
import time
import tomllib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv.errors import UsageError
from jaxinv.networks import Network, Params
from jaxinv.networks.convolution import computed_as

_FLOAT = 4  # bytes


class CutCost(NamedTuple):
    """What a cut asks of the edge and of the wire, for one image.

    Attributes:
      split: the last layer on the edge, "cloud-only" or "edge-only".
      edge_flops, cloud_flops: arithmetic on either side.
      edge_parameters: how many the device holds.
      parameter_bytes: of these, as float32.
      activation_bytes: at the peak, computing layer by layer: what goes into a layer and what comes
        out of it; elementwise layers work in place.
      features: shape of what is sent, of one image; empty where nothing is.
      sent_bytes: of that, undefended: float32, or of an image 8-bit pixels.
    """

    split: str
    edge_flops: float
    cloud_flops: float
    edge_parameters: int
    parameter_bytes: int
    activation_bytes: int
    features: tuple[int, ...]
    sent_bytes: int

    @property
    def memory_bytes(self) -> int:
        """Parameters and activations on the device."""
        return self.parameter_bytes + self.activation_bytes


def split_costs(network: Network, params: Params | None = None) -> list[CutCost]:
    """The cost of every way to divide a network, from nothing on the edge to all of it.

    Args:
      network: the whole.
      params: its parameters, whose shapes alone matter; fresh ones by default.
    """
    if params is None:
        params = jax.eval_shape(network.init, jax.random.key(0))
    total = _flops(network, params)
    pixels = math.prod(network.input_shape)
    rows = [CutCost("cloud-only", 0.0, total, 0, 0, pixels, network.input_shape, pixels)]
    peak, inputs, before = 0, _FLOAT * pixels, 0
    for cut in network.cuts:
        edge, _ = network.split(cut)
        outputs = _FLOAT * math.prod(network.shapes[cut])
        count = sum(leaf.size for leaf in jax.tree.leaves(edge.select(params)))
        in_place = count == before and outputs == inputs
        peak = max(peak, outputs if in_place else inputs + outputs)
        inputs, before = outputs, count
        done = _flops(edge, params)
        # What the halves do together is what the whole does.
        rows.append(
            CutCost(
                cut,
                done,
                max(0.0, total - done),
                count,
                _FLOAT * count,
                peak,
                network.shapes[cut],
                outputs,
            )
        )
    whole = rows[-1]
    return [*rows, whole._replace(split="edge-only", cloud_flops=0.0, features=(), sent_bytes=0)]


def _flops(network: Network, params: Params) -> float:
    image = jax.ShapeDtypeStruct((1, *network.input_shape), jnp.float32)
    # For the CPU: the backends of GPUs and TPUs analyse no program before it is compiled, and then
    # the convolutions in it are calls that are not counted.
    with computed_as("lax"), jax.default_device(jax.devices("cpu")[0]):
        # A function of its own: what was traced in another form is not taken for it.
        run = jax.jit(lambda params, x: network.apply(params, x))
        analysis: Any = run.lower(network.select(params), image).cost_analysis()
    return float(analysis.get("flops", 0.0))  # nothing is said of a program without arithmetic


def sent_bytes(shape: Sequence[int], defense: Mapping[str, Any]) -> int:
    """Bytes on the wire for the features of one image, behind a defence.

    Values are float32, but for what a defence at the features allows; of several, the least:

    * `quantize` to b bits: b a value, and the least and the greatest value;
    * `prune`, `dropout`: a bit for each value, and those that are left (of dropout, on average);
    * `project`: a value for each dimension that is left.

    Noise, a projection and what is not known give every value anew: what came before saves nothing.
    Neither does a projection before one of the others. Zeros among values that were quantised are
    told by a bit for each.

    Args:
      shape: of the features.
      defense: `{kind, site, level}`, as `Defense.describe` has it.
    """
    count = math.prod(shape)
    dense = _FLOAT * count
    kinds = str(defense["kind"]).split("+")
    levels = defense["level"] if isinstance(defense["level"], list) else [defense["level"]]
    sites = str(defense["site"]).split("+")
    sites = sites * len(kinds) if len(sites) == 1 else sites
    options = {"dense": dense}
    for kind, site, level in zip(kinds, sites, levels, strict=True):
        if site != "feature" or not level or kind == "nopeek":
            continue
        if kind in ("quantize", "prune", "dropout"):
            options.pop("project", None)
            if kind != "quantize" and "quantize" in options:
                options["quantize"] += math.ceil(count / 8)
        else:
            options = {"dense": dense}
        kept = math.ceil((1 - level) * count * (1 - 1e-6)) if level < 1 else 0
        least = options.get(kind, dense)
        if kind == "quantize":
            options[kind] = min(least, math.ceil(count * level / 8) + 2 * _FLOAT)
        elif kind in ("prune", "dropout"):
            options[kind] = min(least, math.ceil(count / 8) + _FLOAT * kept)
        elif kind == "project":
            options[kind] = _FLOAT * kept
    return min(options.values())


# --- Profiles -------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Profile:
    """A device, its network, and a cloud.

    Attributes:
      name, description, source: for people; the source says where the numbers are from.
      edge_flops_per_s: that the device reaches on networks, and `edge_joules_per_flop`, its energy.
      uplink_bits_per_s, uplink_joules_per_bit: of what the device sends.
      round_trip_s: of an empty message and its answer.
      cloud_flops_per_s: that the cloud reaches; of the T4 in the built-in profiles its peak, which
        no network reaches: the cloud's share of the time is a lower bound there.
      memory_bytes: that the device has for parameters and activations together, as float32; None
        if it does not matter.
    """

    name: str
    description: str
    source: str
    edge_flops_per_s: float
    edge_joules_per_flop: float
    uplink_bits_per_s: float
    uplink_joules_per_bit: float
    round_trip_s: float
    cloud_flops_per_s: float
    memory_bytes: float | None = None


_BUILT_IN = resources.files("jaxinv.measures") / "profiles"
_TEXTS = ("name", "description", "source")
_OPTIONAL = ("memory_bytes",)


def profile_names() -> tuple[str, ...]:
    """Names of the profiles that come with the package."""
    names = (Path(file.name) for file in _BUILT_IN.iterdir())
    return tuple(sorted(name.stem for name in names if name.suffix == ".toml"))


def load_profile(name: str) -> Profile:
    """A profile by its name, or from a file of one's own, `.toml`.

    Raises:
      UsageError: there is no such profile, or its file does not say what it must.
    """
    flag = f"profile={name}"
    if name.endswith(".toml"):
        try:
            text = Path(name).read_text()
        except (OSError, UnicodeDecodeError) as error:
            why = getattr(error, "strerror", None) or "not a text file"
            raise UsageError(f"{flag}: cannot be read: {why}.") from error
    elif name in profile_names():
        text = (_BUILT_IN / f"{name}.toml").read_text()
    else:
        known = ", ".join(profile_names())
        raise UsageError(f"{flag}: no such profile; choose from {known}, or name a file, .toml.")
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{flag}: not TOML: {error}.") from error
    return _checked(flag, {"name": Path(name).stem, **table})


def _checked(flag: str, table: Mapping[str, Any]) -> Profile:
    known = [field.name for field in dataclasses.fields(Profile)]
    if unknown := [key for key in table if key not in known]:
        raise UsageError(f"{flag}: {unknown[0]} is unknown; expected {', '.join(known)}.")
    if missing := [key for key in known if key not in table and key not in _OPTIONAL]:
        raise UsageError(f"{flag}: {missing[0]} is missing.")
    for key, value in table.items():
        if key in _TEXTS:
            if not isinstance(value, str):
                raise UsageError(f"{flag}: {key}={value!r}: expected a text.")
            continue
        number = isinstance(value, int | float) and not isinstance(value, bool)
        least = 0 if key == "round_trip_s" else math.ulp(0)
        if not number or not least <= value < math.inf:
            raise UsageError(f"{flag}: {key}={value!r}: expected a positive number.")
    return Profile(**table)


# --- Time and energy ------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What one image takes with a profile: seconds, and joules of the device."""

    edge_s: float
    uplink_s: float
    cloud_s: float
    edge_j: float
    uplink_j: float

    @property
    def latency_s(self) -> float:
        """From the image to the answer."""
        return self.edge_s + self.uplink_s + self.cloud_s

    @property
    def energy_j(self) -> float:
        """That the device spends."""
        return self.edge_j + self.uplink_j


def cost(cut: CutCost, profile: Profile, sent: float | None = None) -> Cost:
    """Time and energy of one image.

    The paper's Fig. 2: the device computes, sends, and waits for the answer, whose few bytes are in
    the round trip; waiting costs it nothing. A defence's own arithmetic is not counted.

    Args:
      cut: where the network is divided.
      profile: of the device.
      sent: bytes sent; by default those of the cut, undefended.
    """
    bits = 8 * (cut.sent_bytes if sent is None else sent)
    waits = profile.round_trip_s if bits else 0.0
    return Cost(
        cut.edge_flops / profile.edge_flops_per_s,
        bits / profile.uplink_bits_per_s + waits,
        cut.cloud_flops / profile.cloud_flops_per_s,
        cut.edge_flops * profile.edge_joules_per_flop,
        bits * profile.uplink_joules_per_bit,
    )


def measure_edges(
    network: Network, params: Params, *, batch: int = 64, repeats: int = 5
) -> dict[str, float]:
    """Seconds an image that each edge takes on this machine: the best of some repeats.

    All edges are run in turn, so that what disturbs one disturbs all.

    Args:
      network: the whole.
      params: its parameters.
      batch: images at once.
      repeats: runs of each.
    """
    images = np.zeros((batch, *network.input_shape), np.float32)
    runs = {}
    for cut in network.cuts:
        edge, _ = network.split(cut)
        own, run = edge.select(params), jax.jit(edge.apply)
        jax.block_until_ready(run(own, images))
        runs[cut] = (run, own)
    best = dict.fromkeys(network.cuts, math.inf)
    for _ in range(repeats):
        for cut, (run, own) in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run(own, images))
            best[cut] = min(best[cut], (time.perf_counter() - began) / batch)
    return best
