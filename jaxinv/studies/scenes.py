"""Scenes of attacks: data, network, target and cuts, as settings ask for them. NumPy."""

import dataclasses
import itertools
from collections.abc import Collection, Sequence
from typing import NamedTuple

import numpy as np

from jaxinv.attacks import registry
from jaxinv.constants.halves import ALL, CHOICE, REPORT
from jaxinv.constants.kinds import IMAGE
from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import data
from jaxinv.machine import devices, hosts
from jaxinv.measures import intervals, quality, usability
from jaxinv.measures.usability import Usability
from jaxinv.networks import Network, loading
from jaxinv.networks.loading import Model
from jaxinv.store import files
from jaxinv.store.record import title_of
from jaxinv.studies import experiment, finite
from jaxinv.studies.config import AttackConfig, CutsConfig, DataConfig, WorkConfig
from jaxinv.studies.experiment import settings_of
from jaxinv.studies.models import data_and_model
from jaxinv.training import targets
from jaxinv.unit_space import Scaled

MOST_CUTS = 12
"""Cuts that `all` means, at most."""


class Plan(NamedTuple):
    """Data, network and cuts of an experiment, before there is a target.

    Attributes:
      dataset: has the images, the whole test split among them.
      model: the network that takes them, as it was asked for.
      cuts: names of the layers to cut at, in order.
    """

    dataset: data.Dataset
    model: Model
    cuts: list[str]

    @property
    def network(self) -> Network:
        """The whole network."""
        return self.model.network

    def check_labels(self, name: str, methods: Collection[str], threats: Collection[str]) -> None:
        """Refuses attacks that learn from labels where these cannot name outputs of the network.

        Args:
          name: of the setting that names the attacks.
          methods: of each threat model, where it has such an attack.
          threats: the threat models.

        Raises:
          UsageError: the images have no labels, or the network is no classifier of these.
        """
        why = without_classes(self.network, self.dataset)
        if not why or usability.may_be_classes(self.network, self.dataset.num_classes):
            return
        _refuse_labelled(name, methods, threats, why)


def _refuse_labelled(
    name: str, methods: Collection[str], threats: Collection[str], why: str
) -> None:
    for threat, method in itertools.product(threats, methods):
        if registry.needs_labels(threat, method):
            raise UsageError(f"{name}={method}: learns from labelled images, and {why}.")


def without_classes(network: Network, dataset: data.Dataset) -> str | None:
    """Tells why nothing can learn from labels what a network should return; None if it can."""
    if not dataset.num_classes:
        return f"dataset={dataset.name} has no labels"
    if usability.kind_of(network, dataset.num_classes) != "accuracy":
        shape = list(network.output_shape)
        return f"the network returns {shape}, no logit for each of {dataset.num_classes} classes"
    return None


class Scene(NamedTuple):
    """Data, target and cuts of an experiment.

    Attributes:
      dataset: has the images; of the test split those of the half alone.
      target: the trained network.
      usability: the target's, undefended, on all these test images.
      cuts: names of the layers to cut at, in order.
      half: of the test split, one of `HALVES`.
    """

    dataset: data.Dataset
    target: targets.Target
    usability: Usability
    cuts: list[str]
    half: str = ALL

    @property
    def accuracy(self) -> float | None:
        """The target's, undefended; None where usability is another measure."""
        return self.usability.value if self.usability.kind == "accuracy" else None

    @property
    def title(self) -> str:
        """Names dataset and network, for pictures."""
        return f"{self.dataset.name}, {title_of(self.target.name)}"

    @property
    def key(self) -> str:
        """Names target and data."""
        return f"{self.target.fingerprint} {self.dataset.fingerprint} {self.half}"

    def on(self, half: str, dataset: data.Dataset) -> "Scene":
        """Returns the scene with a half of the test split of the whole dataset."""
        dataset = dataclasses.replace(dataset, test=half_of(dataset.test, half))
        found = _undefended(self.target, dataset, self.usability.kind)
        return self._replace(dataset=dataset, usability=found, half=half)

    def check_labels(self, name: str, methods: Collection[str], threats: Collection[str]) -> None:
        """Refuses attacks that learn from labels that name none of the network's outputs.

        Only the target's answers tell that of labels of fewer classes than it has outputs;
        see `Plan.check_labels`.
        """
        if self.accuracy is None:
            why = f"the labels of dataset={self.dataset.name} are not of the network's outputs"
            _refuse_labelled(name, methods, threats, why)

    def num_images(self, config: AttackConfig) -> int:
        """Returns how many test images are attacked: by default, all of a small split."""
        return config.num_images or min(config.usual_images, len(self.dataset.test))

    def images(self, config: AttackConfig) -> np.ndarray:
        """The test images to attack, `[N, H, W, C]` in unit space."""
        return self.dataset.test[: self.num_images(config)].images

    def surrogate(self, which: str) -> data.Samples:
        """Returns the samples that the attacker learns from, with labels that name outputs or none.

        Args:
          which: "attacker" or "same".
        """
        own = self.dataset.surrogate(which)
        return own if self.accuracy is not None else data.Samples(own.pixels)

    def surrogate_images(self, config: AttackConfig) -> Scaled:
        """The images that the attacker learns from, `[N, H, W, C]` in unit space."""
        return self.dataset.surrogate(config.surrogate).scaled


