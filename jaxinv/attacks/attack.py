"""Attacks as values: the knowledge that is handed to them, and what they hand back. JAX.

The type of the knowledge is the threat model: an attack sees what it is handed and nothing else.
An attacker who knows more can use an attack of one who knows less (`EdgeKnown.queries`).
"""

import abc
import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import jax
import numpy as np
from jax import Array

from jaxinv import arguments, defenses, unit_space
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.defenses import NONE, Defense, Query
from jaxinv.errors import UsageError
from jaxinv.inputs.samples import Samples
from jaxinv.networks import Network, Params
from jaxinv.unit_space import Images, Scaled


class Features(Protocol):
    """Features `[N, ...]`, by index: a NumPy array, or a `defenses.Release` that makes them."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def __len__(self) -> int: ...

    def __getitem__(self, indices: np.ndarray) -> np.ndarray:
        """Returns features `[len(indices), ...]` of the chosen inputs."""


@dataclasses.dataclass(frozen=True)
class QueriesKnown:
    """Knowledge of a black-box attacker: answers to its queries.

    Attributes:
      query: the release as a function.
      images: `[M, *input_shape]` in unit space, the surrogate inputs.
      members: number of defenses that the query stands for, whose third argument chooses among
        them; 0 where it is the query of one.

    Raises:
      UsageError: the images are not in unit space.
    """

    threat_model: ClassVar[str] = "blackbox"

    query: Query
    images: Images
    members: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", unit_space.images(self.images))

    @functools.cached_property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the answer to one query; none is asked."""
        keys = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
        image = jax.ShapeDtypeStruct((1, *self.images.shape[1:]), np.float32)
        which = (jax.ShapeDtypeStruct((1,), np.int32),) if self.members else ()
        return tuple(jax.eval_shape(self.query, keys, image, *which).shape[1:])


@dataclasses.dataclass(frozen=True)
class EdgeKnown:
    """Knowledge of a white-box attacker: the edge's layers and parameters.

    Attributes:
      edge: the part of the network on the device.
      params: its parameters; those of other layers are ignored.
      images: `[M, *edge.input_shape]` in unit space, the surrogate inputs.
      family: the defenses that may stand at the edge, which differ in their levels alone.
      releases: number of releases of one input, which the attacker combines.

    Raises:
      UsageError: the images are not in unit space, or have not the shape that the edge takes;
        there is no defense or no release.
      UserError: the parameters are another network's.
    """

    threat_model: ClassVar[str] = "whitebox"

    edge: Network
    params: Params
    images: Images
    family: tuple[Defense, ...] = (NONE,)
    releases: int = 1

    def __post_init__(self) -> None:
        arguments.check_whole("releases", self.releases, least=1)
        if not self.family:
            raise UsageError("family=(): expected at least one defense, NONE for none.")
        self.edge.check(self.params)
        images = unit_space.images(self.images, self.edge.input_shape)
        object.__setattr__(self, "images", images)

    def queries(self, member: int | None = None) -> QueriesKnown:
        """Returns the weaker knowledge of an attacker who may only query the release.

        Args:
          member: number of the defense that answers; None asks the whole family.
        """
        if member is None:
            family = self.family
            query = defenses.query_function(self.edge, self.params, family, releases=self.releases)
            return QueriesKnown(query, self.images, len(family))
        defense = self.family[member]
        query = defenses.query_function(self.edge, self.params, defense, releases=self.releases)
        return QueriesKnown(query, self.images)


@dataclasses.dataclass(frozen=True)
class CloudKnown:
    """Knowledge of a query-free attacker: the cloud, and what it was sent.

    Attributes:
      cloud: the part of the network that the attacker runs; it returns one logit a class where
        samples are labelled.
      params: its parameters; those of other layers are ignored.
      samples: surrogate inputs, labelled or not.
      stream: `[L, *cloud.input_shape]`, features that the cloud was sent; those that are attacked
        where there are no others.
      defense: the one behind which the edge stands.
      releases: number of releases of one input, which stream and observed features combine.
      normalization: mean and standard deviation of pixels, which belong to the knowledge of a
        defense at the input; None estimates them from the surrogate inputs.

    Raises:
      UsageError: the stream is not what the cloud takes, or there is no release.
      UserError: the parameters are another network's.
    """

    threat_model: ClassVar[str] = "queryfree"

    cloud: Network
    params: Params
    samples: Samples
    stream: Features
    defense: Defense = NONE
    releases: int = 1
    normalization: tuple[Sequence[float], Sequence[float]] | None = None

    def __post_init__(self) -> None:
        arguments.check_whole("releases", self.releases, least=1)
        self.cloud.check(self.params)
        defenses.check_features(self.stream, self.cloud.input_shape, name="stream")

    @property
    def images(self) -> Scaled:
        """The surrogate inputs without their labels, `[M, *input_shape]` in unit space."""
        return self.samples.scaled


