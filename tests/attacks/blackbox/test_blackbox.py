"""Black-box attacks: they are handed a function to query, and keep to their budget of queries."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from toys import blobs

from jaxinv.attacks import registry
from jaxinv.attacks.attack import QueriesKnown
from jaxinv.attacks.blackbox import paper
from jaxinv.attacks.learned import maps
from jaxinv.attacks.learned.estimator import Estimator
from jaxinv.attacks.learned.queries import make_pool
from jaxinv.attacks.shelf import NOWHERE, Shelf
from jaxinv.errors import UsageError, UserError
from jaxinv.store import checkpoints
from jaxinv.training.fit import Fit
from jaxinv.unit_space import Scaled

SHAPE = (12, 11, 1)
SIZE, FEATURES = 132, 200
MATRIX = np.random.default_rng(1).normal(size=(SIZE, FEATURES)).astype(np.float32)
ALL = blobs(68, SHAPE)
IMAGES, ATTACKED = ALL[:60], ALL[60:]


def key():
    return jax.random.key(5)


def affine(keys, images):
    return images.reshape(len(images), -1) @ MATRIX + 0.5


def rectified(keys, images):
    return jax.nn.relu(affine(keys, images) - 0.5)


def bent(keys, images):
    """Not affine, and nothing that looks rectified."""
    return jnp.tanh(affine(keys, images))


def ambiguous(keys, images):
    """Affine, with as many features as pixels and more, of which it leaves half."""
    features = images.reshape(len(images), -1) @ MATRIX[:, :66]
    return jnp.concatenate([features] * 3, axis=1)


def noisy(keys, images):
    draws = jax.vmap(lambda key: jax.random.normal(key, (FEATURES,)))(keys)
    return affine(keys, images) + 0.1 * draws


def observed(query, images=ATTACKED):
    return np.asarray(query(jax.random.split(jax.random.key(9), len(images)), images))


class Counting:
    """A query that notes the different images that it is asked, where nothing is compiled."""

    def __init__(self, query):
        self._query, self._asked, self.traced = query, set(), None

    def __call__(self, keys, images):
        if isinstance(images, jax.core.Tracer):
            self.traced = images
        else:
            self.note(images)
        return self._query(keys, images)

    def note(self, images):
        # Zoomed images are rounded otherwise where other images are zoomed beside them.
        self._asked |= {image.tobytes() for image in np.asarray(images).round(3) + 0.0}

    def __len__(self):
        return len(self._asked)


@pytest.fixture
def count(monkeypatch):
    """Makes queries that count; a training asks what it would ask, until it has asked it all."""
    made = []

    def fit(loss, params, data, **options):
        @jax.jit
        def asked(data, number):
            made[-1].traced = data[0][:0]  # a training on answers that are kept asks for nothing
            loss(params, data, jax.random.fold_in(jax.random.key(3), number))
            return made[-1].traced

        with jax.disable_jit(False):
            for number in range(100):
                made[-1].note(asked(data, number))
        return Fit(params, [], 0.0, 0.0)

    def counting(query):
        made.append(Counting(query))
        return made[-1]

    monkeypatch.setattr(paper, "fit", fit)
    monkeypatch.setattr(maps, "fit", fit)
    with jax.disable_jit():
        yield counting


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(maps, "estimator_for", lambda shape: Estimator(shape, 4))


def learned(method, query, images=IMAGES, *, shelf=NOWHERE, **options):
    attack = registry.make("blackbox", method, **{"fit_steps": 8, **options})
    return attack.learn(QueriesKnown(query, images), key(), shelf)


def attack(method, query, features=None, images=IMAGES, **options):
    features = observed(query) if features is None else features
    return learned(method, query, images, **options).invert(features)


@pytest.mark.parametrize("number", [SIZE + 1, 300])
def test_an_affine_edge_is_inverted_exactly(number, count):
    counting = count(affine)
    found = attack("strong", counting, observed(affine), num_queries=number)
    assert found.info["way"] == "affine"
    np.testing.assert_allclose(found.images, ATTACKED, atol=1e-5)  # 100 dB
    more = 0 if number == SIZE + 1 else 2 + 4  # probes, and a trial of values asked together
    assert found.info["queries"] == len(counting) == SIZE + 1 + more
    assert found.info["edge"] == "affine"


@pytest.mark.slow
@pytest.mark.parametrize("query", [rectified, bent, noisy, ambiguous])
@pytest.mark.parametrize("number", [40, 200])
def test_any_other_edge_is_learned_within_the_budget(query, number, count):
    counting = count(query)
    found = attack("strong", counting, observed(query), num_queries=number)
    assert found.info["way"] == "inverse map"
    assert found.images.shape == ATTACKED.shape
    assert found.info["queries"] <= number
    # Where answers are random, an image is another query with another key.
    assert len(counting) == found.info["queries"] or (
        query is noisy and len(counting) < found.info["queries"]
    )
    # Images held out leave some of their queries to probes, if there were any.
    assert found.info["queries"] >= number - 8
    assert found.info["held_out_psnr"] is not None


@pytest.mark.slow
def test_features_that_an_affine_map_does_not_explain_are_learned_from(count):
    released = observed(affine) + 0.1 * np.random.default_rng(0).normal(size=(8, FEATURES)).astype(
        "f"
    )
    counting = count(affine)
    found = attack("strong", counting, released, num_queries=200)
    assert found.info["way"] == "inverse map"
    assert found.info["queries"] == len(counting) <= 200


@pytest.mark.slow
def test_what_looks_rectified_is_not_probed_with_all_there_is():
    found = attack("strong", rectified, num_queries=SIZE + 1)
    assert found.info["way"] == "inverse map"
    assert found.info["queries"] == SIZE + 1


def test_a_budget_that_is_gone_is_a_users_mistake():
    with pytest.raises(UsageError, match="num_queries=133: .*at least 153, or fewer than 133"):
        attack("strong", bent, num_queries=SIZE + 1)


def test_probes_are_within_the_budget_where_few_images_are_held_out(count):
    counting = count(bent)
    found = attack("strong", counting, observed(bent), images=IMAGES[:24], num_queries=200)
    assert len(counting) <= found.info["queries"] == 200


@pytest.mark.parametrize(("number", "queries"), [(None, 60), (25, 25), (1000, 60)])
def test_the_authors_decoder_asks_each_image_once(number, queries, count):
    counting = count(rectified)
    found = attack("paper", counting, observed(rectified), num_queries=number)
    assert found.info["way"] == "decoder"
    assert found.info["queries"] == len(counting) == queries
    assert found.images.shape == ATTACKED.shape
    assert found.info["held_out_psnr"] is not None


@pytest.mark.slow
@pytest.mark.parametrize("query", [rectified, noisy])
def test_the_authors_decoder_is_the_same_where_answers_are_too_many_to_keep(query, monkeypatch):
    fit, lessons = paper.fit, []

    def noted(loss, params, data, **options):
        lessons.append(data[1])
        return fit(loss, params, data, **options)

    def learned():
        known = QueriesKnown(query, IMAGES)
        return paper.learn_decoder(known, key=key(), num_queries=60, steps=40)(observed(query))

    monkeypatch.setattr(paper, "fit", noted)
    kept = learned()
    monkeypatch.setattr(paper.memory, "step", lambda: 4 * 57 * FEATURES)
    np.testing.assert_allclose(learned(), kept, rtol=1e-4, atol=1e-5)
    answers, places = lessons
    assert answers.shape == (len(places), FEATURES) and places.ndim == 1


def test_images_that_are_stored_as_bytes_are_not_copied_to_be_asked(monkeypatch):
    def tile(array, times):
        raise AssertionError("all images at once")

    stored = (255 * IMAGES).round().astype(np.uint8)
    pool = make_pool(QueriesKnown(rectified, Scaled(stored)), len(stored), key())
    monkeypatch.setattr(np, "tile", tile)
    expected = rectified(None, stored / np.float32(255))
    np.testing.assert_allclose(pool.features(), expected, rtol=1e-4, atol=1e-4)


def test_the_authors_decoder_learns():
    def shifted(keys, images):
        return jax.nn.relu(images - 0.2)

    def psnr(steps):
        return attack("paper", shifted, fit_steps=steps).info["held_out_psnr"]

    assert psnr(600) > psnr(2) + 3


def test_pixels_are_normalised_by_the_attackers_own_images(monkeypatch):
    """A decoder that returns zeros returns the mean colour of the images that taught it."""
    images = np.random.default_rng(0).random((40, 8, 8, 3), np.float32) * [0.2, 0.5, 1]
    images = images.astype(np.float32)

    def fit(loss, params, data, **options):
        return Fit(jax.tree.map(jnp.zeros_like, params), [], 0.0, 0.0)

    monkeypatch.setattr(paper, "fit", fit)
    known = QueriesKnown(lambda keys, x: x, images)
    learned = paper.learn_decoder(known, key=key(), num_queries=40)
    expected = np.broadcast_to(images.mean((0, 1, 2)), (2, 8, 8, 3))
    np.testing.assert_allclose(learned(images[:2]), expected, rtol=1e-5)


def test_the_authors_rate_is_halved_after_each_third(monkeypatch):
    used = {}

    def fit(loss, params, data, **options):
        used.update(options)
        return Fit(params, [], 0.0, 0.0)

    monkeypatch.setattr(paper, "fit", fit)
    images = blobs(64, SHAPE)
    known = QueriesKnown(lambda keys, x: x, images)
    paper.learn_decoder(known, key=key(), num_queries=64, steps=60)
    assert (used["epochs"], used["batch_size"]) == (30, 32)
    optimizer, gradient = used["optimizer"], jnp.ones(())
    state, steps = optimizer.init(gradient), []
    for _ in range(60):
        update, state = optimizer.update(gradient, state)
        steps.append(-float(update))
    # A steady gradient moves a parameter by the rate, but for eps.
    expected = np.repeat([1e-3, 5e-4, 2.5e-4], 20)
    np.testing.assert_allclose(steps, expected, rtol=2e-3)
    # Of random answers two images are left out, and one batch of 32 is left of 64.
    noise = jax.vmap(lambda key: jax.random.normal(key, SHAPE))
    noisy = QueriesKnown(lambda keys, x: x + noise(keys), images)
    paper.learn_decoder(noisy, key=key(), num_queries=64, steps=60)
    assert (used["epochs"], used["batch_size"]) == (60, 32)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["paper", "strong"])
def test_a_killed_training_is_gone_on_with_and_a_finished_one_read(method, tmp_path, monkeypatch):
    options = {"num_queries": 90}
    expected = attack(method, rectified, shelf=Shelf(tmp_path / "undisturbed"), **options)
    monkeypatch.setattr(maps, "BATCH_SIZE", 32)
    save, saved = checkpoints.save, []

    def killed(path, *args, **kwargs):
        save(path, *args, **kwargs)
        saved.append(path)
        if len(saved) == 2:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "save", killed)
        with pytest.raises(KeyboardInterrupt):
            attack(method, rectified, shelf=Shelf(tmp_path / "killed"), **options)
    found = attack(method, rectified, shelf=Shelf(tmp_path / "killed"), **options)
    np.testing.assert_allclose(found.images, expected.images, atol=1e-5)
    (kept,) = (path for path in (tmp_path / "killed").iterdir() if "ridge" not in path.name)
    assert kept.name.startswith("edge-")
    written = kept.stat().st_mtime_ns
    again = attack(method, rectified, shelf=Shelf(tmp_path / "killed"), **options)
    assert kept.stat().st_mtime_ns == written
    np.testing.assert_allclose(again.images, expected.images, atol=1e-5)


def test_what_an_attacker_is_handed_holds_nothing_of_the_target():
    names = {field.name for field in dataclasses.fields(QueriesKnown)}
    assert names == {"query", "images", "members"}


def test_exact_recovery_uses_no_images_and_an_attacker_asks_once(count):
    counting = count(affine)
    strong = learned("strong", counting, num_queries=300)
    first = strong.invert(observed(affine))
    asked = len(counting)
    assert first.info["surrogate"] == "none"
    assert first.info["attacker_knowledge"].endswith("no images")
    again = strong.invert(observed(affine, IMAGES[:8]))
    assert len(counting) == asked
    np.testing.assert_allclose(again.images, IMAGES[:8], atol=1e-5)


def test_one_map_is_asked_about_each_level_of_a_defense(monkeypatch):
    """Levels share the time of what they learn from together."""

    def family(keys, images, which):
        return affine(keys, images) * (1 - which[:, None] / 2)

    monkeypatch.setattr(maps, "fit", lambda loss, params, *data, **_: Fit(params, [], 3.0, 1.0))
    adaptive = registry.make("blackbox", "adaptive", fit_steps=3)
    learner = adaptive.learn(QueriesKnown(family, IMAGES, 2), key())
    levels = [observed(affine), observed(affine) / 2]
    found = learner.invert_each(levels)
    assert [each.fit_seconds for each in found] == [2.0, 2.0]
    assert adaptive.together
    alone = learner.invert(levels[1], 1)
    np.testing.assert_allclose(alone.images, found[1].images, atol=1e-6)
    assert alone.fit_seconds == 4.0
    assert alone.ways["inverse map"] is alone.images
    own = {image.tobytes() for image in IMAGES}
    assert {image.tobytes() for image in alone.ways["retrieval"]} <= own
    assert np.abs(learner.invert(levels[1], 0).images - alone.images).max() > 1e-3


def test_mistakes_are_named():
    with pytest.raises(UsageError, match="num_queries=19: expected at least 20"):
        learned("strong", affine, num_queries=19)
    with pytest.raises(UserError, match="19 surrogate images: paper needs 20"):
        learned("paper", affine, IMAGES[:19])
