"""From flags to runs: a grid over the flags that an experiment takes one value of.

The flags are those of the experiment's value, so every mistake in a name or a value is found before
anything starts. Lists stay whole, because their items are learned or shown together; `--split`
alone is a list that is run one by one, unless the experiment weighs cuts against each other.
"""

import dataclasses
import functools
import hashlib
import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from absl import flags

import jaxinv
from jaxinv.errors import UsageError
from jaxinv.inputs import places
from jaxinv.machine import environment
from jaxinv.measures.profiles import device
from jaxinv.store import files, records
from jaxinv.studies import experiment, spelling
from jaxinv.sweeps.store import Run

if TYPE_CHECKING:
    from jaxinv.inputs.data import Dataset
    from jaxinv.networks.loading import Model

PACKAGE = Path(jaxinv.__file__).parent
_OF_ONE_RUN = ("export", "import", "pairs", "json")  # files of one run, and what it prints
OF_THE_SWEEP = ("workdir", "rerun")  # the same for all runs, and no part of their names
_SCENE = (
    "dataset",
    "image_size",
    "network",
    "mean",
    "std",
)  # settings that decide data and network
_ONE_VALUE = ("data_dir", "reference", "tensorboard", *OF_THE_SWEEP)
"""Flags in which a comma is one of a path or command."""


def parse(script: str, arguments: Sequence[str]) -> dict[str, str]:
    """Flags as they are written on a command line, `{name: text}`; of repeats the last one.

    Raises:
      UsageError: there is no such script or flag.
    """
    known = flags_of(script)
    given: dict[str, str] = {}
    try:
        rest = known.read_flags_from_files(list(arguments))
    except UnicodeDecodeError as error:
        raise UsageError(f"--flagfile: no text ({error}).") from error
    except flags.Error as error:
        raise UsageError(" ".join(str(error).split())) from error
    while rest:
        token = rest.pop(0)
        name, equals, text = token.lstrip("-").partition("=")
        if not token.startswith("-"):
            raise UsageError(f"{token}: unexpected; flags are written --name=value.")
        if not equals and name.startswith("no") and name[2:] in known and known[name[2:]].boolean:
            name, text = name[2:], "false"
        elif name not in known:
            _parsed(known, name, "")  # raises; absl knows names that are close
        elif not equals and known[name].boolean:
            text = "true"
        elif not equals:
            if not rest:
                raise UsageError(f"--{name}: the value is missing.")
            text = rest.pop(0)
        given[name] = text
    return given


def expand(script: str, given: Mapping[str, str]) -> list[Run]:
    """Runs of a script for all combinations of the values that flags are given, without repeats.

    Data sets and networks are loaded, so that runs side by side need not, and nothing is trained.
    The order is that of the flags, the last of them changing fastest; data sets come first, then
    networks.

    Args:
      script: its name.
      given: flag -> value as on the command line, or several with commas between; `split` may be
        "all". Not `workdir` and `rerun`, which are for `sweeps.run`.

    Raises:
      UsageError: there is no such script, flag or value, or not as many images.
      UserError: data, network or checkpoint cannot be had.
    """
    from jaxinv.studies.models import data_and_model  # imports JAX
    from jaxinv.studies.scenes import check_images

    found, known = experiment.find(script), flags_of(script)
    for name in OF_THE_SWEEP:
        if name in given:
            raise UsageError(f"{name}={given[name]}: is one for the whole sweep.")
    for name in _OF_ONE_RUN:
        if name in given:
            raise UsageError(f"{name}={given[name]}: is of one run; a sweep takes none.")
    axes = {name: values(script, name, text) for name, text in given.items()}
    scenes = {name: axes.pop(name) for name in _SCENE if name in axes}
    data_dir = {name: axes[name][0] for name in axes if name == "data_dir"}
    versions = {
        "jaxinv": environment.version("jaxinv"),
        "code": _code_digest(),
        **{name: str(value) for name, value in environment.numeric_mode().items()},
    }
    runs = []
    for scene in _points(scenes):
        config = _config(script, {**data_dir, **scene})
        dataset, model = data_and_model(config, announce=places.print_to_stderr)
        choices = {**axes, **_checked_splits(script, axes, model)}
        for number in axes.get("num_images", ()):
            check_images(int(number), len(dataset.test))
        paths = axes.get("checkpoint", [""])
        targets = {path: _target_digest(path, dataset, model) for path in paths}
        for chosen in _points(choices):
            inputs = {**versions, "dataset": dataset.name, "data": dataset.fingerprint}
            inputs["network"] = model.network.fingerprint
            if "checkpoint" in known:
                ships = chosen.get("target_seed", "0") == "0"
                inputs["target"] = targets[chosen.get("checkpoint", "")] if ships else None
            if "profile" in known:
                inputs["profile"] = _profile_digest(known, chosen)
            chosen |= scene
            if found.check is not None:
                found.check(_config(script, chosen), dataset)
            runs.append(Run(script, chosen, inputs))
    return list({run.name: run for run in runs}.values())


