"""Defences judged: accuracy, and what is left to attackers, on the same releases. NumPy.

A `Deployment` is a defence at all its levels, at one cut, with the targets that live with it. An
`Attacker` is one threat model and method against it, who attacks all levels when one is asked for.
"""

import dataclasses
import functools
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax import Array

from jaxinv.attacks.blackbox import blackbox
from jaxinv.attacks.learned import inverse
from jaxinv.attacks.learned.queries import divide
from jaxinv.attacks.queryfree import queryfree
from jaxinv.attacks.whitebox import adaptive
from jaxinv.attacks.whitebox import rmle as whitebox
from jaxinv.defenses import (
    MECHANISMS,
    SITES,
    Defense,
    Joined,
    Mechanism,
    Release,
    Rows,
    clipped_gaussian,
    median_norm,
    query_family,
    query_function,
    release_levels,
)
from jaxinv.errors import UsageError
from jaxinv.inputs.data import Samples
from jaxinv.machine import devices
from jaxinv.measures import intervals
from jaxinv.networks import Network, Params
from jaxinv.store.records import level_text
from jaxinv.studies import runs
from jaxinv.studies.config import SURROGATES, AttackConfig
from jaxinv.studies.experiment import setting
from jaxinv.training import classification, judge, retraining

DECIDED_BY = (
    *("jaxinv.attacks", "jaxinv.studies.tradeoffs"),
    *("jaxinv.measures.quality", "jaxinv.measures.linkage", "jaxinv.measures.intervals"),
)
"""The code that decides a result, as `source.digest` takes it."""

THREAT_MODELS = ("whitebox", "blackbox", "queryfree")
ATTACKERS = ("paper", "adaptive")
KINDS = (*MECHANISMS, "clip")
SAFE_SSIM, SAFE_REID = 0.25, 0.1  # below both, a defence is said to hold

_PAPER_STEPS = 500  # of rMLE, with which the authors' program attacks defences
_NORM_IMAGES = 2000
_STREAM = 9000  # features that a query-free attacker learns from, at most


@dataclasses.dataclass(frozen=True)
class DefenseConfig(AttackConfig):
    """Settings of a study of defences, at one or several cuts."""

    split: tuple[str, ...] = ("relu2",)
    num_images: int = 200
    defense: tuple[str, ...] = setting(
        ("dropout",),
        f"One or several of {', '.join(KINDS)}; a+b does both, first a. gaussian, laplace: noise "
        "added. dropout: values set to zero. quantize: to a number of bits. prune: the smallest "
        "values set to zero. project: to a random subspace. clip: to the median length, with "
        "Gaussian noise in proportion to it. nopeek: trained for small distance correlation of "
        "input and features.",
    )
    site: tuple[str, ...] = setting(
        ("feature",),
        "Where: feature, input (pixels as the network normalises them), or both in turn: "
        "input,feature. Of a+b: input+feature, or one for both.",
    )
    level: tuple[str, ...] | None = setting(
        None,
        "Levels, a comma list; of a+b: .2+.3,.4+.3. "
        + " ".join(f"{each.name}: {each.unit}." for each in MECHANISMS.values())
        + " By default some of each.",
    )
    attacker: tuple[str, ...] = setting(
        ATTACKERS,
        "paper: the authors' attack of the threat model. adaptive: one that knows the defence and "
        "its level, and trains on defended releases.",
    )
    threat_model: tuple[str, ...] = setting(
        ("whitebox",),
        f"What the attacker knows: one or several of {', '.join(THREAT_MODELS)}.",
    )
    releases: int = setting(1, "Releases of each image that the attacker sees.")
    draws: int = setting(
        2,
        "Independent draws of a random defence, over which accuracy and quality are means.",
    )
    retrain: str = setting(
        "none",
        "Whether the target is trained on with the defence in the loop: the cloud alone, or both "
        "halves. nopeek always trains both.",
        choices=("none", *retraining.PARTS),
    )
    retrain_steps: int = setting(retraining.STEPS, "Steps of that, to whole epochs.")
    fit_steps: int | None = setting(
        None,
        "Steps of training what the attacker learns, to whole epochs. By default that of each "
        "attack.",
    )
    shadow_steps: int | None = setting(None, "Steps of training query-free shadows.")
    correction: bool = setting(
        True,
        "Whether adaptive white-box attackers learn a network that corrects what they find. It is "
        "what takes them longest.",
    )
    surrogate: str = setting(
        "attacker",
        "Images that the attacker learns from: its own, or the target's training images.",
        choices=SURROGATES,
    )

    @property
    def method_name(self) -> str:
        """The attackers, for titles and names of files."""
        return "-".join(self.attacker)


