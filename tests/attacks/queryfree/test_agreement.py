"""Corrections of what shadows answer, on answers whose errors are known."""

import numpy as np
import pytest

from jaxinv.attacks.queryfree import agreement
from jaxinv.inputs.samples import Samples

SHAPE, SHADOWS, CLASSES = (8, 8, 1), 3, 4


def drawn(count, seed):
    """Smooth images of four classes, and their labels."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, CLASSES, count)
    y, x = np.mgrid[:8, :8] / 8
    waves = np.stack([np.cos(np.pi * (a * x + b * y)) for a in range(3) for b in range(3)])
    own = 0.04 * rng.normal(size=(count, len(waves))) @ waves.reshape(len(waves), -1)
    means = 0.5 + 0.15 * np.stack([waves[each] for each in range(CLASSES)]).reshape(CLASSES, -1)
    return (means[labels] + own).reshape(count, *SHAPE).clip(0, 1), labels.astype(np.int32)


def known(labels=True):
    images, own = drawn(2000, 0)
    return Samples((255 * images).round().astype(np.uint8), own if labels else None)


def answered(images, *, seed, bias=0.0, noise=0.0, detail=1.0):
    """Answers of shadows that share a bias and not their noise."""
    rng = np.random.default_rng(seed)
    each = noise * rng.normal(size=(SHADOWS, *images.shape))
    return np.float32(0.5 + detail * (images - 0.5) + bias + each)


def errors(found, images):
    return ((found - images) ** 2).mean(axis=tuple(range(found.ndim - images.ndim + 1, found.ndim)))


def trial(samples=None, shadows=slice(None), **told):
    """Errors before and after, of each shadow and of all together."""
    stream, classes = drawn(400, 1)
    images, own = drawn(200, 2)
    made = agreement.measured(
        answered(stream, seed=3, **told)[shadows], classes, samples or known()
    )
    answers = answered(images, seed=4, **told)[shadows]
    alone, joint = agreement.corrected(made, answers, own)
    before = errors(answers, images).mean(), errors(answers.mean(axis=0), images).mean()
    return before, (errors(alone, images).mean(), errors(joint, images).mean())


def test_a_bias_that_all_share_is_taken_off():
    before, after = trial(bias=0.1)
    assert min(before) > 0.009 and max(after) < 1e-3


def test_what_shadows_do_not_agree_on_is_left_out():
    before, after = trial(noise=0.3)
    assert after[0] < 0.2 * before[0] and after[1] < 0.3 * before[1]


def test_several_shadows_are_scaled_down_less_than_each():
    stream, classes = drawn(400, 1)
    made = agreement.measured(answered(stream, seed=3, noise=0.1), classes, known())
    alone, together = made.alone.inside[:5], made.together.inside[:5]
    assert (alone < together - 0.03).all() and (alone > 0.3).all() and (together < 1).all()
    assert made.alone.outside < 0.1


def test_what_maps_have_scaled_down_is_not_scaled_down_again():
    stream, classes = drawn(400, 1)
    answers = answered(stream, seed=3, noise=0.02, detail=0.5)
    made = agreement.measured(answers, classes, known())
    assert made.alone.inside[:3] == pytest.approx(1)


def test_where_nothing_is_agreed_on_the_mean_of_the_class_is_answered():
    images, own = drawn(200, 2)
    samples = known()
    means = np.stack([samples.images[samples.labels == each].mean(axis=0) for each in range(4)])
    guess = errors(means[own], images).mean()
    _, after = trial(detail=0.0, noise=0.3)
    assert max(after) < 1.2 * guess


def test_answers_that_are_right_stay():
    before, after = trial(noise=0.002)
    assert max(after) < 1.3 * before[0] < 1e-5


def test_one_shadow_agrees_with_itself():
    before, after = trial(shadows=slice(1), noise=0.1)
    assert after == pytest.approx(before, rel=0.05)
    assert max(trial(shadows=slice(1), bias=0.1)[1]) < 1e-3


def test_without_labels_all_are_of_one_class():
    before, after = trial(known(labels=False), bias=0.1, noise=0.2)
    assert max(after) < 0.3 * before[1]


def test_few_answers_of_many_classes_are_taken_together():
    stream, classes = drawn(60, 1)
    made = agreement.measured(answered(stream, seed=3), classes, known())
    assert made.answered.shape[1] == 1
    images, own = drawn(5, 2)
    alone, joint = agreement.corrected(made, answered(images, seed=4), own + 7)
    assert np.isfinite(alone).all() and joint.shape == images.shape


def test_a_class_that_the_stream_did_not_show_is_corrected_as_all_are():
    stream, classes = drawn(400, 1)
    images, own = drawn(200, 2)
    shown, last = classes != 3, own == 3
    answers = answered(stream, seed=3, bias=0.05)
    answers[:, classes == 0] += 0.25  # which is no other class's
    made = agreement.measured(answers[:, shown], classes[shown], known())
    assert made.has.tolist() == [True, True, True, False]
    asked = answered(images[last], seed=4, bias=0.1)
    for classes_of in (own[last], own[last] + 5):
        _, joint = agreement.corrected(made, asked, classes_of)
        assert errors(joint, images[last]).mean() < 1.2 * errors(asked[0], images[last]).mean()


def test_an_image_is_corrected_whatever_stands_beside_it(monkeypatch):
    stream, classes = drawn(400, 1)
    images, own = drawn(50, 2)
    made = agreement.measured(answered(stream, seed=3, noise=0.1), classes, known())
    answers = answered(images, seed=4, noise=0.1)
    together = agreement.corrected(made, answers, own)
    few = agreement.corrected(made, answers[:, 7:9], own[7:9])
    np.testing.assert_allclose(few[0], together[0][:, 7:9], rtol=1e-4, atol=1e-6)
    monkeypatch.setattr(agreement, "_BYTES", 10_000)
    for slow, fast in zip(agreement.corrected(made, answers, own), together, strict=True):
        np.testing.assert_allclose(slow, fast, rtol=1e-4, atol=1e-6)


def test_a_shadow_that_diverged_is_left_out():
    stream, classes = drawn(400, 1)
    images, own = drawn(5, 2)
    made = agreement.measured(answered(stream, seed=3, noise=0.01), classes, known())
    answers = answered(images, seed=4, noise=0.01)
    answers[0, 0], answers[:, 1] = np.nan, np.inf
    alone, joint = agreement.corrected(made, answers, own)
    assert not np.isfinite(alone[0, 0]).any() and np.isfinite(alone[1:, 0]).all()
    assert errors(joint[:1], images[:1]).max() < 1e-3
    assert not np.isfinite(joint[1]).any() and np.isfinite(joint[2:]).all()


def test_how_much_of_a_stream_is_answered():
    assert agreement.seen((5000, 12), (28, 28, 1), 3) == agreement.SEEN
    assert agreement.seen((40, 12), (28, 28, 1), 3) == 40
    assert agreement.seen((5000, 12), (224, 224, 3), 3) == 148
    assert agreement.seen((1, 12), (28, 28, 1), 3) == 1
