"""Defences judged: what flags may say, that accuracy and attacks see one release, and verdicts."""

import dataclasses
import threading
from concurrent.futures import ThreadPoolExecutor

import fake_runs
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import defenses
from jaxinv.attacks import registry
from jaxinv.attacks.attack import LearnedAttack, Reconstruction
from jaxinv.attacks.whitebox import rmle
from jaxinv.constants.halves import CHOICE, REPORT
from jaxinv.constants.threats import THREATS
from jaxinv.constants.verdicts import FAILS, HOLDS, SAFE_REID, SAFE_SSIM, UNDECIDED
from jaxinv.defenses import DROPOUT, GAUSSIAN, NONE, Release
from jaxinv.errors import UsageError
from jaxinv.inputs import data
from jaxinv.measures import usability
from jaxinv.networks import sequence
from jaxinv.store.record import typed
from jaxinv.studies import runs
from jaxinv.studies.defended import accuracy
from jaxinv.studies.defended.accuracy import judged, usable
from jaxinv.studies.defended.attackers import Attacker
from jaxinv.studies.defended.choices import DefenseChoice, DefenseConfig, choices
from jaxinv.studies.defended.deployment import Deployment
from jaxinv.studies.defended.known import release_key
from jaxinv.studies.defended.run import run_one
from jaxinv.studies.defended.verdict import protection
from jaxinv.studies.defenses import protection_table
from jaxinv.training import classification, retraining, targets

NETWORK = sequence(
    [
        ("conv", nn.Conv(2, (3, 3), (2, 2))),
        ("relu", nn.relu),
        ("logits", nn.DenseGeneral(10, axis=(-3, -2, -1))),
    ],
    (12, 12, 1),
    mean=(0.5,),
    std=(0.3,),
)
PARAMS = jax.jit(NETWORK.init)(jax.random.key(0))


def config_of(**changes):
    return DefenseConfig(**{"split": ("relu",), "num_images": 5, **changes})


@pytest.fixture(scope="module")
def scene():
    """Random images, labelled as an untrained network sees them but for a few."""

    def samples(count, seed):
        rng = np.random.default_rng(seed)
        pixels = rng.integers(0, 256, (count, 12, 12, 1), dtype=np.uint8)
        seen = NETWORK.apply(PARAMS, jnp.asarray(data.Samples(pixels, np.zeros(count, int)).images))
        labels = np.asarray(seen).argmax(1).astype(np.int32)
        labels[::10] = (labels[::10] + 1) % 10
        return data.Samples(pixels, labels)

    parts = samples(40, 0), samples(40, 1), samples(60, 2)
    dataset = data.Dataset("random", "nowhere", "f" * 12, 10, *parts)
    target = targets.Target("ours", NETWORK, PARAMS, "nowhere", "e" * 12, {})
    usable = usability.undefended("accuracy", 0.9, len(dataset.test))
    return runs.Scene(dataset, target, usable, ["relu"])


def deployed(scene, *family, site="feature", kind="dropout", **changes):
    levels = tuple((level,) for level in family)
    return Deployment(config_of(**changes), scene, "relu", DefenseChoice((kind,), (site,), levels))


# --- Flags --------------------------------------------------------------------------------------


def test_every_defence_stands_at_every_site():
    found = choices(config_of(defense=("dropout", "gaussian"), site=("feature", "input")))
    assert found == [
        DefenseChoice(("dropout",), ("feature",), None),
        DefenseChoice(("dropout",), ("input",), None),
        DefenseChoice(("gaussian",), ("feature",), None),
        DefenseChoice(("gaussian",), ("input",), None),
    ]


def test_what_is_given_twice_is_done_once():
    found = choices(config_of(defense=("dropout", " dropout"), level=(".2", "0.2", "0")))
    assert found == [DefenseChoice(("dropout",), ("feature",), ((0.2,), (0.0,)))]


def test_several_are_written_with_a_plus():
    config = config_of(defense=("dropout+clip",), site=("input+feature",), level=(".2+.1", "0+0"))
    (found,) = choices(config)
    assert found == DefenseChoice(
        ("dropout", "clip"), ("input", "feature"), ((0.2, 0.1), (0.0, 0.0))
    )
    (found,) = choices(dataclasses.replace(config, site=("feature",)))
    assert found.sites == ("feature", "feature")