def _points(axes: Mapping[str, list[str]]) -> list[dict[str, str]]:
    """Returns all combinations of values, the last flag changing fastest."""
    points = itertools.product(*axes.values())
    return [dict(zip(axes, point, strict=True)) for point in points]


def _profile_digest(known: flags.FlagValues, chosen: Mapping[str, str]) -> str:
    """Returns a digest of what the file of a device says."""
    named = device.named(chosen.get("profile", str(known["profile"].default)))
    times = None if named.times is None else named.times.seconds
    return records.config_hash({"profile": dataclasses.asdict(named.profile), "times": times})


def values(script: str, name: str, text: str) -> list[str]:
    """The values that a flag is given, in the spelling of its type and without repeats.

    Raises:
      UsageError: there is no such flag, or it does not take one of them.
    """
    known = flags_of(script)
    found_ = experiment.find(script)
    is_list = name in known and found_.settings[name].many
    if is_list:
        parts = _parsed(known, name, text)
        several = name == "split" and not found_.joins_cuts
        return list(dict.fromkeys(parts or [""])) if several else [text.strip()]
    found = []
    for one in [text] if name in _ONE_VALUE else text.split(","):
        value = _parsed(known, name, one)
        if name in known and found_.settings[name].is_path:
            value = files.expanded(name, value)
        found.append(spelling.text_of(value))
    return list(dict.fromkeys(found))


@functools.cache
def flags_of(script: str) -> flags.FlagValues:
    """Returns the flags of an experiment.

    Raises:
      UsageError: there is no such experiment, or it makes no records.
    """
    found = experiment.find(script)
    if not found.leaves_runs:
        raise UsageError(f"{script} makes no records of its own: there is nothing to sweep.")
    return found.define_flags()


def _parsed(known: flags.FlagValues, name: str, text: str) -> Any:
    """Parses a flag's value as absl does."""
    try:
        known(["sweep", f"--{name}={text}"])
        if name not in known:  # absl's own, or none at all
            raise UsageError(f"--{name}: there is no such flag.")
        return known[name].value
    except flags.Error as error:
        raise UsageError(" ".join(str(error).split())) from error
    finally:
        known.unparse_flags()


def _config(script: str, given: Mapping[str, str]) -> Any:
    """Returns the configuration of a run."""
    found, known = experiment.find(script), flags_of(script)
    try:
        known(["sweep", *(f"--{name}={text}" for name, text in given.items())])
        return found.config(known)
    except flags.Error as error:
        raise UsageError(" ".join(str(error).split())) from error
    finally:
        known.unparse_flags()


def _checked_splits(
    script: str, axes: Mapping[str, list[str]], model: "Model"
) -> dict[str, list[str]]:
    """`{"split": names}` where it is given, in the network's spelling."""
    from jaxinv.studies.scenes import resolve_splits  # imports JAX

    if "split" not in axes:
        return {}
    names = [name for text in axes["split"] for name in text.split(",")]
    cuts = resolve_splits(names, model.network)
    return {"split": [",".join(cuts)] if experiment.find(script).joins_cuts else cuts}


def _target_digest(checkpoint: str, dataset: "Dataset", model: "Model") -> str | None:
    """12 digits of what a target is read from; None if it is found or trained later."""
    from jaxinv.store import checkpoints
    from jaxinv.training import targets  # import JAX

    if not checkpoint and model.params is not None:
        return checkpoints.fingerprint(model.params)
    path = Path(checkpoint) if checkpoint else targets.shipped(dataset, model)
    if path is None:
        return None
    if checkpoint:
        targets.load(path, dataset, model)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:12]


@functools.cache
def _code_digest() -> str:
    """12 digits of all of our code: with other code, experiments are asked anew."""
    total = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        total.update(f"{path.relative_to(PACKAGE)} ".encode() + path.read_bytes())
    return total.hexdigest()[:12]
