"""Networks as programs that can be cut between any two of their equations. JAX.

A `Network` is a value: it holds no parameters. These are nested dictionaries of arrays; an edge and
a cloud read their part of the whole network's, under the same names. Everything works on batches,
`[N, ...]`, and treats the examples of a batch independently.
"""

import dataclasses
import difflib
import functools
import hashlib
import math
from collections.abc import Collection, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jaxinv.errors import UsageError, UserError
from jaxinv.machine.numbers import widened
from jaxinv.networks import arguments, checks, evaluation, kinds, rectifiers, statistics
from jaxinv.networks.cuts import Cut
from jaxinv.networks.half import in_half
from jaxinv.networks.program import Path, Value, fingerprint
from jaxinv.networks.source import Source
from jaxinv.networks.wire import Wire

Params = Mapping[str, Any]

_NAMED = 24  # cuts in a message, at most


class Segment(NamedTuple):
    """A part of a network that is of one kind."""

    kind: kinds.Kind
    network: "Network"


@dataclasses.dataclass(frozen=True, eq=False)
class Network:
    """A part of a program between two places, or all of it.

    Attributes:
      source: the function behind it.
      begin, end: places of the equations between which it lies.
      taken, given: numbers of the values that it takes and gives.
      skipped: place of an equation that it leaves out, of a final rectifier -> the value that it
        hands on.
      mean, std: per channel, in unit space. The first step is `(x - mean) / std`, so that no caller
        knows these constants; None where inputs are taken as they are (every cloud).
      is_wide: whether it computes in float32 where the program has half precision.
    """

    source: Source
    begin: int
    end: int
    taken: tuple[Value, ...]
    given: tuple[Any, ...]
    skipped: Mapping[int, Value] = dataclasses.field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    is_wide: bool = False

    @classmethod
    def whole(
        cls,
        source: Source,
        *,
        mean: Sequence[float] | float | None = None,
        std: Sequence[float] | float | None = None,
    ) -> "Network":
        """Makes a network of all of a function, and checks that it can be cut.

        Raises:
          UserError: it mixes the examples of a batch, loses the batch axis, or is not pure; or mean
            and std do not fit.
        """
        constants = arguments.check_normalization(source.input_shape, mean, std)
        checks.check(source)
        program = source.program
        return cls(
            source,
            0,
            len(program.equations),
            (program.input,),
            program.outputs,
            {},
            *constants,
        )

    # --- What it is -------------------------------------------------------------------------------

    @functools.cached_property
    def places(self) -> tuple[int, ...]:
        """Places of the equations that it evaluates."""
        wanted = (value for value in self.given if isinstance(value, int))
        return self.source.program.needed(self.taken, wanted, self.skipped)

    @functools.cached_property
    def input_wire(self) -> Wire:
        """The arrays that it takes."""
        return self._wire(self.taken)

    @functools.cached_property
    def wire(self) -> Wire:
        """The arrays that it gives: behind an edge, what crosses."""
        return self._wire(tuple(value for value in self.given if isinstance(value, int)))

    def _wire(self, values: tuple[Value, ...]) -> Wire:
        program = self.source.program
        shapes = tuple(program.shapes[value][1:] for value in values)
        return Wire(shapes, tuple(program.dtypes[value] for value in values))

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, without the batch axis."""
        return self.input_wire.shape

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one example's output, without the batch axis."""
        return self.wire.shape

    @functools.cached_property
    def cuts(self) -> tuple[str, ...]:
        """Names of the places to cut at, in order: where a layer or module ends in one array."""
        return tuple(cut.name for cut in self._own_cuts if cut.default or cut.place == self.end)

    @property
    def all_cuts(self) -> tuple[str, ...]:
        """Names of every place where it can be cut, in order."""
        return tuple(cut.name for cut in self._own_cuts)

    @functools.cached_property
    def _own_cuts(self) -> tuple[Cut, ...]:
        within = (cut for cut in self.source.cuts if self.begin < cut.place <= self.end)
        return tuple(cut for cut in within if not self._is_left_out(cut))

    def _is_left_out(self, cut: Cut) -> bool:
        """Returns whether a cut is within the rectifier that is left out."""
        made = self.source.program.maker
        return any(
            made.get(value, -1) < cut.place <= place and value not in cut.wire
            for place, value in self.skipped.items()
        )

    @functools.cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name of each of `cuts` -> shape of one example that crosses there."""
        by_name = {cut.name: cut for cut in self._own_cuts}
        return {name: self._wire(by_name[name].wire).shape for name in self.cuts}

    @functools.cached_property
    def fingerprint(self) -> str:
        """12 hex digits that identify what it computes, apart from its parameters."""
        with jax.default_matmul_precision(None):  # whatever the caller has set now
            program = self.source.program
        own = fingerprint(program, self.places, (*self.taken, *self.given))
        known = repr((own, self.skipped and sorted(self.skipped), self.mean, self.std))
        return hashlib.sha256(known.encode()).hexdigest()[:12]

    @functools.cached_property
    def is_affine(self) -> bool:
        """Returns whether the whole network is an affine map."""
        return kinds.is_affine(self.source.program, self.places, self.taken, self.skipped)

    @functools.cached_property
    def has_dense(self) -> bool:
        """Returns whether a layer in it is fully connected."""
        program = self.source.program
        equations = (program.equations[place] for place in self.places)
        return any(
            equation.name == "dot_general" and len(program.shapes[equation.outputs[0]]) == 2
            for equation in equations
            if not program.dependent.isdisjoint(equation.outputs)
        )

    # --- What it does -----------------------------------------------------------------------------

    def init(self, key: Array) -> dict[str, Params]:
        """Fresh parameters of this part, nested dictionaries of arrays."""
        return self.select(self.source.init(key))

    def apply(self, params: Params, x: Array) -> Array:
        """Maps `[N, *input_shape]` to `[N, *output_shape]`; it ignores other parts' params.

        Raises:
          UserError: the shape is another, whole numbers come in place of floats, or a parameter is
            missing or of another shape.
        """
        x = arguments.numbers("x", x)
        if x.shape[1:] != self.input_shape or not x.ndim:
            raise UserError(f"Expected inputs [N, {_spelled(self.input_shape)}], got {x.shape}.")
        if self.input_wire.takes_floats and not jnp.issubdtype(x.dtype, jnp.floating):
            raise UserError(f"Expected inputs of floats, got {x.dtype}: images are in [0, 1].")
        x = self.normalize(widened(x))
        if len(x) == 1 and not self.source.takes_one:
            return self._run(params, jnp.concatenate([x, x]))[:1]
        return self._run(params, x)

    def apply_in_training(self, params: Params, x: Array) -> tuple[Array, Params]:
        """Maps a batch as the whole network does while it is trained.

        BatchNorm normalises by the batch. Derivatives do not reach stored statistics.

        Returns:
          `[N, *output_shape]`, and the parameters with the statistics of this batch.
        """
        train = self.source.train
        if train is None or not statistics.has_any(params):
            return self.apply(params, x), params
        return evaluation.in_fastest_form(train, params, self.normalize(x))

    def check(self, params: Params) -> None:
        """Checks parameters; those of other parts are ignored.

        Raises:
          UserError: one of this part is missing or has another shape.
        """
        self._own(params)

    def _own(self, params: Params) -> dict[Path, Array]:
        known = self.source.program
        shapes = {path: known.shapes[known.params[path]] for path in self._paths}
        return {path: arguments.leaf(params, path, shape) for path, shape in shapes.items()}

    def _run(self, params: Params, x: Array) -> Array:
        known, own = self.source.program, self._own(params)
        if self.is_wide:
            return self._evaluated(own, x, wide=known.dependent)
        if self._has_half:
            return in_half(self._evaluated, partial(self._evaluated, wide=known.dtypes), own, x)
        return self._evaluated(own, x)

    def _evaluated(
        self, own: Mapping[Path, Array], x: Array, *, wide: Collection[Value] = ()
    ) -> Array:
        program = self.source.at(len(x))
        known = {program.params[path]: leaf for path, leaf in own.items()}
        with self.source.mode():
            known |= zip(self.taken, self.input_wire.unravel(x), strict=True)
            found = evaluation.run(
                program, self.places, known, self.given, skipped=self.skipped, wide=wide
            )
            y = self.wire.ravel(found)
        return y.astype(jax.dtypes.canonicalize_dtype(y.dtype))

    @functools.cached_property
    def _has_half(self) -> bool:
        program = self.source.program
        made = (value for place in self.places for value in program.equations[place].outputs)
        return any(evaluation.is_half(program.dtypes[value]) for value in made)

    def normalize(self, x: Array) -> Array:
        """The first step, of inputs `[N, *input_shape]`."""
        if self.mean is None:
            return x
        mean, std = self._constants
        return (x - mean) / std

    def denormalize(self, x: Array) -> Array:
        """Undoes `normalize`."""
        if self.mean is None:
            return x
        mean, std = self._constants
        return x * std + mean

    @property
    def _constants(self) -> tuple[Array, Array]:
        shape = (1,) * len(self.input_shape) + (-1,)
        mean, std = (jnp.asarray(value, jnp.float32) for value in (self.mean, self.std))
        return mean.reshape(shape), std.reshape(shape)

    def select(self, params: Params) -> dict[str, Any]:
        """The parameters that this part reads, out of a larger network's."""
        paths = set(self._paths)

        def kept(tree: Any, path: Path) -> Any:
            if not isinstance(tree, Mapping):
                return tree if path in paths else None
            items = {key: kept(value, (*path, key)) for key, value in tree.items()}
            return {key: value for key, value in items.items() if value is not None} or None

        return kept(params, ()) or {}

    @functools.cached_property
    def _paths(self) -> tuple[Path, ...]:
        program = self.source.program
        read = {value for place in self.places for value in program.equations[place].reads}
        read.update(value for value in self.given if isinstance(value, int))
        return tuple(path for path, value in program.params.items() if value in read)

    # --- Parts of it ------------------------------------------------------------------------------

    @functools.cached_property  # the same each time: programs are kept for it
    def wide(self) -> "Network":
        """The network computed in float32 where it has half precision, from the same parameters.

        What depends on the parameters alone is rounded as before. Whoever can run the network can
        compute this: features of half precision are these, rounded.
        """
        return dataclasses.replace(self, is_wide=True) if self._has_half else self

    @functools.cached_property  # the same each time: programs are kept for it
    def without_normalization(self) -> "Network":
        """The network behind its first step."""
        return dataclasses.replace(self, mean=None, std=None)

    def resolve(self, cut: str) -> str:
        """The name of a cut in this network's spelling (`ReLU2` is `relu2`).

        Raises:
          UsageError: there is no such place.
        """
        if not isinstance(cut, str):
            raise UsageError(f"split={cut!r}: expected a layer, one of {_few(self.cuts)}.")
        by_lower = {name.lower(): name for name in self.all_cuts}
        if cut.lower() in by_lower:
            return by_lower[cut.lower()]
        close = difflib.get_close_matches(cut.lower(), by_lower, n=1)
        hint = f" (did you mean {by_lower[close[0]]}?)" if close else ""
        raise UsageError(f"split={cut}: no such layer{hint}; choose from {_few(self.cuts)}.")

    def split(self, cut: str) -> tuple["Network", "Network"]:
        """Cuts the network after a layer.

        `cloud.apply(params, edge.apply(params, x))` equals `apply(params, x)` exactly.

        Returns:
          The edge, up to and with `cut`, and the cloud, which is the rest (at the last layer: the
          identity).

        Raises:
          UsageError: there is no such layer.
        """
        return _split(self, self.resolve(cut))

    def before_rectifier(self) -> "Network | None":
        """The network without its final rectifier, or None where it does not end in one.

        Max-pooling after the rectifier is kept: as both are monotone, pooling what was not
        rectified and rectifying it then is the same. Thus `clip(before.apply(params, x), 0,
        rectifier_limit)` equals `apply(params, x)`.
        """
        return _before_rectifier(self)

    @functools.cached_property
    def rectifier_limit(self) -> float:
        """Largest value that its final rectifier lets through; infinite for most."""
        found = self._rectifier
        return found.high if found else math.inf

    @functools.cached_property
    def _rectifier(self) -> rectifiers.Rectifier | None:
        if len(self.given) != 1 or not isinstance(self.given[0], int):
            return None
        found = rectifiers.last_rectifier(self.source.program, self.given[0])
        return found if found and found.places <= {*self.places} else None

    @functools.cached_property
    def segments(self) -> tuple[Segment, ...]:
        """Its parts in turn, each of one kind and as long as can be; the first normalises."""
        return _segments(self)

    def between(self, begin: Cut | None, end: Cut) -> "Network":
        """The part of the network between two of its cuts; from its beginning where one is None."""
        first = begin is None or begin.place <= self.begin
        return dataclasses.replace(
            self,
            begin=self.begin if begin is None or first else begin.place,
            end=end.place,
            taken=self.taken if begin is None or first else begin.wire,
            given=self.given if end.place == self.end else end.wire,
            mean=self.mean if first else None,
            std=self.std if first else None,
        )