MISTAKES = {
    "unknown defence": ({"defense": ("blur",)}, "defense=blur: expected gaussian, ... clip."),
    "unknown part": ({"defense": ("dropout+blur",), "level": ("0+0",)}, "defense=blur"),
    "no defence": ({"defense": ()}, "defense"),
    "unknown site": ({"site": ("wire",)}, "site=wire: expected input, feature"),
    "unknown attacker": ({"attacker": ("strong",)}, "attacker=strong: expected paper, adaptive"),
    "no attacker": ({"attacker": ()}, "attacker=: expected"),
    "unknown threat": ({"threat_model": ("grey",)}, "threat_model=grey: expected whitebox"),
    "no threat": ({"threat_model": ()}, "threat_model=: expected"),
    "no level": ({"level": ()}, "level"),
    "a level in words": ({"level": ("much",)}, "level=much: expected a number"),
    "level too high": ({"level": ("0", "1")}, "level=1.0: dropout takes a number ... below 1"),
    "level below 0": ({"level": ("-.1",)}, "level=-0.1: dropout"),
    "level not finite": (
        {"defense": ("gaussian",), "level": ("nan",)},
        "level=nan: expected a number",
    ),
    "part of a bit": ({"defense": ("quantize",), "level": ("1.5",)}, "quantize takes a whole"),
    "levels without a plus": (
        {"defense": ("dropout+gaussian",), "level": (".2",)},
        "level=.2: expected 2 numbers with + between",
    ),
    "levels with a plus": ({"level": (".2+.3",)}, "level=.2+.3: expected a number"),
    "several without levels": ({"defense": ("dropout+gaussian",)}, "level=: missing"),
    "too many sites": ({"site": ("input+feature",)}, "site=input+feature: expected one"),
    "too few sites": (
        {"defense": ("clip+clip+clip",), "site": ("input+feature",), "level": ("0+0+0",)},
        "site=input+feature",
    ),
    "a layer behind noise": (
        {"defense": ("gaussian+sca",), "level": ("1+.1",)},
        "defense=gaussian+sca: sca ends the edge; expected it first",
    ),
    "two layers": (
        {"defense": ("vib+sca",), "level": ("1+.1",)},
        "defense=vib+sca: expected one of vib and sca",
    ),
    "nopeek at the input": (
        {"defense": ("nopeek",), "site": ("input",)},
        "site=input: nopeek is trained in",
    ),
    "a level that fits one of two": (
        {"defense": ("gaussian", "dropout"), "level": ("2",)},
        "level=2.0: dropout",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line(name):
    changes, words = MISTAKES[name]
    with pytest.raises(UsageError) as caught:
        choices(config_of(**changes))
    line = str(caught.value)
    assert "\n" not in line and "--" not in line
    assert all(part in line for part in words.split(" ... "))


# --- One release for all ------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["input", "feature"])
def test_what_is_attacked_is_what_the_accuracy_is_of(scene, site):
    deployment = deployed(scene, 0.0, 0.5, site=site, draws=3)
    images = scene.dataset.test.images
    whole, part = deployment.releases(1, images), deployment.releases(1, images[:5])
    assert len(whole) == len(part) == 3
    rows = np.arange(5)
    for one, other in zip(whole, part, strict=True):
        np.testing.assert_allclose(one[np.arange(60)][:5], other[rows], rtol=1e-5, atol=1e-6)
    assert np.abs(part[0][rows] - part[1][rows]).max() > 0.1
    assert np.abs(part[1][rows] - part[2][rows]).max() > 0.1
    alone = deployed(scene, 0.5, site=site, draws=1).releases(0, images)
    np.testing.assert_allclose(alone[0][rows], part[0][rows], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "defense, other",
    [
        (GAUSSIAN.at("feature", 0.5), GAUSSIAN.at("feature", 2.0)),
        (
            DROPOUT.at("feature", 0.5) + GAUSSIAN.at("feature", 0.2),
            DROPOUT.at("feature", 0.8) + GAUSSIAN.at("feature", 0.7),
        ),
        (GAUSSIAN.at("input", 0.5), GAUSSIAN.at("input", 0.1)),
    ],
)
def test_what_is_classified_is_what_crosses_the_wire(scene, defense, other):
    key, (edge, cloud) = jax.random.key(3), NETWORK.split("relu")
    test = scene.dataset.test
    found = usable(scene, (edge, cloud), PARAMS, [defense, other], key).values
    expected = [
        classification.correct(
            cloud, PARAMS, Release(edge, PARAMS, test.images, own, key), test.labels
        )
        for own in (defense, other)
    ]
    assert found.shape == (2, 60) and found.dtype == bool
    np.testing.assert_array_equal(found, expected)
    assert (found[0] != found[1]).any()


def test_the_edge_is_computed_once_for_all_levels(scene):
    """Counted where the program is made: the edge's layers stand outside the loop over levels."""
    edge, _ = NETWORK.split("relu")
    structure, levels = GAUSSIAN.at("feature", 1.0).structure, np.ones((4, 1), np.float32)
    keys, images = jax.random.split(jax.random.key(0), 5), scene.dataset.test.images[:5]

    def run(keys, images):
        own = edge.select(PARAMS)
        return defenses.release_levels(edge, structure, own, keys, images, levels, jnp.sum)

    program = jax.make_jaxpr(run)(keys, images)
    (loop,) = (each for each in program.eqns if each.primitive.name == "scan")
    outside = " ".join(str(each) for each in program.eqns if each is not loop)
    assert "conv_general_dilated" in outside and "conv_general_dilated" not in str(loop)


def test_without_a_defence_the_whole_target_is_asked_once(scene, monkeypatch):
    accuracy._classes.cache_clear()
    asked = []

    def classes(network, *args):
        asked.append(network.cuts)
        return original(network, *args)

    original = classification.classes
    monkeypatch.setattr(classification, "classes", classes)
    for kind in ("dropout", "gaussian"):
        found = deployed(scene, 0.0, kind=kind).scores(0).values
        assert found.shape == (1, 60) and found.mean() == pytest.approx(0.9)
    assert asked == [NETWORK.cuts]


def test_no_choice_has_seen_the_noise_of_report_images(scene):
    images = scene.dataset.test[:3].images
    chosen, reported = (
        deployed(scene._replace(half=half), 1.0, kind="gaussian").releases(0, images)[0]
        for half in (CHOICE, REPORT)
    )
    places = np.arange(3)
    assert (chosen[places] != reported[places]).mean() > 0.9


def test_a_network_that_is_not_defended_agrees_with_itself_for_certain(scene):
    alike = scene._replace(usability=usability.undefended("agreement", None, 60))
    assert deployed(alike, 0.0).usability(0).interval == (1.0, 1.0)


@pytest.mark.parametrize("retrain", ["none", "cloud", "both"])
def test_the_accuracy_is_the_clouds_on_every_draw(scene, monkeypatch, retrain):
    def trained(network, params, cut, family, samples, *, part, **options):
        """Other parameters at each level, of the cloud alone if that is asked for."""
        edge, _ = network.split(cut)
        own = [network.init(jax.random.key(9 + number)) for number in range(len(family))]
        kept = edge.select(params) if part == "cloud" else {}
        return retraining.Retrained([{**each, **kept} for each in own], 0.0, 0.0)

    monkeypatch.setattr(retraining, "retrain", trained)
    deployment = deployed(scene, 0.0, 0.3, 0.8, retrain=retrain)
    test = scene.dataset.test
    assert deployment.draws == 2
    if retrain == "none":
        assert deployment.usability(0).value == pytest.approx(0.9)
    for number in (2, 1):
        expected = []
        for release in deployment.releases(number, test.images):
            features = release[np.arange(60)]
            logits = deployment.cloud.apply(deployment.params[number], features)
            expected.append(np.asarray(logits).argmax(1) == test.labels)
        np.testing.assert_array_equal(deployment.scores(number).values, expected)
    found = deployment.usability(1).fields
    assert found["accuracy"] == pytest.approx(np.mean(expected))
    low, high = found["accuracy_ci"]
    assert low < found["accuracy"] < high
    assert found["accuracy"] < 0.9


def test_without_randomness_one_draw_is_all(scene):
    assert deployed(scene, 0.0, 0.5).draws == 2
    assert deployed(scene, 0.0).draws == 1
    assert deployed(scene, 2, kind="quantize").draws == 1


def test_clipping_is_to_the_median_length_of_the_deployers_images(scene):
    deployment = deployed(scene, 0.0, 0.1, kind="clip")
    features = np.asarray(deployment.edge.apply(PARAMS, scene.dataset.target.images))
    norm = np.median(np.linalg.norm(features.reshape(40, -1), axis=1))
    mechanism = deployment.family[1].steps[0].mechanism
    made = mechanism.apply(jax.random.key(0), jnp.full(features[0].shape, 1e3), jnp.float32(1e-9))
    assert np.linalg.norm(made) == pytest.approx(norm, rel=1e-3)
    assert deployment.name == "clip, feature"


def test_nopeek_trains_both_halves_and_others_what_is_asked(scene, monkeypatch):
    asked = []

    def retrain(network, params, cut, family, samples, *, part, steps, **options):
        asked.append((part, steps, len(family), len(samples)))
        return retraining.Retrained((params,) * len(family), 0.0, 0.0)

    monkeypatch.setattr(retraining, "retrain", retrain)
    nothing = deployed(scene, 0.5)
    assert nothing.same_edge and nothing.params == [PARAMS]
    cloud = deployed(scene, 0.0, 0.5, retrain="cloud", retrain_steps=7)
    assert cloud.same_edge and len(cloud.params) == 2
    nopeek = deployed(scene, 0.0, 1.0, 2.0, kind="nopeek")
    assert not nopeek.same_edge and len(nopeek.params) == 3
    assert asked == [("cloud", 7, 2, 40), ("both", retraining.STEPS, 3, 40)]


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "shape"), [("sca", (8, 8, 16)), ("bottleneck", (8, 8, 2))])
def test_a_layer_of_a_defense_ends_the_edge_of_each_level(scene, monkeypatch, kind, shape):
    monkeypatch.setattr(retraining, "STEPS", 1)
    deployment = deployed(scene, 1.0, 2.0, kind=kind, retrain_steps=1)
    assert deployment.has_layer and not deployment.same_edge and deployment.retrain == "both"
    host = NETWORK.split("relu")[0].output_shape
    assert deployment.edge.output_shape == (*host[:-1], max(1, shape[-1] * host[-1] // 8))
    (release,) = deployment.releases(1, scene.dataset.test.images[:3])
    features = release[np.arange(3)]
    assert features.shape[1:] == deployment.edge.output_shape
    assert deployment.cloud.apply(deployment.params[1], features).shape == (3, 10)
    assert deployment.usability(0).value is not None


def test_learned_noise_leaves_the_host_as_it_is(scene):
    deployment = deployed(scene, 0.1, kind="cloak", retrain_steps=1)
    assert deployment.retrain == "cloud" and not deployment.same_edge
    assert deployment.draws == 2
    assert deployed(scene, 0.1, kind="cloak", retrain="both").retrain == "cloud"


@dataclasses.dataclass
class Answering(LearnedAttack):
    """Answers the number of an image among all, as a picture, and keeps what it was handed."""

    handed: list
    wait: threading.Barrier | None = None

    def invert(self, observed, member=0):
        raise AssertionError("levels of one edge are attacked together")

    def invert_each(self, observed):
        if self.wait:
            self.wait.wait()
        self.handed += [part[np.arange(len(part))] for part in observed]
        ends = np.cumsum([len(part) for part in observed])
        answers = np.split(np.arange(ends[-1], dtype=np.float32), ends[:-1])
        return [
            Reconstruction(
                np.broadcast_to(own[:, None, None, None], (len(own), 12, 12, 1)), 4.0, 2.0
            )
            for own in answers
        ]


@pytest.fixture
def answering(monkeypatch):
    """Makes the authors' white-box attackers answer by numbers."""

    def replace(**options):
        learned = Answering([], **options)
        monkeypatch.setattr(rmle.Rmle, "learn", lambda *args: learned)
        return learned

    return replace


@pytest.mark.parametrize("releases", [1, 3])
def test_an_attacker_is_handed_every_draw_of_every_level(scene, answering, releases):
    """And its answers go back to where they belong."""
    learned = answering()
    deployment = deployed(scene, 0.2, 0.5, releases=releases)
    config = config_of(releases=releases)
    attacker = Attacker(config, scene, deployment, "whitebox", "paper")
    found = [attacker.found(number) for number in range(2)]
    images = scene.dataset.test.images[:5]
    expected = [
        release[np.arange(5)]
        for number in range(2)
        for release in deployment.releases(number, images, releases)
    ]
    np.testing.assert_allclose(
        np.concatenate(learned.handed), np.concatenate(expected), rtol=1e-5, atol=1e-6
    )
    for number, level in enumerate(found):
        assert level.images.shape == (2, 5, 12, 12, 1)
        np.testing.assert_array_equal(
            level.images[..., 0, 0, 0].ravel(), 10 * number + np.arange(10)
        )
        assert (level.compile_seconds, level.seconds) == (2.0, 4.0)


def test_of_other_ways_no_more_than_their_quality_is_kept(scene, monkeypatch):
    images = scene.dataset.test.images[:5]
    right, grey = np.concatenate([images, images]), np.full((10, 12, 12, 1), 0.5, np.float32)

    class TwoWays(LearnedAttack):
        def invert(self, observed, member=0):
            return Reconstruction(grey, 1.0, ways={"grey": grey, "right": right})

    monkeypatch.setattr(rmle.Rmle, "learn", lambda *args: TwoWays())
    attacker = Attacker(config_of(), scene, deployed(scene, 0.5), "whitebox", "paper")
    found = attacker.found(0)
    assert not found.ways and (found.images == 0.5).all()
    ways = found.info["ways"]
    assert ways["right"]["ssim_mean"] == pytest.approx(1) and ways["right"]["reid_top1"] == 1
    assert ways["grey"]["ssim_mean"] < 0.5 and ways["grey"]["reid_top1"] == 0


def test_cuts_are_attacked_side_by_side(scene, answering):
    """Each waits for the other, and neither attacks twice."""
    learned = answering(wait=threading.Barrier(2, timeout=30))
    attackers = [
        Attacker(config_of(), scene, deployed(scene, 0.5), "whitebox", "paper") for _ in range(2)
    ]
    with ThreadPoolExecutor(2) as pool:
        found = [*pool.map(lambda attacker: attacker.found(0), attackers)]
    assert all(attacker.found(0) is own for attacker, own in zip(attackers, found, strict=True))
    assert len(learned.handed) == 2


def test_images_are_freed_once_they_are_recorded(scene, answering, monkeypatch):
    """Also those of a level that was recorded before any was attacked."""
    learned = answering()

    def run_once(experiment, config, scene, cut, attack, *, defense, **options):
        if defense.levels != 0.2:  # whose record is of an earlier run
            attack()
        return {}

    monkeypatch.setattr(runs, "run_once", run_once)
    monkeypatch.setattr("jaxinv.studies.defended.run.judged", lambda *args: {})
    told = usability.undefended("accuracy", 0.9, 60)
    monkeypatch.setattr(Deployment, "usability", lambda *args: told)
    attacker = Attacker(config_of(), scene, deployed(scene, 0.2, 0.5, 0.7), "whitebox", "paper")
    run_one(config_of(), scene, attacker, 0)
    run_one(config_of(), scene, attacker, 1)
    assert list(attacker._found) == [2]
    run_one(config_of(), scene, attacker, 2)
    assert not attacker._found and len(learned.handed) == 3


def test_a_level_is_linked_when_it_is_asked_for(scene, answering, monkeypatch):
    answering()
    asked = []

    def fields(known, learned, release, gallery, *, seed, member):
        asked.append(member)
        return {"reid_likelihood": 0.5}

    monkeypatch.setattr("jaxinv.studies.linked.fields", fields)
    deployment = deployed(scene, 0.2, 0.5, 0.7)
    first, other = (Attacker(config_of(), scene, deployment, "whitebox", "paper") for _ in range(2))
    first.found(0)
    assert not asked
    assert first.linked(2) == other.linked(2) == {"reid_likelihood": 0.5} and asked == [2]


def test_what_decides_an_attack_is_in_its_identity(scene):
    def identity(method="adaptive", threat="whitebox", levels=(0.0, 0.5), **changes):
        deployment = deployed(scene, *levels, **changes)
        return repr(Attacker(config_of(**changes), scene, deployment, threat, method).identity)

    different = [
        identity(),
        identity(threat="blackbox"),
        identity(levels=(0.5,)),
        identity(fit_steps=3),
        identity(surrogate="same"),
        identity(draws=3),
        identity(retrain="cloud"),
        identity(retrain="cloud", retrain_steps=3),
        identity(threat="queryfree"),
        identity(threat="queryfree", shadow_steps=3),
        identity("paper"),
        identity("paper", threat="blackbox"),
    ]
    assert len(set(different)) == len(different)
    # The authors' attack learns nothing, and one level knows nothing of another.
    assert identity("paper", fit_steps=3) == identity("paper")
    assert identity("paper", levels=(0.5, 0.7)) == identity("paper")
    assert identity("paper", levels=(0.5, 0.7), retrain="both") != identity("paper", retrain="both")


@pytest.mark.parametrize("threat", THREATS)
def test_every_attacker_says_what_it_knows(scene, threat):
    deployment = deployed(scene, 0.5)
    paper, adaptive = (
        Attacker(config_of(), scene, deployment, threat, method).attack
        for method in ("paper", "adaptive")
    )
    assert "level" in adaptive.knowledge and "level" not in paper.knowledge
    assert adaptive.learns
    assert paper.learns == (threat != "whitebox")


@pytest.mark.parametrize("threat", THREATS)
@pytest.mark.parametrize("method", ["paper", "adaptive"])
def test_an_attacker_is_handed_what_its_threat_model_knows(scene, monkeypatch, threat, method):
    handed = []

    def learn(attack, known, key, shelf):
        handed.append(known)
        raise UsageError("enough")

    kind = type(registry.make(threat, method, network=NETWORK, cut="relu"))
    monkeypatch.setattr(kind, "learn", learn)
    deployment = deployed(scene, 0.2, 0.5)
    attacker = Attacker(config_of(), scene, deployment, threat, method)
    with pytest.raises(UsageError, match="enough"):
        attacker.found(0)
    (known,) = handed
    assert known.threat_model == threat
    assert len(known.images) == (40 if attacker.attack.learns else 0)
    if threat == "whitebox":
        assert [each.steps[0].level for each in known.family] == [0.2, 0.5]
        assert known.edge is deployment.edge
    elif threat == "blackbox":
        assert known.members == (2 if method == "adaptive" else 0)
    else:
        assert known.defense is deployment.family[0]
        assert len(known.stream) == len(scene.dataset.test) - 5


def test_a_judgement_is_the_mean_over_draws(scene, monkeypatch, tmp_path):
    labels = scene.dataset.test.labels[:5]

    class Judge:
        accuracy = 0.7

        def correct(self, images, given):
            np.testing.assert_array_equal(given, labels)
            return images[:, 0, 0, 0] > 0

    asked = []

    def find(dataset, folder):
        asked.append(folder)
        return Judge()

    monkeypatch.setattr(accuracy.judge, "find", find)
    accuracy._judge.cache_clear()
    images = np.ones((2, 5, 12, 12, 1), np.float32)
    images[0, 0] = images[1, 0] = images[1, 1] = 0
    config = config_of(workdir=str(tmp_path))
    found = judged(config, scene, images)
    judged(config, scene, images)
    accuracy._judge.cache_clear()
    assert found["judge_accuracy"] == pytest.approx(0.7)
    assert found["judge_accuracy_originals"] == 0.7
    assert found["judge_ci"][0] < 0.7 < found["judge_ci"][1]
    assert asked == [tmp_path / "learned"]


# --- Verdicts -----------------------------------------------------------------------------------


def record(defense, accuracy, ssim, reid, split="relu2", threat_model="whitebox", **values):
    """An attack on 200 images, whose mean SSIM is known to 0.01."""
    return typed(
        fake_runs.attack_fields(
            "defenses",
            threat_model=threat_model,
            split=split,
            defense=defense.describe(),
            accuracy=accuracy,
            accuracy_undefended=0.99,
            quality=(None if ssim is None else 10.0, ssim),
            reid_top1=reid,
            diverged=200 * (ssim is None),
            **values,
        )
    )


def dropout(level, *rest, **options):
    return record(DROPOUT.at("feature", level), *rest, **options)


def test_the_strongest_attacker_decides():
    finished = [
        dropout(0.4, 0.98, 0.1, 0.01),
        dropout(0.4, 0.98, 0.6, 0.01),  # another attacker, who sees more
        dropout(0.6, 0.95, 0.1, 0.02),
        dropout(0.6, 0.95, 0.2, 0.03),
        dropout(0.8, 0.80, 0.0, 0.00),
    ]
    (found,) = protection(finished)
    assert (found.split, found.defense, found.level) == ("relu2", "dropout, feature", "0.6")
    assert found.verdict == HOLDS and found.images_needed is None
    assert found.loss == pytest.approx(0.04)
    assert (found.ssim, found.reid) == (0.2, 0.03)
    assert found.ssim_ci.low < 0.19 < 0.21 < found.ssim_ci.high < SAFE_SSIM
    assert found.reid_ci.low < 0.01 < 0.06 < found.reid_ci.high < SAFE_REID
    assert "4.00 points, at level 0.6 (SSIM 0.200 [0.1" in protection_table(fields_of(finished), {})


def test_the_least_of_many_levels_is_chosen_by_looking():
    """None of 40 is at most 10% at 95%, and not at the 99% at which each of five is judged."""
    held = {"num_images": 40}
    (found,) = protection([dropout(0.4, 0.98, 0.0, 0.0, **held)])
    assert (found.verdict, found.confidence) == (HOLDS, 0.95)
    five = [dropout(level, 0.98, 0.0, 0.0, **held) for level in (0.1, 0.2, 0.3, 0.4, 0.5)]
    (found,) = protection(five)
    assert (found.verdict, found.confidence) == (UNDECIDED, pytest.approx(0.99))
    assert found.images_needed == 51
    assert "51 images would settle it" in protection_table(fields_of(five), {})
    assert "intervals of 99%" in protection_table(fields_of(five), {})


def test_what_attackers_lacked_is_told_where_nothing_is_decided():
    few = [dropout(0.4, 0.98, 0.1, 0.0, surrogate_images=20)]
    assert protection(few)[0].verdict == UNDECIDED
    told = protection_table(fields_of(few), {})
    assert "undecided, an attack had fewer than 1,000 images to learn from" in told


def fields_of(finished):
    return [{**record.fields, "path": ""} for record in finished]


def test_both_measures_must_hold():
    (found,) = protection([dropout(0.4, 0.98, 0.1, 0.5), dropout(0.6, 0.9, 0.3, 0.0)])
    assert (found.verdict, found.level) == (FAILS, "0.4")
    told = protection_table(fields_of([dropout(0.6, 0.9, 0.3, 0.0)]), {})
    assert "not reached; nearest is level 0.6 at 9.00 points (SSIM 0.300 [0.2" in told
    for limit in (dropout(0.4, 0.98, SAFE_SSIM, 0.0), dropout(0.4, 0.98, 0.0, SAFE_REID)):
        (found,) = protection([limit])
        assert (found.verdict, found.images_needed) == (UNDECIDED, None)


def test_what_is_within_an_interval_is_undecided_and_told_with_the_images_that_settle_it(
    monkeypatch,
):
    near = dropout(0.4, 0.98, 0.248, 0.0)
    (found,) = protection([near, dropout(0.2, 0.99, 0.9, 0.9)])
    assert (found.verdict, found.level) == (UNDECIDED, "0.4")
    assert found.images_needed > 200
    told = f"undecided, {found.images_needed:,} images would settle it; nearest is level 0.4"
    pair = [near, dropout(0.2, 0.99, 0.9, 0.9)]
    assert told in protection_table(fields_of(pair), {})
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.delenv("NO_COLOR")
    assert protection_table(fields_of(pair), {}).splitlines()[-1].startswith("\x1b[33m  relu2")
    few = dropout(0.4, 0.98, 0.1, 0.0, num_images=8)
    (found,) = protection([few])
    assert (found.verdict, found.images_needed) == (UNDECIDED, 36)


def test_who_knows_more_can_do_what_others_can_who_know_less():
    """Here the black-box attacker is the strongest, and the query-free one is held."""
    finished = [
        dropout(0.4, 0.98, 0.1, 0.0),
        dropout(0.4, 0.98, 0.6, 0.0, threat_model="blackbox"),
        dropout(0.4, 0.98, 0.0, 0.0, threat_model="queryfree"),
    ]
    found = {each.threat: (each.verdict, each.ssim) for each in protection(finished)}
    assert found == {"whitebox": (FAILS, 0.6), "blackbox": (FAILS, 0.6), "queryfree": (HOLDS, 0.0)}
    *_, blackbox, queryfree = protection_table(fields_of(finished), {}).splitlines()
    assert "black-box   not reached;" in blackbox and "query-free  1.00 points" in queryfree


def test_attacks_of_other_commands_on_the_same_release_count():
    own, other = dropout(0.4, 0.98, 0.1, 0.0), dropout(0.4, 0.98, 0.6, 0.0, method="paper")
    weaker = dropout(0.4, 0.98, 0.7, 0.0, threat_model="blackbox")
    key = release_key("relu2", DROPOUT.at("feature", 0.4).describe())
    (found,) = protection([own], {key: [own, other, weaker]})
    assert (found.verdict, found.ssim, found.threat) == (FAILS, 0.7, "whitebox")
    elsewhere = release_key("relu2", DROPOUT.at("feature", 0.6).describe())
    (found,) = protection([own], {elsewhere: [other]})
    assert (found.verdict, found.ssim) == (HOLDS, 0.1)
    trained = dropout(0.4, 0.98, 0.1, 0.0, retrain="cloud")
    (found,) = protection([trained], {key: [other]})
    assert found.verdict == HOLDS


def test_a_level_that_nobody_of_a_threat_model_attacked_is_not_judged_for_it():
    """Here white-box attackers tried the weak level alone."""
    finished = [
        dropout(0.4, 0.98, 0.6, 0.0),
        dropout(0.9, 0.9, 0.1, 0.0, threat_model="blackbox"),
    ]
    found = {each.threat: (each.verdict, each.level) for each in protection(finished)}
    assert found == {"whitebox": (FAILS, "0.4"), "blackbox": (HOLDS, "0.9")}


def test_mechanisms_at_level_zero_are_no_part_of_a_release():
    def key(defense):
        return release_key("relu2", defense.describe())

    nothing, noise = DROPOUT.at("input", 0.0), GAUSSIAN.at("feature", 2.0)
    assert key(nothing + noise) == key(noise + nothing) == key(noise)
    assert key(nothing + nothing) == key(nothing) == key(NONE)
    both = DROPOUT.at("input", 0.2) + noise
    assert key(both + nothing) == key(both) != key(noise)


def test_an_attack_that_diverged_proves_nothing():
    (found,) = protection([dropout(0.4, 0.98, None, 0.0), dropout(0.4, 0.98, 0.1, 0.0)])
    assert found.verdict == UNDECIDED
    (found,) = protection([dropout(0.4, 0.98, None, 0.0), dropout(0.6, 0.9, 0.1, 0.0)])
    assert (found.verdict, found.level) == (HOLDS, "0.6")


def test_splits_defences_and_sites_have_a_verdict_each():
    both = GAUSSIAN.at("input", 1.0) + DROPOUT.at("feature", 0.5)
    finished = [
        dropout(0.4, 0.98, 0.1, 0.0),
        dropout(0.4, 0.97, 0.1, 0.0, split="fc1"),
        record(DROPOUT.at("input", 0.4), 0.96, 0.1, 0.0),
        record(both, 0.95, 0.1, 0.0),
    ]
    rows = protection(finished)
    assert [(row.split, row.defense, row.level) for row in rows] == [
        ("relu2", "dropout, feature", "0.4"),
        ("fc1", "dropout, feature", "0.4"),
        ("relu2", "dropout, input", "0.4"),
        ("relu2", "gaussian+dropout, input+feature", "1+0.5"),
    ]
    assert [row.loss for row in rows] == pytest.approx([0.01, 0.02, 0.03, 0.04])
    assert {row.verdict for row in rows} == {HOLDS}
    assert protection([]) == []
