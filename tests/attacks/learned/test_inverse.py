"""Learned estimates: the network's shape, where it begins, and what its training is worth."""

from types import SimpleNamespace

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import defenses
from jaxinv.attacks.attack import QueriesKnown
from jaxinv.attacks.blackbox.paper import learn_decoder
from jaxinv.attacks.learned import correction, inverse, maps, ridge
from jaxinv.attacks.learned.estimator import Estimator, from_quarters, to_quarters
from jaxinv.attacks.learned.maps import TrainedMap
from jaxinv.attacks.learned.pairs import Pairs
from jaxinv.attacks.learned.queries import make_pool
from jaxinv.attacks.shelf import Shelf
from jaxinv.networks import sequence
from jaxinv.training import fit as training
from jaxinv.training.fit import Fit

SHAPE = (7, 6, 1)
SIZE, FEATURES = 42, 10
STEPS = 120


def smooth_images(count, *, seed=0):
    """Images of a few slow waves, in unit space."""
    rng = np.random.default_rng(seed)
    y, x = np.arange(7) / 7, np.arange(6) / 6
    waves = [np.cos(np.pi * (a * y[:, None] + b * x)) for a in range(3) for b in range(3)]
    mixed = np.tensordot(rng.normal(size=(count, 9)), waves, 1)
    return (1 / (1 + np.exp(-mixed)))[..., None].astype(np.float32)


MATRIX = np.random.default_rng(1).normal(size=(SIZE, FEATURES)).astype(np.float32)


def affine(images):
    """An edge that leaves ten numbers of an image."""
    return images.reshape(len(images), -1) @ MATRIX + 0.5


def squares(images):
    """An edge with features in space, more than there are pixels."""
    return jnp.concatenate([images, images**2], axis=-1)


def asked(edge):
    """An edge without a defence, as a query."""
    return lambda keys, images: edge(images)


def known(edge, images):
    """Knowledge of an attacker who may query an edge without a defense."""
    return QueriesKnown(asked(edge), images)


@pytest.fixture
def untrained(monkeypatch):
    """Training leaves the parameters as they were at first."""

    def fit(loss, params, data, **options):
        return Fit(params, [], 0.0, 0.0)

    monkeypatch.setattr(maps, "fit", fit)