def begin(config: WorkConfig) -> None:
    """Checks what needs no data: the work folder, which is not made yet, and the devices.

    Networks of a user's own are built anew in each run: their code may read files that change.

    Raises:
      UserError: nothing can be written there, or no device starts.
    """
    files.check_writable(config.workdir)
    loading.forget()
    devices.start()


def plan(config: CutsConfig, dataset: data.Dataset | None = None) -> Plan:
    """Finds data, network and cuts; trains and writes nothing, and starts no device.

    Args:
      config: settings.
      dataset: the data, if they are loaded already.

    Raises:
      UserError: something is missing or unknown; the message names the argument.
    """
    if isinstance(config, AttackConfig) and config.target_seed:
        _check_seed(config)
    dataset, model = data_and_model(config, dataset)
    if isinstance(config, AttackConfig):
        if dataset.kind == IMAGE:
            quality.check_size(dataset.image_shape)
        available = len(half_of(dataset.test, config.half))
        check_images(config.num_images, available, config.half, config.asks_for_images)
    return Plan(dataset, model, _cuts_of(config, model.network))


def _cuts_of(config: CutsConfig, network: Network) -> list[str]:
    """Returns the cuts that are asked for; the first where the usual ones are another network's."""
    kind: type = type(config)
    usual = settings_of(kind)["split"].default
    known = {name.lower() for name in (*network.all_cuts, "all")}
    if config.split == usual and config.network is not None and known.isdisjoint(usual):
        return [network.cuts[0]]
    return resolve_splits(config.split, network)


def _check_seed(config: AttackConfig) -> None:
    """Refuses a seed of a target that is given.

    Raises:
      UsageError: there is such a target.
    """
    for name in ("checkpoint", "network"):
        given = getattr(config, name)
        if given is None or (name == "network" and not _brings_parameters(config)):
            continue
        what = "is the target" if name == "checkpoint" else "brings its parameters"
        raise UsageError(
            f"target_seed={config.target_seed}: {name}={given} {what}; expected one of the two."
        )


def _brings_parameters(config: DataConfig) -> bool:
    if config.network is None or loading.is_in_zoo(config.network):
        return False
    return loading.load(config.network).params is not None


def load(config: CutsConfig, planned: Plan | None = None) -> Scene:
    """Finds data, target and cuts, and says on stdout what people should know of them.

    Args:
      config: settings.
      planned: what `plan` has found; by default it is asked.

    Raises:
      UserError: something is missing or unknown; the message names the argument.
    """
    begin(config)
    dataset, model, cuts = planned or plan(config)
    if model.note:
        print(model.note)
    if _are_all(config.split) and len(cuts) < len(model.network.cuts):
        print(
            f"split=all: {len(cuts)} of the {len(model.network.cuts)} cuts, {', '.join(cuts)}; the "
            "others are named by jaxinv cuts."
        )
    checkpoint, seed, half = None, 0, ALL
    if isinstance(config, AttackConfig):
        checkpoint, seed, half = config.checkpoint, config.target_seed, config.half
        count = len(half_of(dataset.test, half))
        if count < config.usual_images and config.num_images is None:
            print(
                f"{_SPLIT[half]} has {count} images, fewer than the usual "
                f"{config.usual_images}: all are attacked."
            )
    target = None if checkpoint is None else targets.load(checkpoint, dataset, model)
    hosts.first(lambda: files.ensure_writable(config.workdir))
    if target is None:
        target = targets.find(
            dataset,
            config.workdir,
            model=model,
            seed=seed,
            flags=asked(config, dataset),
            announce=print,
        )
    if checkpoint is not None or _brings_parameters(config):  # what is trained here is finite
        finite.check(target.network, target.params, cuts, dataset.test.scaled[:8])
    found = _undefended(target, dataset, _kind(target, dataset))
    return Scene(dataset, target, found, cuts).on(half, dataset)