class Choice(NamedTuple):
    """A defence as flags name it: kinds and sites, as many, and levels of each."""

    kinds: tuple[str, ...]
    sites: tuple[str, ...]
    levels: tuple[tuple[float, ...], ...] | None


def choices(config: DefenseConfig) -> list[Choice]:
    """Every defence at every site, checked.

    Raises:
      UsageError: something is unknown, out of range, or does not fit together.
    """
    _check("attacker", config.attacker, ATTACKERS)
    _check("threat_model", config.threat_model, THREAT_MODELS)
    if not config.defense or not config.site or config.level == ():
        raise UsageError("--defense, --site and --level: expected at least one each.")
    found = []
    for defense, site in itertools.product(config.defense, config.site):
        kinds, sites = tuple(defense.strip().split("+")), tuple(site.strip().split("+"))
        _check("defense", kinds, KINDS)
        _check("site", sites, SITES)
        if len(sites) not in (1, len(kinds)):
            raise UsageError(f"--site={site}: expected one site, or one for each of {defense}.")
        sites = sites * len(kinds) if len(sites) == 1 else sites
        levels = None
        if config.level is not None:
            levels = tuple(dict.fromkeys(_level(text, len(kinds)) for text in config.level))
        elif len(kinds) > 1:
            raise UsageError(f"--level is missing: {defense} has none of its own.")
        choice = Choice(kinds, sites, levels)
        _family(choice, lambda kind, site: 1.0)
        found.append(choice)
    return list(dict.fromkeys(found))


def _check(flag: str, values: Sequence[str], allowed: Sequence[str]) -> None:
    for value in values:
        if value not in allowed:
            raise UsageError(f"--{flag}={value}: expected {', '.join(allowed)}.")
    if not values:
        raise UsageError(f"--{flag} is empty: expected {', '.join(allowed)}.")


def _level(text: str, count: int) -> tuple[float, ...]:
    parts = text.strip().split("+")
    try:
        numbers = tuple(float(part) for part in parts)
    except ValueError:
        numbers = ()
    if len(numbers) != count:
        wanted = "a number" if count == 1 else f"{count} numbers with + between"
        raise UsageError(f"--level={text}: expected {wanted}.")
    return numbers


def _family(choice: Choice, norm: Callable[[str, str], float]) -> list[Defense]:
    """The defences of a choice, which differ in their levels; `norm` is asked for clipping."""
    mechanisms = [_mechanism(*each, norm) for each in zip(choice.kinds, choice.sites, strict=True)]
    levels = choice.levels or tuple((level,) for level in mechanisms[0].sweep)
    family = []
    for row in levels:
        defense = Defense()
        for mechanism, site, level in zip(mechanisms, choice.sites, row, strict=True):
            try:
                defense += mechanism.at(site, level)  # type: ignore[arg-type]
            except UsageError as error:
                raise UsageError(f"--{error}") from None
        family.append(defense)
    return family


def _mechanism(kind: str, site: str, norm: Callable[[str, str], float]) -> Mechanism:
    return clipped_gaussian(norm(kind, site)) if kind == "clip" else MECHANISMS[kind]