@pytest.fixture(scope="module", autouse=True)
def _small():
    """A narrow network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(maps, "estimator_for", lambda shape: Estimator(shape, 8))
        yield


def learn(folder):
    images = smooth_images(200)
    return inverse.learn(
        known(affine, images), key=jax.random.key(0), steps=STEPS, shelf=Shelf(folder, "affine")
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory, _small):
    """An inverse map of a few images, and where it is kept."""
    folder = tmp_path_factory.mktemp("trained")
    return learn(folder), folder


@pytest.mark.parametrize("shape", [(2, 4, 6, 3), (1, 5, 4, 1), (3, 4, 7, 2), (1, 1, 1, 1)])
def test_quarters_are_undone(shape):
    x = np.random.default_rng(0).random(shape, dtype=np.float32)
    n, height, width, c = shape
    quarters = to_quarters(jnp.asarray(x))
    assert quarters.shape == (n, -(-height // 2), -(-width // 2), 4 * c)
    back = np.asarray(from_quarters(quarters))
    np.testing.assert_array_equal(back[:, :height, :width], x)
    np.testing.assert_array_equal(back[:, height:], 0)
    np.testing.assert_array_equal(back[:, :, width:], 0)


def test_a_quarter_holds_the_four_pixels_of_its_place():
    x = jnp.arange(16.0).reshape(1, 4, 4, 1)
    np.testing.assert_array_equal(to_quarters(x)[0, 1, 0], [8, 9, 12, 13])
    np.testing.assert_array_equal(to_quarters(from_quarters(to_quarters(x))), to_quarters(x))


@pytest.mark.parametrize("image_shape", [(8, 8, 1), (7, 5, 3), (1, 3, 1)])
@pytest.mark.parametrize(
    "shapes",
    [
        [(2, 3, 5)],  # smaller than the grid
        [(33, 20, 2)],  # larger, and no multiple
        [(24, 4, 6)],  # larger along one axis
        [(11,)],
        [(1, 1, 300)],  # more channels than the network has
        [(7,), (16, 16, 4), (8, 8, 1)],
    ],
)
def test_an_estimate_has_the_shape_of_an_image_whatever_goes_in(image_shape, shapes):
    network = Estimator(image_shape, 8)
    inputs = [jax.ShapeDtypeStruct((2, *shape), jnp.float32) for shape in shapes]
    found, _ = jax.eval_shape(network.init_with_output, jax.random.key(0), inputs)
    assert found.shape == (2, *image_shape)


def random_params(network, inputs):
    """Parameters of which none is zero, not even those of the last layer."""
    rng = np.random.default_rng(1)
    params = jax.eval_shape(network.init, jax.random.key(0), inputs)["params"]
    return jax.tree.map(lambda p: 0.3 * rng.standard_normal(p.shape).astype("f"), params)


def test_an_estimate_depends_on_every_input_of_its_own_image():
    network = Estimator((6, 6, 1), 8, depth=1)
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(2, *shape)).astype("f") for shape in [(5,), (9, 9, 2)]]
    params = random_params(network, inputs)
    apply = jax.jit(lambda inputs: network.apply({"params": params}, inputs))
    before = apply(inputs)
    for number in range(2):
        changed = list(inputs)
        changed[number] = np.stack([inputs[number][0], inputs[number][1] + 1])
        after = apply(changed)
        np.testing.assert_allclose(after[0], before[0], atol=1e-5)
        assert np.abs(after[1] - before[1]).max() > 1e-3


def test_features_lie_where_they_lie_in_the_image():
    # At first, a map of features twice as coarse as the grid is spread over it evenly.
    network = Estimator((8, 8, 1), 8, depth=0)
    x = jnp.zeros((1, 2, 2, 1)).at[0, 0, 1, 0].set(1.0)
    params = jax.jit(network.init)(jax.random.key(0), [x])["params"]
    for axis in (1, 2):
        places = params[f"places0_{axis}"]
        np.testing.assert_allclose(places.sum(1), np.ones(4), rtol=1e-6)
        np.testing.assert_allclose(places[0], [1, 0], atol=1e-6)
        np.testing.assert_allclose(places[3], [0, 1], atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("method", [inverse.learn, learn_decoder])
def test_edges_that_differ_in_what_they_hold_share_their_programs(monkeypatch, method):
    """Maps of each shadow, or of each level alone, are not compiled again."""
    programs, steps, examples = [], training._run_steps, ridge._examples

    def noted(function):
        def lowered(*args):
            program = function.lower(*args)
            programs[-1].append(program.as_text())
            return program

        return lowered

    def examples_noted(*args):
        noted(examples)(*args)
        return examples(*args)

    monkeypatch.setattr(training, "_run_steps", SimpleNamespace(lower=noted(steps)))
    monkeypatch.setattr(ridge, "_examples", examples_noted)
    edge = sequence([("conv", nn.Conv(2, (3, 3)))], SHAPE, mean=(0.5,), std=(0.5,))
    found = []
    for seed, level in ((0, 0.1), (1, 0.2)):
        programs.append([])
        params = jax.jit(edge.init)(jax.random.key(seed))
        query = defenses.query_function(edge, params, defenses.GAUSSIAN.at("feature", level))
        learned = method(
            QueriesKnown(query, smooth_images(40)), key=jax.random.key(0), num_queries=90, steps=2
        )
        found.append(learned(np.ones((1, *edge.output_shape), np.float32)))
    # Images that teach the linear map, those held out, and the training.
    assert len(programs[0]) == (3 if method is inverse.learn else 1)
    assert programs[0] == programs[1]
    assert np.abs(found[0] - found[1]).max() > 1e-4


def least_squares(images, strength, features=None):
    """Slopes and offset of a map with a penalty on its slopes, by rows for the penalty, float64."""
    features = np.asarray(affine(images) if features is None else features, np.float64)
    wanted = images.reshape(len(images), -1).astype(np.float64)
    centered = features - features.mean(0)
    penalty = strength * np.mean(np.sum(centered**2, axis=0))
    rows = np.vstack([centered, np.sqrt(penalty) * np.eye(features.shape[1])])
    centered = np.vstack([wanted - wanted.mean(0), np.zeros((features.shape[1], wanted.shape[1]))])
    slopes, *_ = np.linalg.lstsq(rows, centered, rcond=None)
    return slopes, wanted.mean(0) - features.mean(0) @ slopes


def chosen(images, features):
    """The penalty that is best for the images that `ridge` holds out, and its map of all.

    From .01 on in steps of 4, as long as a step saves a thousandth of the error.
    """
    every = 2 if len(images) < 80 else 8
    held = np.arange(len(images)) % every == every - 1

    def error(strength):
        slopes, offset = least_squares(images[~held], strength, features[~held])
        found = features[held] @ slopes + offset
        return np.mean((found - images[held].reshape(held.sum(), -1)) ** 2)

    best = 0.01
    for step in (4, 1 / 4):
        while 2e-7 < best < 6e2 and error(best * step) < 0.999 * error(best):
            best *= step
    return best, *least_squares(images, best, features)


@pytest.mark.parametrize("count", [1200, 60, 9])  # more than two slices; few; fewer than features
@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_ridge_is_least_squares_with_the_penalty_that_serves_images_held_out(count, noise):
    images = smooth_images(count)
    features = np.asarray(affine(images))
    features = features + noise * np.random.default_rng(2).normal(size=features.shape)
    features = features.astype(np.float32)
    (weights,), (offset,) = ridge.ridge(Pairs(images, features))
    _, *expected = chosen(images, features)
    np.testing.assert_allclose(weights, expected[0], atol=3e-5)
    np.testing.assert_allclose(offset, expected[1], atol=3e-4)


def guesses(maps, features, member=0):
    """Applies a member's linear map to features, as attacks do."""
    return np.asarray(inverse._linear(maps, jnp.asarray(features), jnp.int32(member)))