def _kind(target: targets.Target, dataset: data.Dataset) -> usability.Kind:
    """Returns how usability is measured, and says so where labels alone do not tell.

    Labels of fewer classes than a network has outputs are those of its first ones, or others: they
    are taken for the former if more are right than one answer for all images would have right.
    """
    kind, classes = usability.kind_of(target.network, dataset.num_classes), dataset.num_classes
    if kind == "accuracy" or not usability.may_be_classes(target.network, classes):
        return kind
    accuracy = targets.test_accuracy(target, dataset)
    usual = np.bincount(dataset.test.labels).max() / len(dataset.test)
    fits = (intervals.Share(accuracy, len(dataset.test)).interval().low or 0.0) > usual
    (outputs,) = target.network.output_shape
    print(
        f"dataset={dataset.name} has labels of {classes} classes, and the network {outputs} "
        f"outputs: {accuracy:.1%} are right, "
        + ("so usability is accuracy." if fits else f"so usability is {kind}.")
    )
    return "accuracy" if fits else kind


def _undefended(target: targets.Target, dataset: data.Dataset, kind: usability.Kind) -> Usability:
    accuracy = targets.test_accuracy(target, dataset) if kind == "accuracy" else None
    return usability.undefended(kind, accuracy, len(dataset.test))


def name_of(config: DataConfig, dataset: data.Dataset) -> str:
    """Returns the name by which data are asked for again.

    The embedded digits may have stood in for MNIST, and another machine may have MNIST.
    """
    return data.EMBEDDED if dataset.name == data.EMBEDDED else config.dataset


def asked(config: DataConfig, dataset: data.Dataset) -> dict[str, str]:
    """Returns the flags that ask for the same data and network."""
    told = experiment.spelled(config, DataConfig, dataset=name_of(config, dataset))
    return {flag: value for flag, value in told.items() if flag != "seed"}


_SPLIT = {
    ALL: "The test split",
    CHOICE: "The first half of the test split",
    REPORT: "The second half of the test split",
}


def half_of(test: data.Samples, half: str) -> data.Samples:
    """Returns a half of the test split, or all of it; see `constants.halves`."""
    middle = len(test) // 2
    return test[{ALL: slice(None), CHOICE: slice(middle), REPORT: slice(middle, None)}[half]]


def check_images(
    num_images: int | None, available: int, half: str = ALL, asked: str | None = None
) -> None:
    """Checks that as many images can be attacked as were asked for.

    Args:
      num_images: that were asked for, or None.
      available: images that there are.
      half: of the test split.
      asked: setting that asks for them, for the message; by default num_images.

    Raises:
      UsageError: there are fewer.
      UserError: a half has none.
    """
    split = _SPLIT[half]
    if half != ALL and not available:
        raise UserError(f"{split} has no image; expected two test images, one for each half.")
    if num_images is not None and num_images > available:
        told = f"{split[0].lower()}{split[1:]} has {available} images."
        raise UsageError(f"{asked or f'num_images={num_images}'}: {told}")


def resolve_splits(names: Sequence[str], network: Network) -> list[str]:
    """Returns names of cuts, in the order given and without repeats; "all" is `default_cuts`.

    Raises:
      UsageError: there is no such layer, or none is named.
    """
    if _are_all(names):
        return default_cuts(network)
    cuts = [network.resolve(name.strip()) for name in names]
    if not cuts:
        raise UsageError(f"split=: expected some of {', '.join(network.cuts)}, or all.")
    return list(dict.fromkeys(cuts))


def _are_all(names: Sequence[str]) -> bool:
    return "all" in [name.strip().lower() for name in names]


def default_cuts(network: Network) -> list[str]:
    """Returns the cuts that "all" means: the network's, at most `MOST_CUTS` spread evenly."""
    names = network.cuts
    places = np.linspace(0, len(names) - 1, min(MOST_CUTS, len(names))).round().astype(int)
    return [names[place] for place in places]