class Deployment:
    """A defence at all its levels, and the target that lives with it at each."""

    def __init__(self, config: DefenseConfig, scene: runs.Scene, cut: str, choice: Choice):
        network, params = scene.target.network, scene.target.params
        self.cut, self.edge, self.cloud = cut, *network.split(cut)
        own = scene.dataset.target

        def norm(kind: str, site: str) -> float:
            return median_norm(self.edge, params, own[:_NORM_IMAGES].images, site)  # type: ignore[arg-type]

        self.choice, self.family = choice, _family(choice, norm)
        trained_in = any(mechanism.penalty for mechanism, _ in self.family[0].structure)
        self.retrain = "both" if trained_in else config.retrain
        random = any(defense.is_random for defense in self.family)
        self.draws = config.draws if random else 1
        self._config, self._scene = config, scene
        self._correct: dict[int, np.ndarray] = {}
        self._params: list[Params] | None = None
        self._key_release, self.key_learn, self._key_train = jax.random.split(
            jax.random.key(config.seed), 3
        )

    @property
    def name(self) -> str:
        """For people: `dropout, feature`."""
        described = self.family[0].describe()
        return f"{described['kind']}, {described['site']}"

    @property
    def units(self) -> list[str]:
        """Of each step's level."""
        return [mechanism.unit for mechanism, _ in self.family[0].structure]

    # `functools.cached_property` has one lock for all instances before Python 3.12: two cuts that
    # are attacked side by side would wait for each other.
    @property
    def params(self) -> list[Params]:
        """Of the whole target, for each level."""
        if self._params is None:
            self._params = self._trained()
        return self._params

    def _trained(self) -> list[Params]:
        target = self._scene.target
        if self.retrain == "none":
            return [target.params] * len(self.family)
        trained = retraining.retrain(
            target.network,
            target.params,
            self.cut,
            self.family,
            self._scene.dataset.target,
            part=self.retrain,  # type: ignore[arg-type]
            key=self._key_train,
            steps=self._config.retrain_steps,
            folder=Path(self._config.workdir) / "learned",
        )
        return list(trained.params)

    @property
    def same_edge(self) -> bool:
        """Whether the edge is the same at all levels."""
        return self.retrain != "both"

    def releases(self, number: int, images: np.ndarray, count: int = 1) -> list[Release]:
        """What crosses the wire of images at a level, one `Release` for each draw."""
        params, defense = self.params[number], self.family[number]
        return [
            Release(self.edge, params, images, defense, key, releases=count) for key in self._keys
        ]

    @property
    def _keys(self) -> list[Array]:
        """Of each draw."""
        # Beyond the places of images, which are folded in, too.
        return [self._key_release] + [
            jax.random.fold_in(self._key_release, 2**31 + draw) for draw in range(1, self.draws)
        ]

    def correct(self, number: int) -> np.ndarray:
        """Which test images the cloud classifies rightly at a level, `[draws, N]` bool."""
        if self.retrain == "none" and not self.family[number].levels.any():
            with _AT_ONE_PLACE:
                return _undefended(_same_scene(self._scene))[None]
        if number not in self._correct:
            # Levels that share a target are measured together.
            numbers = [number]
            if self.retrain == "none":
                numbers = [i for i, defense in enumerate(self.family) if defense.levels.any()]
            family, params = [self.family[i] for i in numbers], self.params[number]
            test = self._scene.dataset.test
            draws = [
                classified(self.edge, self.cloud, params, test, family, key) for key in self._keys
            ]
            self._correct |= zip(numbers, np.stack(draws, axis=1), strict=True)
        return self._correct[number]

    def accuracy(self, number: int) -> dict[str, Any]:
        """What a record says of the accuracy at a level."""
        summary = intervals.summarise(self.correct(number).mean(axis=0))
        return {"accuracy": summary.mean, "accuracy_ci": [summary.low, summary.high]}


class Found(NamedTuple):
    """What an attacker made of one level: `[draws, N, H, W, C]`, how, and wall times in seconds."""

    images: np.ndarray
    fields: dict[str, Any]
    fit_seconds: float
    compile_seconds: float
    seconds: float


class _Group(NamedTuple):
    """Levels that are attacked together, as they have one edge: which, and of each its features."""

    numbers: Sequence[int]
    family: list[Defense]
    params: Params
    features: list[Any]