def test_features_far_from_zero_teach_as_much():
    images = smooth_images(300)
    features = np.asarray(affine(images))
    near, far = (
        guesses(ridge.ridge(Pairs(images, own)), own)
        for own in (features, features + np.float32(300))
    )
    np.testing.assert_allclose(far, near, atol=0.01)


@pytest.mark.parametrize("value", [1e-40, 0.3, 1e6, 1e20, 1e30])
@pytest.mark.parametrize("count", [2, 60, 300])
def test_features_that_never_change_teach_the_mean_image(value, count):
    images = smooth_images(count)
    features = np.full((count, 50), value, np.float32)
    found = guesses(ridge.ridge(Pairs(images, features)), features)
    np.testing.assert_allclose(found, np.tile(images.mean(0).ravel(), (count, 1)), atol=1e-3)


def test_features_beyond_what_can_be_summed_teach_the_mean_image():
    images = smooth_images(300)
    features = np.asarray(affine(images)).copy()
    features[200:] *= np.float32(1e30)  # the first tell nothing of them
    (weights,), (offset,) = ridge.ridge(Pairs(images, features))
    np.testing.assert_array_equal(weights, 0)
    np.testing.assert_allclose(offset, images.mean(axis=0).ravel(), rtol=1e-5)


@pytest.mark.parametrize("count", [1, 2, 3])
def test_one_image_or_two_teach_a_linear_map(count):
    images = smooth_images(count)
    found = guesses(ridge.ridge(Pairs(images, affine(images))), affine(images))
    mean = images.mean(0).ravel()
    assert np.mean((found - images.reshape(count, -1)) ** 2) <= np.var(images, axis=0).mean() + 1e-6
    np.testing.assert_allclose(found.mean(0), mean, atol=1e-4)