Known = EdgeKnown | QueriesKnown | CloudKnown


@dataclasses.dataclass(frozen=True)
class Reconstruction:
    """Inputs that an attack reconstructs.

    Attributes:
      images: `[N, *input_shape]` NumPy in unit space, neither clipped to it nor always finite; or
        `[S, N, *input_shape]` by attackers that differ in their seeds.
      seconds: wall time of the attack.
      compile_seconds: wall time of compiling it.
      fit_seconds: wall time of all learning, compilation included.
      info: more about the attack, by the names that a record has for it.
      joint: `[N, *input_shape]`, the answer that the attackers of several seeds give together.
      ways: all reconstructions by the name of the way, each `[N, *input_shape]`, where there are
        several; `images` or `joint` is what the attacker answers.
      dead: `[N]` or `[S, N]` bool, images that an optimisation left at its start, or whose features
        gave it no direction there: they tell nothing of what was observed. None where no
        optimisation begins at a plain start.
    """

    images: np.ndarray
    seconds: float
    compile_seconds: float = 0.0
    fit_seconds: float = 0.0
    info: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    joint: np.ndarray | None = None
    ways: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    dead: np.ndarray | None = None

    @property
    def answer(self) -> np.ndarray:
        """The one reconstruction of each input, `[N, *input_shape]`."""
        return self.images if self.joint is None else self.joint


class LearnedAttack(abc.ABC):
    """An attacker who has learned; it inverts as often as it is asked to."""

    @abc.abstractmethod
    def invert(self, observed: Features, member: int = 0) -> Reconstruction:
        """Reconstructs the inputs of features `[N, ...]`.

        Args:
          observed: what crossed the wire.
          member: number of the defense that released it, in the family that is known.

        Raises:
          UsageError: there are none, or they are not of the cut that was learned.
        """

    def believed(self, images: Images) -> np.ndarray | None:
        """Returns features of images as the attacker believes the edge to make them.

        Args:
          images: `[G, *input_shape]` in unit space.

        Returns:
          `[S, G, ...]` by each of its models of the edge; None of an attacker who has none.
        """
        del images
        return None

    def invert_each(self, observed: Sequence[Features]) -> list[Reconstruction]:
        """Reconstructs what each defense of the known family released, in order.

        Times of what is learned or attacked together are shared out evenly, so that they add up.
        """
        return [self.invert(part, member) for member, part in enumerate(observed)]


KnownT = TypeVar("KnownT", contravariant=True)


class Attack(abc.ABC, Generic[KnownT]):
    """An attack of one threat model, whose settings are the fields of a frozen dataclass.

    Attributes:
      knowledge: the attacker's knowledge in words.
      learns: whether surrogate inputs decide its result.
      together: whether defenses that stand at one edge are learned and attacked as one family;
        otherwise each is known and learned alone.
    """

    knowledge: ClassVar[str]
    learns: ClassVar[bool] = True
    together: ClassVar[bool] = False

    @property
    def identity(self) -> dict[str, Any]:
        """Settings that identify the attack in a configuration."""
        return dataclasses.asdict(self)  # type: ignore[call-overload]

    @abc.abstractmethod
    def learn(self, known: KnownT, key: Array, shelf: Shelf = NOWHERE) -> LearnedAttack:
        """Learns what there is to learn before anything is attacked.

        Args:
          known: everything that the attacker is handed.
          key: of all randomness.
          shelf: keeps what is trained.

        Raises:
          UserError: there are too few surrogate inputs, or too few queries.
        """


def shared_out(whole: Reconstruction, parts: Sequence[Reconstruction]) -> list[Reconstruction]:
    """Returns the parts of one attack, each with an even share of its times."""
    names = ("seconds", "compile_seconds", "fit_seconds")
    times = {name: getattr(whole, name) / len(parts) for name in names}
    return [dataclasses.replace(part, **times) for part in parts]
