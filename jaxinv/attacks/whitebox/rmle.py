"""White-box reconstruction: regularised maximum likelihood (He, Zhang & Lee 2021, Eq. 1). JAX.

The attacker knows the edge and its parameters, and sees features. The methods here are given
nothing else; `map` and `hybrid` add lessons from images of the attacker's own.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from jax import Array

from jaxinv import defenses
from jaxinv.attacks.attack import (
    Attack,
    EdgeKnown,
    Features,
    LearnedAttack,
    Reconstruction,
    shared_out,
)
from jaxinv.attacks.inversion.loop import Snapshot
from jaxinv.attacks.inversion.solvers import Result
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.attacks.whitebox.settings import (
    RmleSettings,
    check_chunk,
    paper_settings,
    tv_settings,
)
from jaxinv.attacks.whitebox.stage import Stage, run_stage
from jaxinv.constants.paper import resolve_lambda
from jaxinv.defenses import Joined
from jaxinv.errors import UsageError
from jaxinv.networks import Network, Params

_BLOCK = 2**26  # features at once, which are only counted


def invert(
    edge: Network,
    params: Params,
    features: Features,
    attack: RmleSettings | Sequence[Stage],
    *,
    chunk: int | None = None,
    watch: Callable[[int, Snapshot], None] | None = None,
    watch_every: int = 1,
) -> Reconstruction:
    """Reconstructs the inputs of an edge from its outputs, all images at once.

    Args:
      edge: the part of the network on the device.
      params: its parameters; those of other layers are ignored.
      features: `[N, *edge.output_shape]`, what crossed the wire, as an array or a `Release`.
      attack: settings of one stage without anything learned, or stages in turn.
      chunk: images at a time, filled up with copies if there are fewer; chosen by the edge and the
        device if None. It changes the result by rounding alone, which objectives that are not
        convex amplify.
      watch: is shown the number of the stage and the iterates in work, in unit space.
      watch_every: after how many steps.

    Returns:
      The reconstruction of the last stage, with the times of all; see `stage.run_stage`.

    Raises:
      UsageError: there are no features, they are not of this edge, or the chunk is none.
      UserError: the parameters are another network's.
    """
    defenses.check_features(features, edge.output_shape)
    edge.check(params)
    check_chunk(chunk)
    stages = [Stage(attack)] if isinstance(attack, RmleSettings) else attack
    images, seconds, compile_seconds = None, 0.0, 0.0
    for number, stage in enumerate(stages):
        began = time.perf_counter()
        means = stage.estimate(features, images) if stage.estimate else None
        seconds += time.perf_counter() - began
        weights = stage.settings.weights * _shares(edge, features, stage.settings.redundancy)
        found = run_stage(
            edge,
            params,
            features,
            stage,
            means,
            weights,
            chunk=chunk,
            watch=functools.partial(watch, number) if watch else None,
            watch_every=watch_every,
        )
        images = found.images
        seconds += found.seconds
        compile_seconds += found.compile_seconds
    return dataclasses.replace(found, seconds=seconds, compile_seconds=compile_seconds)


def _shares(edge: Network, features: Features, power: float) -> np.ndarray:
    """Returns how much of its weight a prior has for each image, `[N, 1, 1]` in (0, 1].

    Of features those count that are not zero, behind a rectifier the open ones. Before the cut the
    narrowest place counts: nobody observes more than passed there.
    """
    if not power:
        return np.ones((len(features), 1, 1), np.float32)
    passed = min(map(math.prod, edge.shapes.values()), default=math.inf)
    step = max(1, _BLOCK // edge.wire.size)
    open_ = [
        np.count_nonzero(np.reshape(features[rows], (len(rows), -1)), axis=1)
        for rows in np.array_split(np.arange(len(features)), -(-len(features) // step))
    ]
    observed = np.minimum(np.concatenate(open_), passed)
    pairs = np.maximum(observed / math.prod(edge.input_shape) / 2, 1)
    return (pairs**-power).astype(np.float32)[:, None, None]


@dataclasses.dataclass(frozen=True)
class StagedAttack(LearnedAttack):
    """Attacker who runs stages of rMLE in turn.

    Attributes:
      known: the edge.
      stages: the optimisations.
      chunk: as for `invert`.
      fit_seconds: wall time of learning them.
      quality: mean PSNR in dB on images held out, after each stage; None where nothing is learned.
    """

    known: EdgeKnown
    stages: tuple[Stage, ...]
    chunk: int | None = None
    fit_seconds: float = 0.0
    quality: tuple[float, ...] | None = None

    def invert(self, observed: Features, member: int = 0) -> Reconstruction:
        return self.invert_each([observed])[0]

    def invert_each(self, observed: Sequence[Features]) -> list[Reconstruction]:
        for part in observed:
            defenses.check_features(part, self.known.edge.output_shape, name="observed")
        whole = invert(
            self.known.edge, self.known.params, Joined(observed), self.stages, chunk=self.chunk
        )
        whole = dataclasses.replace(whole, fit_seconds=self.fit_seconds)
        ends = np.cumsum([len(part) for part in observed])[:-1]
        columns = {name: np.split(values, ends) for name, values in whole.info.items()}
        dead = [None] * len(observed) if whole.dead is None else np.split(whole.dead, ends)
        parts = [
            dataclasses.replace(
                whole,
                images=images,
                dead=dead[number],
                info=self._info({name: rows[number] for name, rows in columns.items()}),
            )
            for number, images in enumerate(np.split(whole.images, ends))
        ]
        return shared_out(whole, parts)

    def _info(self, info: Mapping[str, Any]) -> dict[str, Any]:
        held_out = {} if self.quality is None else {"held_out_psnr": list(self.quality)}
        return {
            **held_out,
            "stages": [dataclasses.asdict(stage.settings) for stage in self.stages],
            "objective": info["objective"],
            "solver_steps": info["solver_steps"],
            "solver_results": {
                result.name.lower(): int((info["solver_result"] == result).sum())
                for result in Result
            },
        }


@dataclasses.dataclass(frozen=True)
class Rmle(Attack[EdgeKnown]):
    """One stage of rMLE, with settings that depend on the cut alone.

    Attributes:
      settings: of the stage.
      chunk: as for `invert`.
    """

    settings: RmleSettings
    chunk: int | None = None

    knowledge: ClassVar[str] = "the edge's layers and parameters; no images"
    learns: ClassVar[bool] = False
    together: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_chunk(self.chunk)

    @property
    def identity(self) -> dict[str, Any]:
        return identity_of(self.settings, self.chunk)

    def learn(self, known: EdgeKnown, key: Array, shelf: Shelf = NOWHERE) -> StagedAttack:
        return StagedAttack(known, (Stage(self.settings),), self.chunk)


def paper(
    network: Network,
    cut: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    tv_weight: str | None = None,
    chunk: int | None = None,
) -> Rmle:
    """Returns the authors' attack on a cut.

    Args:
      network, cut: decide the weight of the total variation.
      overrides: fields of `RmleSettings` in place of the method's own.
      tv_weight: "code" or "printed", the weight that the authors' program or the paper has at this
        cut, or a number as text; by default that of the program.
      chunk: as for `invert`.

    Raises:
      UsageError: the weight is none of these.
    """
    given = _weighted(network, cut, overrides, tv_weight)
    return Rmle(paper_settings(network, cut).replaced(given), chunk)


def tv(
    network: Network,
    cut: str,
    *,
    overrides: Mapping[str, Any] | None = None,
    tv_weight: str | None = None,
    chunk: int | None = None,
) -> Rmle:
    """Returns a first-order attack with total variation on a cut; see `paper` for the arguments.

    Raises:
      UsageError: the weight is no number.
    """
    if tv_weight in ("code", "printed"):
        raise UsageError(f"tv_weight={tv_weight}: is for method=paper alone; expected a number.")
    given = _weighted(network, cut, overrides, tv_weight)
    return Rmle(tv_settings(network, cut).replaced(given), chunk)


def _weighted(
    network: Network, cut: str, overrides: Mapping[str, Any] | None, tv_weight: str | None
) -> dict[str, Any]:
    given = dict(overrides or {})
    if tv_weight is not None:
        weight = resolve_lambda(tv_weight, network, cut)
        given |= {"tv_weight": weight, "tv_start": weight, "redundancy": 0.0}
    return given


def identity_of(settings: RmleSettings, chunk: int | None, **others: Any) -> dict[str, Any]:
    """Returns what identifies an attack in stages.

    A chunk changes the result by its rounding; the default is the device's affair.
    """
    chunked = {"chunk": chunk} if chunk else {}
    return {"settings": dataclasses.asdict(settings), **others, **chunked}