def test_each_member_of_a_family_has_a_map_and_a_penalty_of_its_own():
    images, factors = smooth_images(300), np.asarray([1.0, 0.3, 0.0], np.float32)

    def query(keys, images, which):
        return jnp.asarray(factors)[which][:, None] * affine(images)

    maps = ridge.ridge(make_pool(QueriesKnown(query, images, 3), 900, jax.random.key(0)))
    for number, factor in enumerate(factors[:2]):
        features = factor * np.asarray(affine(images))
        _, slopes, offset = chosen(images, features)
        np.testing.assert_allclose(
            guesses(maps, features, number), features @ slopes + offset, atol=3e-3
        )
    np.testing.assert_array_equal(maps[0][2], 0)
    np.testing.assert_allclose(maps[1][2], images.mean(axis=0).ravel(), rtol=1e-5)


def test_images_are_held_out_from_all_of_many(monkeypatch):
    monkeypatch.setattr(ridge, "_MOST_HELD", 20)
    images, counts = smooth_images(300), []
    pairs, examples = Pairs(images, np.asarray(affine(images))), ridge._examples

    def noted(shape, queries, rows, *args):
        counts.append(len(rows))
        return examples(shape, queries, rows, *args)

    monkeypatch.setattr(ridge, "_examples", noted)
    ridge.ridge(pairs)
    assert counts == [280, 20]


@pytest.mark.parametrize("size", [1e-10, 1e-5, 1e10])
def test_ridge_does_not_depend_on_the_size_of_features(size):
    images = smooth_images(200)

    def offsets_and_guesses(factor):
        def edge(x):
            return affine(x) * factor

        pool = make_pool(known(edge, images), 5000, jax.random.key(0))
        (weights,), (offset,) = ridge.ridge(pool)
        return np.asarray(edge(images)) @ np.asarray(weights) + np.asarray(offset)

    # A power of two apart, the numbers are the same.
    plain, other = (offsets_and_guesses(each) for each in (1.0, 2.0 ** np.round(np.log2(size))))
    np.testing.assert_allclose(other, plain, atol=1e-3)


def test_features_that_are_all_zero_teach_the_mean_image():
    images = smooth_images(60)
    pool = make_pool(known(lambda x: 0 * affine(x), images), 5000, jax.random.key(0))
    (weights,), (offset,) = ridge.ridge(pool)
    np.testing.assert_array_equal(weights, 0)
    np.testing.assert_allclose(offset, images.mean(axis=0).ravel(), rtol=1e-5)
    center, spread = maps.center_and_spread(np.full((4, 3), 300, np.float32))
    assert (float(center), float(spread)) == (300, 1)


def test_an_inverse_map_begins_with_the_linear_map_alone(untrained):
    images = smooth_images(300)
    learned = inverse.learn(known(affine, images), key=jax.random.key(0))
    features = affine(images[:20])
    _, slopes, offset = chosen(images, np.asarray(affine(images)))
    guess = np.asarray(features) @ slopes + offset
    expected = 1 / (1 + np.exp(-5 * (guess - 0.5)))
    np.testing.assert_allclose(learned(np.asarray(features)).reshape(20, SIZE), expected, atol=1e-3)


def test_beyond_so_many_features_an_inverse_map_begins_grey(untrained, monkeypatch):
    monkeypatch.setattr(inverse, "_LINEAR_FEATURES", 2 * SIZE - 1)
    images = smooth_images(30)
    learned = inverse.learn(known(squares, images), key=jax.random.key(0))
    np.testing.assert_array_equal(learned(np.asarray(squares(images))), np.full((30, *SHAPE), 0.5))