class Attacker:
    """One attacker of one defence at all its levels, who attacks them all when one is asked for."""

    def __init__(
        self,
        config: DefenseConfig,
        scene: runs.Scene,
        deployment: Deployment,
        threat: str,
        method: str,
    ):
        self._config, self._scene, self.deployment = config, scene, deployment
        self.threat, self.method = threat, method
        self._found: list[Found] | None = None

    @property
    def knowledge(self) -> str:
        """What it knows, in words."""
        return self._table[self.threat, self.method][0]

    @property
    def learns(self) -> bool:
        """Whether it learns from images."""
        return (self.threat, self.method) != ("whitebox", "paper")

    @property
    def identity(self) -> dict[str, Any]:
        """What decides its result beside what every run has."""
        config, deployment = self._config, self.deployment
        levels = [[step.level for step in defense.steps] for defense in deployment.family]
        known: dict[str, Any] = {
            "threat_model": self.threat,
            "draws": deployment.draws,
        }
        if deployment.retrain != "none":
            # Levels are trained together.
            known |= {
                "retrain": deployment.retrain,
                "retrain_steps": config.retrain_steps,
                "levels": levels,
            }
        if not self.learns:
            return known | {"steps": _PAPER_STEPS}
        known |= {"surrogate": config.surrogate, "fit_steps": config.fit_steps}
        if self.threat == "queryfree":
            method = "paper" if self.method == "paper" else "strong"
            return known | queryfree.settings(method, config.shadow_steps)
        if self.method == "paper":
            return known
        known |= {"levels": levels}
        if self.threat == "whitebox" and not config.correction:
            known |= {"correction": False}
        return known

    @property
    def found(self) -> list[Found]:
        """Of every level."""
        if self._found is None:
            self._found = self._attacked()
        return self._found

    def _attacked(self) -> list[Found]:
        deployment, releases = self.deployment, self._config.releases
        images, numbers = self._scene.images(self._config), range(len(deployment.family))
        seen: list[Any] = [
            Joined(deployment.releases(number, images, releases)) for number in numbers
        ]
        attack = self._table[self.threat, self.method][1]
        if deployment.same_edge and self.threat != "queryfree":
            return attack(_Group(numbers, deployment.family, deployment.params[0], seen))
        rows = zip(numbers, deployment.family, deployment.params, seen, strict=True)
        return [attack(_Group([i], [one], own, [part]))[0] for i, one, own, part in rows]

    @property
    def _table(self) -> dict[tuple[str, str], tuple[str, Callable[[_Group], list[Found]]]]:
        """Of each threat model and method, what is known and how it is used."""
        return {
            ("whitebox", "paper"): (whitebox.KNOWLEDGE, self._by_rmle),
            ("whitebox", "adaptive"): (adaptive.KNOWLEDGE, self._by_lesson),
            ("blackbox", "paper"): (blackbox.KNOWLEDGE, self._by_decoder),
            ("blackbox", "adaptive"): (
                f"{blackbox.KNOWLEDGE}; the level of their defence",
                self._by_map,
            ),
            ("queryfree", "paper"): (queryfree.METHODS["paper"], self._by_shadow),
            ("queryfree", "adaptive"): (
                f"{queryfree.METHODS['strong']}; the defence and its level",
                self._by_shadow,
            ),
        }

    @property
    def _learning(self) -> dict[str, Any]:
        """Arguments that all attacks take which learn."""
        config, deployment = self._config, self.deployment
        return {
            "key": deployment.key_learn,
            "folder": Path(config.workdir) / "learned",
            "label": deployment.cut,
            **({"fit_steps": config.fit_steps} if config.fit_steps else {}),
        }

    def _shared(
        self,
        images: Sequence[np.ndarray],
        fields: Sequence[dict[str, Any]],
        fit: float,
        compiling: float,
        running: float,
    ) -> list[Found]:
        """Levels that were learned and attacked together share the time, so that it adds up."""
        count = len(images)
        shape = (self.deployment.draws, self._config.num_images, *self._scene.dataset.image_shape)
        return [
            Found(own.reshape(shape), more, fit / count, compiling / count, running / count)
            for own, more in zip(images, fields, strict=True)
        ]

    def _by_rmle(self, group: _Group) -> list[Found]:
        deployment, count = self.deployment, len(group.family)
        settings = whitebox.paper_settings(self._scene.target.network, deployment.cut)
        settings = dataclasses.replace(settings, steps=_PAPER_STEPS)
        found = whitebox.invert(deployment.edge, group.params, Joined(group.features), settings)
        images = np.split(found.images, count)
        return self._shared(images, [{}] * count, 0.0, found.compile_seconds, found.seconds)

    def _by_lesson(self, group: _Group) -> list[Found]:
        attack = adaptive.learn(
            self.deployment.edge,
            group.params,
            self._scene.surrogate_images(self._config),
            group.family,
            releases=self._config.releases,
            correct=self._config.correction,
            **self._learning,
        )
        found = attack.invert(group.features)
        fields = [
            {"way": way, "held_out_psnr": quality}
            for way, quality in zip(found.ways, attack.quality, strict=True)
        ]
        return self._shared(
            found.images, fields, attack.fit_seconds, found.compile_seconds, found.seconds
        )

    def _by_decoder(self, group: _Group) -> list[Found]:
        edge, releases = self.deployment.edge, self._config.releases
        found = []
        for defense, own in zip(group.family, group.features, strict=True):
            answer = blackbox.invert(
                "paper",
                query_function(edge, group.params, defense, releases=releases),
                own,
                self._scene.surrogate_images(self._config),
                **self._learning,
            )
            times = answer.fit_seconds, answer.compile_seconds, answer.seconds
            found += self._shared([answer.images], [{"queries": answer.queries}], *times)
        return found

    def _by_map(self, group: _Group) -> list[Found]:
        """The map that the adaptive white-box attacker starts from, and shares."""
        taught, _, num_queries = divide(
            self._scene.surrogate_images(self._config), inverse.NUM_QUERIES
        )
        edge, releases = self.deployment.edge, self._config.releases
        learned = inverse.learn(
            query_family(edge, group.params, group.family, releases=releases),
            taught,
            key=inverse.split_key(self.deployment.key_learn).inverse,
            num_queries=num_queries,
            steps=self._config.fit_steps or adaptive.FIT_STEPS,
            family=len(group.family),
            folder=self._learning["folder"],
            label=self.deployment.cut,
        )
        answers = [learned.of(number).timed(own) for number, own in enumerate(group.features)]
        images, compiling, running = zip(*answers, strict=True)
        fields = [{"queries": learned.queries}] * len(images)
        fit = learned.seconds + learned.compile_seconds
        return self._shared(images, fields, fit, sum(compiling), sum(running))

    def _by_shadow(self, group: _Group) -> list[Found]:
        """The shadows' joint answer, of one level."""
        config, deployment, dataset = self._config, self.deployment, self._scene.dataset
        (number,), (defense,), (features,) = group.numbers, group.family, group.features
        # The test images behind those that are attacked, as the cloud received them.
        everything = deployment.releases(number, dataset.test.images, config.releases)[0]
        rest = np.arange(config.num_images, len(dataset.test))[:_STREAM]
        at_input = any(step.site == "input" for step in defense.steps)
        edge = deployment.edge
        answer = queryfree.invert(
            "paper" if self.method == "paper" else "strong",
            deployment.cloud,
            deployment.cloud.select(group.params),
            features,
            dataset.surrogate(config.surrogate),
            stream=Rows(everything, rest) if len(rest) else features,
            defense=defense,
            normalization=(edge.mean, edge.std) if at_input and edge.mean and edge.std else None,
            releases=config.releases,
            shadow_steps=config.shadow_steps,
            **self._learning,
        )
        fields = [{"shadow_accuracy": list(answer.shadows.accuracy)}]
        times = answer.fit_seconds, answer.compile_seconds, answer.seconds
        return self._shared([answer.joint], fields, *times)


