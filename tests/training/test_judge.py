"""The judge: its layers, what its training is worth and depends on, and what it says of images."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxinv.errors import UsageError
from jaxinv.inputs.data import Dataset
from jaxinv.inputs.samples import Samples
from jaxinv.machine import source
from jaxinv.training import classification, judge
from jaxinv.training.fit import Fit

STEPS = 60


def samples(count, seed, shape=(8, 9, 1)):
    """Noisy images of three classes: a third of the columns is brighter."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, count).astype(np.int32)
    bright = np.arange(shape[1]) * 3 // shape[1] == labels[:, None]
    means = np.where(bright, 160, 90)[:, None, :, None]
    pixels = np.clip(rng.normal(means, 40, (count, *shape)), 0, 255).astype(np.uint8)
    return Samples(pixels, labels)


def dataset(name="tiny/config", **parts):
    made = {"target": samples(4, 0), "attacker": samples(400, 1), "test": samples(60, 2)}
    return Dataset(name, "stripes", "0123456789ab", 3, **{**made, **parts})


@pytest.fixture(scope="module", autouse=True)
def _small():
    """A narrow network of fewer layers, which is compiled sooner."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(judge, "_CONVOLUTIONS", 1)
        patch.setattr(judge, "_width", lambda channels: 4)
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory, _small):
    """File in which a judge is kept."""
    folder = tmp_path_factory.mktemp("learned")
    judge.find(dataset(), folder, steps=STEPS)
    return folder


@pytest.fixture(scope="module")
def trained(folder):
    return judge.find(dataset(), folder, steps=STEPS)


@pytest.mark.parametrize("shape", [(28, 28, 1), (32, 32, 3), (9, 5, 2), (1, 1, 1)])
def test_a_judge_takes_images_of_any_shape(shape, monkeypatch):
    monkeypatch.setattr(judge, "_CONVOLUTIONS", 3)
    network = judge.design(shape, 7)
    assert network.output_shape == (7,)
    assert sum(name.startswith("conv") for name in network.cuts) == 3


def test_few_images_are_seen_40_times_and_no_more(monkeypatch):
    seen = []

    def fit(loss, params, data, *, epochs, **options):
        seen.append(epochs)
        return Fit(params, [], 0.0, 0.0)

    monkeypatch.setattr(judge, "fit", fit)
    judge.find(dataset(attacker=samples(64, 1)), None)
    judge.find(dataset(attacker=samples(128, 1)), None, steps=20)
    assert seen == [40, 10]


def test_it_is_right_of_originals_as_often_as_it_says(trained):
    test = dataset().test
    assert trained.accuracy > 0.9
    right = trained.correct(test.images, test.labels)
    assert right.dtype == bool
    assert right.mean() == trained.accuracy
    assert trained.accuracy == classification.accuracy(trained.network, trained.params, test)
    assert trained.seconds > 0


def test_its_accuracy_is_that_of_the_first_originals(folder, monkeypatch):
    monkeypatch.setattr(judge, "_NUM_TESTED", 20)
    found = judge.find(dataset(), folder, steps=STEPS)
    test = dataset().test
    assert found.accuracy == found.correct(test.images, test.labels)[:20].mean()


def test_it_is_wrong_of_images_of_another_class(trained):
    test = dataset().test
    others = (test.labels + 1) % 3
    assert trained.correct(test.images, others).mean() <= 1 - trained.accuracy


def test_images_are_clipped(trained):
    test = dataset().test
    outside = 40 * (test.images - 0.5)
    right = trained.correct(outside, test.labels)
    np.testing.assert_array_equal(right, trained.correct(np.clip(outside, 0, 1), test.labels))
    assert right.mean() > 0.5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_images_are_never_right(trained, bad):
    images = dataset().test.images[:1].repeat(2, axis=0)
    images[0, 3, 4, 0] = bad
    said = [trained.correct(images, np.full(2, label)) for label in range(3)]
    assert np.sum(said, axis=0).tolist() == [0, 1]


def test_any_number_of_images_can_be_judged(trained):
    test = dataset().test
    whole = trained.correct(test.images, test.labels)
    for count in (0, 3, 7, 60):
        right = trained.correct(test.images[:count], test.labels[:count])
        np.testing.assert_array_equal(right, whole[:count])


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        (np.zeros((2, 8, 8, 1)), np.zeros(2, int), r"images=.*expected images \[N, 8, 9, 1\]"),
        (np.zeros((8, 9, 1)), np.zeros(8, int), r"images=.*expected images \[N, 8, 9, 1\]"),
        (np.zeros((2, 8, 9, 1)), np.zeros(3, int), r"labels=int64 \[3\].*each of 2 images"),
        (np.zeros((2, 8, 9, 1)), np.zeros(2), "labels=float64 .*a whole number"),
        (np.zeros((2, 8, 9, 1)), np.full(2, 3), "labels=int64 .* from 3 to 3: .*0 to 2"),
        (np.full((2, 8, 9, 1), 255), np.zeros(2, int), "images=int64 .*unit space"),
        (np.full((2, 8, 9, 1), 7.0), np.zeros(2, int), "images=float32 .*all whole.*unit space"),
    ],
)
def test_images_and_labels_must_fit(trained, images, labels, message):
    with pytest.raises(UsageError, match=message):
        trained.correct(images, labels)


def test_a_trained_judge_is_read(folder, trained):
    (path,) = folder.iterdir()
    assert path.name.startswith("tiny_config-")
    written = path.stat().st_mtime_ns
    again = judge.find(dataset(target=samples(9, 5)), folder, steps=STEPS)  # not of its concern
    assert path.stat().st_mtime_ns == written
    assert again.seconds == trained.seconds
    jax.tree.map(np.testing.assert_array_equal, again.params, trained.params)


def test_it_is_kept_by_all_that_it_depends_on(tmp_path, monkeypatch):
    given = []
    monkeypatch.setattr(judge, "_train", lambda *args: (given.append(args[3]), ({}, 0.0))[1])
    monkeypatch.setattr(classification, "accuracy", lambda *args: 1.0)
    own = dataset().attacker
    others = [
        dataset(attacker=samples(400, 3)),
        dataset(attacker=Samples(own.pixels, own.labels[::-1])),
        dataclasses.replace(dataset(), num_classes=4),
    ]
    for data in (dataset(), *others):
        judge.find(data, tmp_path)
    judge.find(dataset(), tmp_path, steps=STEPS)
    monkeypatch.setattr(source, "digest", lambda *modules: "of other code")
    judge.find(dataset(), tmp_path)
    assert len({path.name for path in given}) == len(given) == 6
    assert {path.parent for path in given} == {tmp_path}
    judge.find(dataset(), None)
    assert given[-1] is None