@functools.lru_cache(maxsize=256)  # the same halves each time: programs are kept for them
def _split(network: Network, cut: str) -> tuple[Network, Network]:
    (found,) = (each for each in network._own_cuts if each.name == cut)
    edge = network.between(None, found)
    cloud = dataclasses.replace(
        network,
        begin=found.place,
        taken=found.wire,
        mean=None,
        std=None,
    )
    return edge, cloud


@functools.lru_cache(maxsize=256)
def _before_rectifier(network: Network) -> Network | None:
    found = network._rectifier
    return dataclasses.replace(network, skipped=found.handed) if found else None


@functools.lru_cache(maxsize=64)
def _segments(network: Network) -> tuple[Segment, ...]:
    ends = [cut for cut in network._own_cuts if len(cut.wire) == 1 or cut.place == network.end]
    found: list[Segment] = []
    begin: Cut | None = None
    while left := [cut for cut in ends if begin is None or cut.place > begin.place]:
        layers = [cut for cut in left if cut.default or cut is left[-1]]
        begin, segment = _next_segment(network, begin, layers, left)
        found.append(segment)
    return tuple(found)


def _next_segment(
    network: Network, begin: Cut | None, layers: Sequence[Cut], every: Sequence[Cut]
) -> tuple[Cut, Segment]:
    """Takes affine layers together, a layer of another kind, or else its first operations."""
    parts = {cut: network.between(begin, cut) for cut in (*layers, *every)}
    for ends in (layers, every):
        affine = [cut for cut in ends if parts[cut].is_affine]
        if affine:
            return affine[-1], Segment("affine", parts[affine[-1]])
        own = _kind(parts[ends[0]])
        if own != "other" or ends is every:
            return ends[0], Segment(own, parts[ends[0]])
    raise AssertionError("one of the two returns")


def _kind(network: Network) -> kinds.Kind:
    if len(network.given) > 1 and not network.is_affine:
        return "other"
    return kinds.kind(network.source.program, network.places, network.taken)


def _few(names: Sequence[str]) -> str:
    """Lists names; of many the first ones."""
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _spelled(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))
