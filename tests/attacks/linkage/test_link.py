"""Linkage by likelihood, against densities and Bayes rates by other ways."""

import jax
import numpy as np
import pytest
import scipy.stats
from toys import blobs

from jaxinv import defenses
from jaxinv.attacks.attack import CloudKnown, EdgeKnown
from jaxinv.attacks.linkage import drawn, link
from jaxinv.defenses import DROPOUT, GAUSSIAN, LAPLACE, NONE, PRUNE, QUANTIZE, Mechanism, Release
from jaxinv.inputs.samples import Samples
from jaxinv.measures.linkage import singled_out
from jaxinv.networks import sequence

SHAPE = (4, 4, 1)
RNG = np.random.default_rng(0)
CANDIDATES = RNG.random((60, *SHAPE)).astype(np.float32)
MATRIX = RNG.normal(size=(16, 24)).astype(np.float32)

PLAIN = sequence([("same", lambda x: x)], SHAPE)
DENSE = sequence([("dense", lambda x: x.reshape(len(x), -1) @ MATRIX)], SHAPE)
RECTIFIED = sequence(
    [("dense", lambda x: jax.nn.relu((x.reshape(len(x), -1) - 0.5) @ MATRIX))], SHAPE
)


def links(edge, defense, *, releases=1, black=False, seed=1, candidates=CANDIDATES):
    """Scores of all candidates for the releases of each."""
    release = Release(edge, {}, candidates, defense, jax.random.key(seed), releases=releases)
    known = EdgeKnown(edge, {}, candidates[:0], (defense,), releases)
    given = known.queries(0) if black else known
    return link(given, None, candidates, release.each(), jax.random.key(2))


def share(edge, defense, *, seeds=1, **options):
    """Share of candidates that are identified."""
    found = [
        singled_out(links(edge, defense, seed=seed, **options).scores, CANDIDATES)
        for seed in range(seeds)
    ]
    return float(np.mean(found))


def released(defense, seed=1):
    release = Release(PLAIN, {}, CANDIDATES, defense, jax.random.key(seed))
    return release[np.arange(len(CANDIDATES))]


# --- Closed forms -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "mechanism, density",
    [(GAUSSIAN, scipy.stats.norm), (LAPLACE, scipy.stats.laplace)],
    ids=["gaussian", "laplace"],
)
def test_scores_of_noise_are_its_density_up_to_a_constant(mechanism, density):
    defense = mechanism.at("feature", 0.4)
    found = links(PLAIN, defense)
    apart = released(defense)[:, None] - CANDIDATES[None]
    wanted = density.logpdf(apart, scale=0.4).sum(axis=(2, 3, 4))
    differences = found.scores - wanted
    assert found.way == "exact" and found.queries == 0
    np.testing.assert_allclose(differences - differences[:, :1], 0, atol=1e-3)


def test_scores_of_clipped_noise_are_those_of_clipped_features():
    norm = 1.5
    defense = defenses.clipped_gaussian(norm).at("feature", 0.2)
    lengths = np.linalg.norm(CANDIDATES.reshape(60, -1), axis=1)
    clipped = CANDIDATES * np.minimum(1, norm / lengths)[:, None, None, None]
    apart = released(defense)[:, None] - clipped[None]
    wanted = scipy.stats.norm.logpdf(apart, scale=0.2 * norm).sum(axis=(2, 3, 4))
    differences = links(PLAIN, defense).scores - wanted
    np.testing.assert_allclose(differences - differences[:, :1], 0, atol=2e-3)


def test_scores_of_dropout_count_what_was_dropped():
    few = CANDIDATES.copy()
    few[:, 0] = 0  # features that are zero anyway tell nothing of a mask
    few[0, 1:] = 0
    found = links(PLAIN, DROPOUT.at("feature", 0.7), candidates=few).scores
    release = Release(PLAIN, {}, few, DROPOUT.at("feature", 0.7), jax.random.key(1))
    seen = release[np.arange(60)]
    for place in (1, 5, 30):
        kept = int((seen[place] != 0).sum())
        own = kept * np.log(0.3) + (12 - kept) * np.log(0.7)
        assert found[place, place] == pytest.approx(own, rel=1e-5)
    assert singled_out(found, few)[1:].all()
    assert (found[1:, 0] < -1e3).all()  # a black image leaves nothing that is not zero


def test_the_share_is_that_of_the_bayes_attacker():
    sigma = 0.55
    rng = np.random.default_rng(5)
    flat = CANDIDATES.reshape(60, -1)
    noisy = flat[None] + sigma * rng.normal(size=(400, 60, 16))
    nearest = ((noisy[:, :, None] - flat) ** 2).sum(axis=-1).argmin(axis=-1)
    bayes = (nearest == np.arange(60)).mean()
    found = share(PLAIN, GAUSSIAN.at("feature", sigma), seeds=20)
    assert 0.2 < bayes < 0.8
    assert found == pytest.approx(bayes, abs=4 * (0.25 / 1200) ** 0.5)