def test_a_correction_begins_with_what_it_corrects(untrained):
    images, found = smooth_images(30), smooth_images(30, seed=1)
    others, features = smooth_images(30, seed=2), np.asarray(affine(images))
    learned = correction.learn(images, [found, others], features, key=jax.random.key(0))
    np.testing.assert_array_equal(learned(found, others, features), found)


def test_an_inverse_map_of_a_few_images_beats_the_mean_image(trained):
    learned, _ = trained
    others = smooth_images(100, seed=1)
    found = learned(np.asarray(affine(others)))
    assert found.shape == others.shape
    assert found.min() >= 0
    assert found.max() <= 1
    error = np.mean((found - others) ** 2)
    assert error < 0.2 * np.mean((smooth_images(200).mean(0) - others) ** 2)
    assert learned.seconds > 0
    assert learned.compile_seconds > 0


def test_a_finished_inverse_map_is_read_from_its_checkpoint(trained, monkeypatch):
    first, folder = trained
    kept = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    assert sorted(path.name.split("-")[-1] for path in kept) == [
        "inverse.safetensors",
        "ridge.safetensors",
    ]
    assert all(path.name.startswith("affine-") for path in kept)
    monkeypatch.delattr(ridge, "ridge")
    again = learn(folder)
    assert {path: path.stat().st_mtime_ns for path in kept} == kept  # no epoch ended
    assert again.seconds == pytest.approx(first.seconds)
    jax.tree.map(np.testing.assert_array_equal, again.params, first.params)
    features = np.asarray(affine(smooth_images(20, seed=1)))
    np.testing.assert_array_equal(again(features), first(features))


@pytest.mark.parametrize("steps, rows, epochs", [(2, 64, 1), (6, 192, 1), (13, 200, 3)])
def test_steps_are_as_many_as_were_asked(steps, rows, epochs, monkeypatch):
    given = []

    def fit(loss, params, data, *, epochs, batch_size, **options):
        assert options["steps"] == steps
        given.append((len(data[0]), epochs, batch_size))
        return Fit(params, [], 0.0, 0.0)

    monkeypatch.setattr(maps, "fit", fit)
    images = smooth_images(200)
    inverse.learn(known(affine, images), key=jax.random.key(0), steps=steps)
    assert given == [(rows, epochs, 32)]


def test_a_linear_map_that_is_damaged_is_set_aside_and_found_again(trained, tmp_path, capsys):
    first, folder = trained
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (file,) = tmp_path.glob("*-ridge.safetensors")
    file.write_bytes(file.read_bytes()[:-4])
    features = np.asarray(affine(smooth_images(20, seed=1)))
    np.testing.assert_array_equal(learn(tmp_path)(features), first(features))
    assert f"{file.name}.corrupt-1" in capsys.readouterr().err
    assert file.is_file()


def test_a_correction_removes_an_error_that_repeats_itself():
    def attacked(images):
        return 0.7 * images + 0.1 + 0.1 * np.sign(np.arange(6) - 2.5)[:, None].astype(np.float32)

    images, others = smooth_images(200), smooth_images(100, seed=1)
    features = [np.asarray(affine(some)) for some in (images, others)]
    learned = correction.learn(
        images, [attacked(images)], features[0], key=jax.random.key(0), steps=STEPS
    )
    error = np.mean((learned(attacked(others), features[1]) - others) ** 2)
    assert error < 0.1 * np.mean((attacked(others) - others) ** 2)


def test_many_images_are_estimated_slice_by_slice():
    traced = []

    def apply(params, first, second):
        traced.append(first.shape)
        return params * first + second.sum(1)[:, None, None, None]

    rng = np.random.default_rng(0)
    first, second = rng.random((10, 3, 2, 1), np.float32), rng.random((10, 5), np.float32)
    learned = TrainedMap(apply, np.float32(2), 0.0, 0.0)
    expected = learned(first, second)
    assert expected.shape == first.shape
    np.testing.assert_allclose(expected, 2 * first + second.sum(1)[:, None, None, None], rtol=1e-5)
    np.testing.assert_allclose(learned(first[:4], second[:4]), expected[:4], rtol=1e-6)
    assert len(traced) == 1  # one program for any number


