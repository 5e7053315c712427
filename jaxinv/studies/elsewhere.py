"""Attacks that another program runs: what crossed goes out, reconstructions come back. JAX."""

import dataclasses
import os
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from jaxinv import defenses
from jaxinv.errors import UsageError
from jaxinv.inputs import exchange
from jaxinv.inputs.exchange import read_reconstructions
from jaxinv.machine import hosts
from jaxinv.store import checkpoints
from jaxinv.studies import runs
from jaxinv.studies.config import ExchangedConfig
from jaxinv.studies.experiment import settings_of

ConfigT = TypeVar("ConfigT", bound=ExchangedConfig)

METHOD = "import"
_KNOWLEDGE = "not known here: another program has reconstructed them"


def completed(config: ConfigT) -> ConfigT:
    """Returns settings that attack as many images as are imported, if any are.

    Raises:
      UserError: they are told to attack another number, or there is no such file.
    """
    if config.imported is None:
        return config
    count = exchange.number_of_reconstructions(config.imported)
    if config.num_images not in (None, count):
        raise UsageError(f"num_images={config.num_images}: import={config.imported} has {count}.")
    return dataclasses.replace(config, num_images=count)


def checked(config: ExchangedConfig, plan: runs.Plan) -> runs.Plan:
    """Returns a plan, once it is known that files fit it.

    Raises:
      UserError: there are several cuts, the export is no FILE.npz, an attack is set that does not
        run, or what is imported is no reconstruction of such images.
    """
    for name, path in (("export", config.export), ("import", config.imported)):
        if path is not None and len(plan.cuts) > 1:
            raise UsageError(
                f"{name}={path}: split={','.join(plan.cuts)} are {len(plan.cuts)} cuts; expected "
                "one."
            )
    if config.export is not None and (
        os.path.isdir(config.export) or not config.export.endswith(".npz")
    ):
        raise UsageError(f"export={config.export}: expected FILE.npz.")
    if config.imported is not None:
        _check_settings(config)
        read_reconstructions(config.imported, plan.dataset.image_shape, plan.dataset.columns)
    return plan


def tasks(
    experiment: str, config: ExchangedConfig, scene: runs.Scene
) -> list[Callable[[], dict[str, Any]]]:
    """Writes the release, if that is asked for; returns what judges an import, if there is one."""
    if config.export is not None:
        _export(config.export, config, scene)
        print(f"What crossed at {scene.cuts[0]}: {config.export}")
    return [] if config.imported is None else [partial(judge, experiment, config, scene)]


def judge(experiment: str, config: ExchangedConfig, scene: runs.Scene) -> dict[str, Any]:
    """Judges reconstructions that were made elsewhere, unless that is done; returns the record."""
    (cut,) = scene.cuts
    assert config.imported is not None
    dataset = scene.dataset
    images = read_reconstructions(config.imported, dataset.image_shape, dataset.columns)
    found = runs.Outcome(images, _KNOWLEDGE, "none", np.nan, np.nan, np.nan)
    return runs.run_once(
        experiment,
        config,
        scene,
        cut,
        lambda: found,
        identity={"import": checkpoints.fingerprint({"images": images})},
        method=METHOD,
        decided_by=(__name__,),
    )


def _export(path: str, config: ExchangedConfig, scene: runs.Scene) -> None:
    (cut,) = scene.cuts
    edge, _ = scene.target.network.split(cut)
    key, images = jax.random.key(config.seed), scene.images(config)
    release = defenses.Release(edge, scene.target.params, images, defenses.NONE, key)
    features = edge.wire.unravel(jnp.asarray(release[np.arange(len(images))]))
    test = scene.dataset.test[: len(images)]
    labels = test.labels if test.has_labels else None
    crossed, columns = [np.asarray(each) for each in features], scene.dataset.columns
    hosts.first(lambda: exchange.write_release(path, crossed, images, labels, columns))


def _check_settings(config: ExchangedConfig) -> None:
    """Refuses settings of an attack, which is not run."""
    kind: type = type(config)
    for each in settings_of(kind).values():
        value = getattr(config, each.field)
        if not each.shared and value != each.default and each.name != "method":
            raise UsageError(
                f"{each.name}={value}: import={config.imported} was reconstructed elsewhere, and "
                "no attack runs here."
            )