@pytest.mark.parametrize(
    "defense",
    [NONE, QUANTIZE.at("feature", 2), PRUNE.at("feature", 0.8), QUANTIZE.at("input", 3)],
    ids=["none", "quantize", "prune", "at the input"],
)
@pytest.mark.parametrize("black", [False, True])
def test_what_draws_nothing_is_recognised(defense, black):
    found = links(DENSE, defense, black=black)
    assert singled_out(found.scores, CANDIDATES).mean() > 0.95
    assert found.queries == (120 if black else 0)


def test_several_releases_tell_more_than_one():
    for mechanism in (GAUSSIAN, LAPLACE):
        defense = mechanism.at("feature", 1.0)
        once, often = (share(PLAIN, defense, seeds=3, releases=count) for count in (1, 8))
        assert once + 0.2 < often


# --- Draws --------------------------------------------------------------------------------------


def test_noise_at_the_input_of_an_affine_edge_hides_as_much_as_noise_alone():
    at_input, plain = GAUSSIAN.at("input", 0.55), GAUSSIAN.at("feature", 0.55)
    found = links(DENSE, at_input)
    assert found.way == "draws"
    limit = share(PLAIN, plain, seeds=20)
    assert share(DENSE, at_input, seeds=3) == pytest.approx(limit, abs=0.15)
    assert share(DENSE, at_input, seeds=3, black=True) > limit / 2


@pytest.mark.parametrize("black", [False, True], ids=["white-box", "black-box"])
@pytest.mark.parametrize(
    "defense",
    [
        DROPOUT.at("feature", 0.5) + GAUSSIAN.at("feature", 0.3),
        GAUSSIAN.at("feature", 0.3) + DROPOUT.at("feature", 0.5),
        GAUSSIAN.at("input", 0.05) + QUANTIZE.at("feature", 2),
        Mechanism("wipe", lambda key, x, r: x * (jax.random.uniform(key, x.shape) > r)).at(
            "feature", 0.5
        ),
    ],
    ids=["dropout, noise", "noise, dropout", "noise, quantize", "custom"],
)
def test_composed_and_custom_defenses_are_told_by_draws(defense, black):
    found = links(RECTIFIED, defense, black=black)
    # What a mechanism of one's own lets through as it is, it does not hide from who knows the edge.
    own = defense.structure[0][0].name == "wipe"
    assert found.way == ("grid" if own and not black else "draws")
    assert singled_out(found.scores, CANDIDATES).mean() > 0.5


def test_a_density_that_has_no_value_is_not_chosen():
    def lost(released):
        return np.full((len(released), 60), np.nan)

    def guessed(released):
        return np.zeros((len(released), 60))

    assert drawn._chosen([lost, guessed], np.zeros((60, 3))) is guessed


def test_densities_behind_one_that_identifies_all_are_not_made():
    def ways():
        yield lambda released: np.zeros((len(released), 60))
        yield lambda released: np.eye(60)[released[:, 0].astype(int)]
        raise AssertionError("nothing identifies more")

    left = np.arange(60.0)[:, None]
    assert (drawn._chosen(ways(), left)(left) == np.eye(60)).all()


def test_mixtures_find_what_normal_densities_do_not():
    images = blobs(60, (8, 8, 1))
    edge = sequence([("same", lambda x: x)], (8, 8, 1))
    release = Release(edge, {}, images, DROPOUT.at("feature", 0.85), jax.random.key(1))
    known = EdgeKnown(edge, {}, images[:0], (DROPOUT.at("feature", 0.85),))
    found = link(known.queries(0), None, images, release.each(), jax.random.key(2))
    assert singled_out(found.scores, images).mean() > 0.7


# --- Shadows ------------------------------------------------------------------------------------


class Believer:
    """Attacker with models of the edge."""

    def __init__(self, *edges):
        self._edges = edges

    def believed(self, images):
        every = np.arange(len(images))
        made = [Release(edge, {}, images, NONE, jax.random.key(0))[every] for edge in self._edges]
        return np.stack(made) if made else None


def by_shadows(*edges):
    release = Release(RECTIFIED, {}, CANDIDATES, NONE, jax.random.key(1))
    cloud = sequence([("out", lambda x: x[:, :3])], (24,))
    samples = Samples(np.zeros((0, *SHAPE), np.uint8), np.zeros(0, np.int64))
    known = CloudKnown(cloud, {}, samples, release)
    return link(known, Believer(*edges), CANDIDATES, release.each(), jax.random.key(0))


def test_a_shadow_that_is_the_edge_finds_everyone_at_any_scale():
    scaled = sequence([("far", lambda x: 3 + 7 * RECTIFIED.apply({}, x))], SHAPE)
    for edge in (RECTIFIED, scaled):
        found = by_shadows(edge)
        assert found.way == "shadows"
        assert singled_out(found.scores, CANDIDATES).all()


def test_a_shadow_that_tells_nothing_finds_by_chance_and_none_finds_none():
    dead = sequence([("dead", lambda x: 0 * RECTIFIED.apply({}, x))], SHAPE)
    assert singled_out(by_shadows(dead).scores, CANDIDATES).mean() < 0.1
    assert by_shadows() is None
