"""Everything that can be timed, by name. JAX."""

from collections.abc import Iterator, Sequence

import jax

from jaxinv.attacks import registry
from jaxinv.inputs import data
from jaxinv.machine import devices
from jaxinv.studies.benchmark.attacks import attack_work, features_of, whitebox_stage
from jaxinv.studies.benchmark.trainings import maps_work, shadows_work
from jaxinv.studies.benchmark.work import Work
from jaxinv.training.targets import Target

WHITEBOX = tuple(registry.methods("benchmark"))
METHODS = (*WHITEBOX, "decoder", "inverse", "shadow")
"""White-box methods; what black-box attackers train (`paper`, `strong`); the query-free `paper`."""


def works(
    method: str,
    target: Target,
    dataset: data.Dataset,
    split: str,
    *,
    batches: Sequence[int],
    counts: Sequence[int],
    steps: int,
    key: jax.Array,
) -> list[Work]:
    """Compiles an attack at a cut for every size of batch and number of devices.

    Weights of priors are not chosen and trainings are short: that changes what is found, and not
    how long a step takes.

    Args:
      method: of `METHODS`.
      target: what is attacked.
      dataset: whose first test images are attacked.
      split: name of the cut.
      batches: images at once on each device.
      counts: numbers of devices.
      steps: of a run, at most.
      key: of what is random.
    """
    make = {"decoder": maps_work, "inverse": maps_work, "shadow": shadows_work}.get(
        method, _whitebox
    )
    found: list[Work] = []
    for count in counts:
        with devices.use(count):
            found += make(method, target, dataset, split, batches, steps, key)
    return found


def _whitebox(method, target, dataset, split, batches, steps, key) -> Iterator[Work]:
    edge, _ = target.network.split(split)
    stage = whitebox_stage(method, target, dataset, split, key)
    for batch in batches:
        features = features_of(target, dataset, split, batch * devices.count())
        yield attack_work(
            method, edge, target.params, features, stage, split=split, chunk=batch, steps=steps
        )