EXPERIMENT = "defenses"
"""Of the records that `run_one` makes, whichever script asks for them."""


def run_one(
    config: DefenseConfig, scene: runs.Scene, attacker: Attacker, number: int
) -> dict[str, Any]:
    """Reads the record of one level, or attacks all levels and writes that of this one."""
    deployment = attacker.deployment
    defense = deployment.family[number]

    def attack() -> runs.Outcome:
        found = attacker.found[number]
        images = found.images if deployment.draws > 1 else found.images[0]
        return runs.Outcome(
            images,
            attacker.knowledge,
            config.surrogate if attacker.learns else "none",
            found.fit_seconds,
            found.compile_seconds,
            found.seconds,
            {
                "threat_model": attacker.threat,
                "draws": deployment.draws,
                "level_units": deployment.units,
                "retrain": deployment.retrain,
                **deployment.accuracy(number),
                **judged(config, scene, found.images),
                **found.fields,
            },
        )

    described, identity = defense.describe(), attacker.identity
    choice, levels = deployment.choice, deployment.choice.levels
    flags = runs.flags_of(
        config,
        scene,
        DefenseConfig,
        split=(deployment.cut,),
        defense=("+".join(choice.kinds),),
        site=("+".join(choice.sites),),
        level=levels and tuple("+".join(map(_exact, row)) for row in levels),
        threat_model=(attacker.threat,),
        attacker=(attacker.method,),
    )
    kind, level = described["kind"], level_text(described)
    return runs.run_once(
        EXPERIMENT,
        config,
        scene,
        deployment.cut,
        attack,
        identity=identity,
        flags=flags,
        label=f"-{kind}-{described['site']}-{level}-{attacker.threat}",
        method=attacker.method,
        defense=defense,
        releases=config.releases,
        decided_by=DECIDED_BY,
    )


