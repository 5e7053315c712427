"""Bounds on each choice of a partition study, kept in the work folder. JAX."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.attacks.attack import EdgeKnown
from jaxinv.attacks.learned.queries import answers
from jaxinv.attacks.linkage import bayes
from jaxinv.constants.verdicts import SAFE_REID
from jaxinv.defenses import GAUSSIAN, NONE, Defense, Release, query_function
from jaxinv.machine import environment, hosts, source
from jaxinv.machine.progress import Pace
from jaxinv.measures import bounds, costs, linkage
from jaxinv.measures.intervals import Share
from jaxinv.networks import Network
from jaxinv.store import kept, records
from jaxinv.studies import runs, threads
from jaxinv.studies.defended.accuracy import usable
from jaxinv.studies.defended.deployment import Deployment
from jaxinv.studies.partition.options import Option, PartitionConfig

_GALLERY = 1000  # test images that bounds are about
_SAMPLED, _DITHERS = 2, 8  # of these, at which the edge's information is measured; of each
_SENT = 256  # dithers of each, for the entropy of what is sent
_CERTAIN = {"sigma", "accuracy", "code_bits"} | {
    f"bayes_{name}" for name in ("sigma", "accuracy", "reid", "reid_ci")
}


def of_options(
    config: PartitionConfig,
    scene: runs.Scene,
    options: Sequence[Option],
    prices: Mapping[str, costs.CutCost],
) -> tuple[list[list[dict[str, Any]]], list[dict[str, Any]]]:
    """Returns bounds on every choice, and what is certain of every cut.

    They are about single releases: of several there is none, unless these are all the same.
    """
    known = _Limits(config, scene)
    jobs: list[list[Callable[[], Any]]] = []
    for cut in scene.cuts:
        own = [option for option in options if option.deployment.cut == cut]
        bits = [8 * option.sent_bytes(option.price(prices[cut])) for option in own]
        jobs.append(
            [
                *(
                    partial(known.of, option.deployment, option.defense, bits=each)
                    for option, each in zip(own, bits, strict=True)
                ),
                partial(known.certain, cut),
            ]
        )
    of_choices, of_cuts = [], []
    with threads.side_by_side(jobs) as measured:
        waiting = iter(measured)
        pace = Pace([1] * len(jobs), "cuts bounded", at_once=threads.at_once())
        for job in jobs:
            *found, certain = (next(waiting)() for _ in job)
            pace.advance()
            of_choices += found
            of_cuts.append(certain)
    if config.releases > 1:
        of_cuts = []
        of_choices = [
            [] if option.defense.is_random else found
            for option, found in zip(options, of_choices, strict=True)
        ]
    return of_choices, of_cuts


class _Limits:
    """Bounds on choices, kept in the work folder."""

    def __init__(self, config: PartitionConfig, scene: runs.Scene):
        self._config, self._scene = config, scene
        self._gallery = scene.dataset.test[:_GALLERY].images

    def of(self, deployment: Deployment, defense: Defense, *, bits: float) -> list[dict[str, Any]]:
        """Bounds on the release of a cut behind a defence, as a record has them."""
        coded = defense.coded_bits(math.prod(deployment.edge.output_shape))
        bits = min(bits, coded)
        known = {
            "defense": defense.describe(),
            "bits": bits,
            "same_edge": deployment.same_edge,
            "sampled": [_SAMPLED, _DITHERS, _SENT],
        }

        def find() -> list[dict[str, Any]]:
            through = bounds.channel(deployment.edge, defense)
            information, features = None, None
            if through is not None and through.network.cuts and not deployment.same_edge:
                through = None  # what is measured here is the target's edge, and not this one
            if through is not None:
                features = self._features(through.network)
                information = self._information(through.network)
            found = bounds.evaluate(
                through,
                information,
                self._gallery,
                features,
                bits=bits,
                coded=coded,
                entropies=self._entropies(deployment, defense),
            )
            found += self._bayes(deployment, defense)
            return [_recorded(bound) for bound in found]

        return self._kept(deployment.cut, "bounds", known, find, _are_bounds)

    def certain(self, cut: str) -> dict[str, Any]:
        """The Gaussian noise that holds re-identification down, and what it costs.

        `sigma` surely does, by Fano's bound; at `bayes_sigma` the Bayes rate is no higher, as far
        as simulations tell; codes of `code_bits` surely do. All on the images that bounds are
        about: noise that makes them alike leaves little to classify.
        """

        def find() -> dict[str, Any]:
            edge, _ = self._scene.target.network.split(cut)
            commonest = linkage.commonest(self._gallery)
            sigma = bounds.reid_sigma(self._features(edge), SAFE_REID, commonest)
            known = self._linkage(edge)
            least = known.least_sigma(SAFE_REID)
            rate = known.rate(least) if math.isfinite(least) else None
            finite = [each for each in (sigma, least) if math.isfinite(each)]
            behind = self._usability(cut, finite)
            return {
                "sigma": _finite(sigma),
                "accuracy": behind.get(sigma),
                "code_bits": bounds.most_bits(SAFE_REID, commonest) or None,
                "bayes_sigma": _finite(least),
                "bayes_accuracy": behind.get(least),
                "bayes_reid": rate.mean if rate else None,
                "bayes_reid_ci": list(rate.interval()) if rate else [None, None],
            }

        found = self._kept(cut, "certain", {"share": SAFE_REID}, find, _is_certain)
        return {"split": cut, **found}

    def _usability(self, cut: str, sigmas: Sequence[float]) -> dict[float, float]:
        """Returns the usability behind Gaussian noise of each deviation."""
        if not sigmas:
            return {}
        parts = self._scene.target.network.split(cut)
        noises = [GAUSSIAN.at("feature", sigma) for sigma in sigmas]
        params, key = self._scene.target.params, jax.random.key(self._config.seed)
        found = usable(self._scene, parts, params, noises, key, count=_GALLERY)
        return dict(zip(sigmas, found.values.mean(axis=1).tolist(), strict=True))

    def _bayes(self, deployment: Deployment, defense: Defense) -> list[bounds.Bound]:
        """Returns the Bayes rate of linkage, where the likelihood of a release is known."""
        if not deployment.same_edge:
            return []  # the target's edge is measured here, and not one that was trained on
        steps = [step for step in defense.steps if step.level]
        if [step[:2] for step in steps] == [(GAUSSIAN, "feature")]:
            rate: Share | None = self._linkage(deployment.edge).rate(steps[0].level)
        else:
            nothing = self._gallery[:0]
            known = EdgeKnown(deployment.edge, self._scene.target.params, nothing, (defense,))
            rate = bayes.rate(known, self._gallery, seed=self._config.seed)
        return [bounds.bayes(rate, len(self._gallery))] if rate else []

    def _kept(
        self,
        cut: str,
        name: str,
        known: dict[str, Any],
        find: Callable[[], Any],
        whole: Callable[[Any], bool],
    ) -> Any:
        """Returns an earlier result if there is one; a damaged file is renamed and made again."""
        known |= {
            "data": self._scene.dataset.fingerprint,
            "target": self._scene.target.fingerprint,
            "cut": cut,
            "gallery": len(self._gallery),
            "seed": self._config.seed,
            "code": source.digest(__name__),
            **environment.numeric_mode(),
        }
        folder = Path(self._config.workdir) / "learned"
        path = folder / f"{cut}-{records.config_hash(known)}-{name}.json"

        def kept_or_found() -> Any:
            found = None if self._config.rerun else kept.read(path, whole, "what was measured")
            if found is None:
                found = find()
                kept.write(path, found)
            return found

        return hosts.first(kept_or_found)

    def _entropies(self, deployment: Deployment, defense: Defense) -> list[float]:
        """Bits that a release has at most at dithered images, where it is of few symbols."""
        last = [step for step in defense.steps if step.site == "feature" and step.level][-1:]
        coding = last[0].mechanism.coding if last else None
        if coding is None or coding.symbols is None or not deployment.same_edge:
            return []
        level, count = last[0].level, math.prod(deployment.edge.output_shape)
        beside = coding.sent(0, level)
        each = (coding.sent(count, level) - beside) / count
        key_dither, key = jax.random.split(jax.random.fold_in(jax.random.key(self._config.seed), 2))
        found = []
        for number, image in enumerate(self._gallery[:_SAMPLED]):
            shape = (_SENT, *image.shape)
            dither = jax.random.normal(jax.random.fold_in(key_dither, number), shape, np.float32)
            copies = image[None] + bounds.DITHER * np.asarray(dither)
            query = query_function(deployment.edge, self._scene.target.params, defense)
            released = answers(query, copies, np.arange(_SENT, dtype=np.int32), key)
            seen = _symbols(coding.symbols, released, jnp.float32(level))
            found.append(bounds.entropy(np.asarray(seen), each) + beside)
        return found

    @functools.lru_cache(maxsize=2)  # noqa: B019 - it lives as long as a run
    def _information(self, network: Network) -> bounds.Information:
        key = jax.random.fold_in(jax.random.key(self._config.seed), 1)
        params = self._scene.target.params
        images = self._gallery[:_SAMPLED]
        return bounds.information(network, params, images, key, draws=_DITHERS)

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _linkage(self, network: Network) -> bayes.GaussianLinkage:
        features = self._features(network)
        return bayes.GaussianLinkage(features, self._gallery, seed=self._config.seed)

    @functools.lru_cache(maxsize=2)  # noqa: B019
    def _features(self, network: Network) -> np.ndarray:
        key = jax.random.key(0)  # nothing is drawn
        release = Release(network, self._scene.target.params, self._gallery, NONE, key)
        return release[np.arange(len(self._gallery))]


@partial(jax.jit, static_argnums=0)
def _symbols(symbols: Callable[..., Array], released: Array, level: Array) -> Array:
    """By which features `[B, ...]` are sent."""
    return jax.vmap(symbols, (0, None))(released, level)


def _are_bounds(found: Any) -> bool:
    """Returns whether a file holds bounds, as a record has them."""
    kinds = {"value": float | None, "dithered": bool, "ci": list}
    return isinstance(found, list) and all(
        isinstance(one, dict)
        and one.keys() == set(bounds.Bound._fields)
        and all(isinstance(value, kinds.get(key, str)) for key, value in one.items())
        for one in found
    )


def _is_certain(found: Any) -> bool:
    return (
        isinstance(found, dict)
        and found.keys() == _CERTAIN
        and all(isinstance(value, float | int | list | None) for value in found.values())
    )


def _recorded(bound: bounds.Bound) -> dict[str, Any]:
    """Returns a bound as a record has it."""
    return {**bound._asdict(), "value": _finite(bound.value), "ci": list(bound.ci)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