def test_with_few_queries_only_the_first_images_teach(untrained):
    images = smooth_images(200)
    features = np.asarray(affine(images[:20]))
    key = jax.random.key(0)
    few = inverse.learn(known(affine, images), key=key, num_queries=60)
    first = inverse.learn(known(affine, images[:60]), key=key, num_queries=60)
    assert few.queries == first.queries == 60
    np.testing.assert_allclose(few(features), first(features), atol=1e-5)


@pytest.mark.slow
def test_an_inverse_map_learns_what_a_defence_leaves():
    """Behind noise it is trained on noisy features, and the same noise for the same query."""
    images, others = smooth_images(200), smooth_images(100, seed=1)

    def noisy(keys, images):
        draws = jax.vmap(lambda key: 3 * jax.random.normal(key, (FEATURES,)))(keys)
        return affine(images) + draws

    key = jax.random.key(0)
    features = np.asarray(noisy(jax.random.split(jax.random.key(1), 100), others))
    informed, naive = (
        inverse.learn(QueriesKnown(query, images), key=key, num_queries=2000, steps=STEPS)
        for query in (noisy, asked(affine))
    )
    errors = [np.mean((learned(features) - others) ** 2) for learned in (informed, naive)]
    assert errors[0] < 0.9 * errors[1]


FACTORS = (1.0, 0.3, 0.0)  # what a member of the family leaves of the features


def dimmed(keys, images, which):
    """A family of edges of one input: features, weaker and noisier from one to the next."""
    draws = jax.vmap(lambda key: 0.1 * jax.random.normal(key, (FEATURES,)))(keys)
    return jnp.asarray(FACTORS)[which][:, None] * affine(images) + draws


def of_member(number, images):
    """Features that one member makes of images."""
    keys = jax.random.split(jax.random.key(5 + number), len(images))
    return np.asarray(dimmed(keys, images, jnp.full(len(images), number)))


def test_one_map_serves_a_family_and_each_member_begins_with_its_own_linear_map(untrained):
    images = smooth_images(300)
    learned = inverse.learn(QueriesKnown(dimmed, images, 3), key=jax.random.key(0))
    assert learned.queries == 99_998  # two told that answers are random
    pool = make_pool(
        QueriesKnown(dimmed, images, 3),
        inverse.NUM_QUERIES,
        jax.random.fold_in(jax.random.key(0), 0),
    )
    for number, (weights, offset) in enumerate(zip(*ridge.ridge(pool), strict=True)):
        features = of_member(number, images[:20])
        expected = 1 / (
            1 + np.exp(-5 * (features @ np.asarray(weights) + np.asarray(offset) - 0.5))
        )
        found = learned.of(number)(features).reshape(20, SIZE)
        np.testing.assert_allclose(found, expected, atol=1e-3)
    first, second = (learned.of(number)(features) for number in (0, 1))
    assert np.abs(first - second).max() > 0.01


def test_a_map_of_a_family_is_worth_what_each_member_leaves():
    images, others = smooth_images(300), smooth_images(100, seed=1)
    learned = inverse.learn(QueriesKnown(dimmed, images, 3), key=jax.random.key(0), steps=STEPS)
    guess = np.mean((images.mean(0) - others) ** 2)
    errors = []
    for number in range(3):
        found = learned.of(number)(of_member(number, others))
        errors.append(np.mean((found - others) ** 2) / guess)
    assert errors[0] < 0.25
    assert errors[0] < errors[1] < errors[2]
    assert errors[2] == pytest.approx(1, abs=0.2)  # nothing is left of the features
    mistaken = learned.of(0)(of_member(1, others))
    assert np.mean((mistaken - others) ** 2) > 1.5 * errors[1] * guess