def _exact(level: float) -> str:
    """A level in few digits where these are all of it."""
    short = f"{level:g}"
    return short if float(short) == level else repr(level)


def _header() -> str:
    return (
        f"{'split':<9}{'defence':<18}{'site':<9}{'level':<9}{'attacker':<20}{'accuracy':<10}"
        f"{'PSNR dB [95% interval]':<25}{'SSIM':<8}{'re-id':<8}{'judge':<8}"
        f"{'fit s':>7}{'attack s':>9}"
    )


def _row(record: Any) -> str:
    defense = record["defense"]
    if record["diverged"] == record["num_images"]:
        quality = f"{'diverged':<25}{'-':<8}"
    else:
        low, high = record["psnr_ci"]
        interval = f"{record['psnr_mean']:.2f} [{low:.2f}, {high:.2f}]"
        quality = f"{interval:<25}{record['ssim_mean']:<8.3f}"
    attacker = f"{record['threat_model']}, {record['method']}"
    return (
        f"{record['split']:<9}{defense['kind']:<18}{defense['site']:<9}"
        f"{level_text(defense):<9}{attacker:<20}{record['accuracy']:<10.4f}{quality}"
        f"{record['reid_top1']:<8.3f}{record['judge_accuracy']:<8.3f}"
        f"{record['fit_s']:>7.1f}{record['attack_s']:>9.1f}"
    )


TABLE = (_header(), _row)
"""A header and the line of a record, of attacks on defences."""


def judged(config: DefenseConfig, scene: runs.Scene, images: np.ndarray) -> dict[str, Any]:
    """Whether an independent classifier still sees the class in reconstructions `[S, N, ...]`."""
    trained = judge_of(config, scene)
    labels = scene.dataset.test.labels[: config.num_images]
    right = np.mean([trained.correct(own, labels) for own in images], axis=0)
    summary = intervals.summarise(right)
    return {
        "judge_accuracy": summary.mean,
        "judge_ci": [summary.low, summary.high],
        "judge_accuracy_originals": trained.accuracy,
    }


def judge_of(config: DefenseConfig, scene: runs.Scene) -> judge.Judge:
    """The judge of a study, trained when it is first asked for."""
    dataset = _Same(scene.dataset.fingerprint, scene.dataset)
    return _judge(dataset, Path(config.workdir) / "learned")


@dataclasses.dataclass(frozen=True)
class _Same:
    """A value as an argument of a cache: the same if its fingerprint is."""

    fingerprint: str
    value: Any = dataclasses.field(compare=False)


@functools.lru_cache(maxsize=1)
def _judge(dataset: _Same, folder: Path) -> judge.Judge:
    return judge.find(dataset.value, folder)


def _same_scene(scene: runs.Scene) -> _Same:
    return _Same(f"{scene.target.fingerprint} {scene.dataset.fingerprint}", scene)


_AT_ONE_PLACE = threading.Lock()  # several cuts that are attacked side by side ask the same


@functools.lru_cache(maxsize=1)
def _undefended(scene: _Same) -> np.ndarray:
    """Which test images the target classifies rightly, `[N]` bool: the same at every cut."""
    target, test = scene.value.target, scene.value.dataset.test
    return classification.correct(target.network, target.params, test.images, test.labels)


def classified(
    edge: Network,
    cloud: Network,
    params: Params,
    samples: Samples,
    family: Sequence[Defense],
    key: Array,
) -> np.ndarray:
    """Which examples are classified rightly behind each defence, `[L, N]` bool.

    What crosses the wire is what a `Release` of the images with this key would be, but for
    rounding; it never leaves the device, and the edge is computed once for all defences at its
    features.

    Args:
      edge, cloud: the two parts of a network.
      params: its parameters.
      samples: images and labels.
      family: defences that differ in their levels alone.
      key: of their randomness.
    """
    (structure,) = {defense.structure for defense in family}
    classes = devices.in_slices(
        _classes,
        np.arange(len(samples), dtype=np.int32),
        samples.images,
        static=(edge, cloud, structure),
        shared=(
            edge.select(params),
            cloud.select(params),
            key,
            np.stack([defense.levels for defense in family]),
        ),
    )
    return np.equal(classes.T, samples.labels)


def _classes(edge, cloud, structure, edge_params, cloud_params, key, levels, places, images):
    """Classes `[B, L]`."""

    def classify(features: Array) -> Array:
        return cloud.apply(cloud_params, features).argmax(-1)

    keys = jax.vmap(jax.random.fold_in, (None, 0))(key, places)
    return release_levels(edge, structure, edge_params, keys, images, levels, classify).T


def point(record: Mapping[str, Any], kind: str) -> dict[str, Any]:
    """Returns a row of a chart of trade-offs; `kind` is the name of the defence there."""
    keys = ("accuracy", "accuracy_ci", "ssim_mean", "ssim_ci", "psnr_mean", "psnr_ci")
    defense = record["defense"]
    return {
        "attacker": record["method"],
        "kind": kind,
        "site": defense["site"],
        "level": level_text(defense),
        **{key: record[key] for key in keys},
    }


def protection(finished: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """For each split and defence, the least loss of accuracy at which every attacker is held.

    Held is: below `SAFE_SSIM` and `SAFE_REID`, with the whole 95% interval, by the strongest of
    those that attacked. An attack that diverged proves nothing. Rows have
    `split`, `defense` ("kind, site"), and `loss`, `level` and the strongest attacker's `ssim` and
    `reid` there, or None for all of these where no level holds.
    """
    groups: dict[tuple[str, str], dict[str, list[dict[str, Any]]]] = {}
    for record in finished:
        defense = record["defense"]
        group = (record["split"], f"{defense['kind']}, {defense['site']}")
        levels = groups.setdefault(group, {})
        levels.setdefault(level_text(defense), []).append(record)
    rows = []
    for (split, name), levels in groups.items():
        held = []
        for level, records in levels.items():
            if any(record["diverged"] for record in records):
                continue
            ssim = max(record["ssim_ci"][1] for record in records)
            reid = max(record["reid_ci"][1] for record in records)
            loss = records[0]["accuracy_undefended"] - records[0]["accuracy"]
            if ssim < SAFE_SSIM and reid < SAFE_REID:
                held.append({"loss": loss, "level": level, "ssim": ssim, "reid": reid})
        best = min(held, key=lambda row: row["loss"], default=None)
        nothing = dict.fromkeys(("loss", "level", "ssim", "reid"))
        rows.append({"split": split, "defense": name, **(best or nothing)})
    return rows
