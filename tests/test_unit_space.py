"""Arrays that are no images in unit space are refused where they enter, in one line."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv import defenses, unit_space
from jaxinv.attacks.attack import EdgeKnown, QueriesKnown
from jaxinv.errors import UsageError
from jaxinv.inputs.samples import Samples
from jaxinv.measures import linkage, quality
from jaxinv.networks import sequence

SHAPE = (12, 11, 1)
UNIT = np.random.default_rng(0).random((4, *SHAPE), np.float32)
BYTES = np.round(255 * UNIT).astype(np.uint8)
EDGE = sequence([("half", lambda x: x / 2)], SHAPE, mean=0.5, std=0.5)
KEY = jax.random.key(0)

WRONG = {
    "8 bits": (BYTES, r"images=uint8 \[4, 12, 11, 1\] from 1 to 254: .*\[0, 1\] \(divide by 255"),
    "ints": (BYTES.astype(int), "images=int64 .*expected floats in unit space"),
    "bool": (UNIT > 0.5, "images=bool .* from 0 to 1: expected floats"),
    "8 bits as floats": (BYTES.astype("f"), "images=float32 .*expected unit space"),
    "from -1": (2 * UNIT - 1, "images=float32 .* from -0.99.* to 0.99.*: expected unit space"),
    "standardised": ((UNIT - 0.45) / 0.22, "images=float32 .*expected unit space"),
    "float64 pixels": (255.0 * UNIT.astype(float), "images=float32 .*expected unit space"),
    "half": (jnp.asarray(2 * UNIT, jnp.bfloat16), "images=.*expected unit space"),
    "device": (jnp.asarray(BYTES), "images=uint8 .*expected floats"),
    "NaN": (np.where(UNIT > 0.9, np.nan, UNIT), "images=float32 .*not finite: expected unit"),
    "infinite": (np.where(UNIT > 0.9, np.inf, UNIT), "images=float32 .*not finite: expected unit"),
    "one image": (UNIT[0], r"images=float32 \[12, 11, 1\]: expected images \[N, "),
    "no channels": (UNIT[..., 0], r"images=float32 \[4, 12, 11\]: expected images \[N, "),
    "lists of pixels": (BYTES.tolist(), "images=int64 .*expected floats"),
    "uneven lists": ([[0.5], [0.5, 0.25]], "images=list: expected an array"),
    "text": (np.array(["a"]), "images=<U1 .*expected floats"),
    "complex": (UNIT + 1j, "images=complex.*expected floats"),
    "nothing": (None, "images=NoneType: expected an array"),
    "a number": (0.5, "images=float: expected an array"),
    "a dictionary": ({"image": UNIT}, "images=dict: expected an array"),
    "samples": (Samples(BYTES, np.zeros(4, int)), "images=Samples: expected an array"),
    "keys": (jax.random.split(KEY, 4), "images=key.*expected floats"),
}
ENTRIES = {
    "the checker": unit_space.images,
    "a release": lambda x: defenses.Release(EDGE, {}, x, defenses.NONE, KEY),
    "defended inputs": lambda x: defenses.defended_inputs(EDGE, x, defenses.NONE, KEY),
    "an attacker who queries": lambda x: QueriesKnown(lambda keys, x: x, x),
    "an attacker who knows the edge": lambda x: EdgeKnown(EDGE, {}, x),
}


@pytest.mark.parametrize("entry", ENTRIES)
@pytest.mark.parametrize("kind", WRONG)
def test_images_out_of_unit_space_are_refused(kind, entry):
    wrong, message = WRONG[kind]
    with pytest.raises(UsageError, match=message) as caught:
        ENTRIES[entry](wrong)
    assert "\n" not in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("wrong", [np.zeros((4, 11, 12, 1)), np.zeros((4, *SHAPE[:2], 3))])
@pytest.mark.parametrize(
    "entry", ["a release", "defended inputs", "an attacker who knows the edge"]
)
def test_images_of_another_shape_than_the_edge_takes_are_refused(wrong, entry):
    with pytest.raises(UsageError, match=r"expected images \[N, 12, 11, 1\]"):
        ENTRIES[entry](wrong)


@pytest.mark.parametrize(
    "given",
    [
        UNIT.astype(float),
        UNIT.astype(np.float16),
        jnp.asarray(UNIT),
        UNIT.tolist(),
        UNIT + np.float32(1e-6),
        UNIT[:0],
    ],
)
def test_floats_in_unit_space_are_taken_as_they_are(given):
    release = defenses.Release(EDGE, {}, given, defenses.NONE, KEY)
    found = release[np.arange(len(release))]
    wanted = (np.asarray(given, np.float32).reshape(-1, *SHAPE) - 0.5) / 0.5 / 2
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_traced_images_are_looked_at_no_further_than_their_type():
    jax.jit(unit_space.images)(3 * UNIT)
    jax.vmap(lambda x: unit_space.images(x, SHAPE[1:]))(UNIT)
    with pytest.raises(UsageError, match=r"images=uint8 \[4, 12, 11, 1\]: expected floats"):
        jax.jit(unit_space.images)(BYTES)
    with pytest.raises(UsageError, match=r"expected images \[N, 3\]"):
        jax.jit(lambda x: unit_space.images(x, (3,)))(UNIT)


MEASURES = {
    "quality": quality.evaluate,
    "linkage": lambda originals, found: linkage.reidentified(found, originals),
}


@pytest.mark.parametrize("measure", MEASURES)
def test_measures_refuse_originals_out_of_unit_space(measure):
    for kind in ("8 bits", "from -1", "NaN", "bool", "one image"):
        with pytest.raises(UsageError, match="^(originals|gallery)="):
            MEASURES[measure](WRONG[kind][0], UNIT)


@pytest.mark.parametrize("measure", MEASURES)
@pytest.mark.parametrize("kind", ["8 bits", "ints", "bool", "8 bits as floats", "no channels"])
def test_measures_refuse_reconstructions_that_are_pixels(measure, kind):
    with pytest.raises(UsageError, match="^reconstructions="):
        MEASURES[measure](UNIT, WRONG[kind][0])


def test_reconstructions_of_any_value_are_clipped_and_not_refused():
    wild = np.where(UNIT > 0.5, UNIT + 1e6, UNIT - 7.5)
    found = quality.evaluate(UNIT, wild)
    np.testing.assert_allclose(found.psnr, quality.evaluate(UNIT, np.clip(wild, 0, 1)).psnr)


@pytest.mark.parametrize(
    ("pixels", "labels", "message"),
    [
        (UNIT, np.zeros(4, int), r"pixels=float32 \[4, 12, 11, 1\]: expected a uint8 array"),
        (BYTES.tolist(), np.zeros(4, int), "pixels=list: expected a uint8 array"),
        (BYTES[..., 0], np.zeros(4, int), r"pixels=uint8 \[4, 12, 11\]: expected .*\[N, H, W, C"),
        (BYTES, np.zeros(3, int), r"labels=int64 \[3\]: .*each of 4 images"),
        (BYTES, np.zeros(4), r"labels=float64 \[4\]: expected a whole number"),
        (BYTES, np.eye(4, dtype=int), r"labels=int64 \[4, 4\]: expected a whole number"),
        (BYTES, np.array([0, 1, -1, 2]), "labels=int64 .* from -1 to 2: .*at least 0"),
        (BYTES, np.array(["a"] * 4), "labels=<U1 .*expected a whole number"),
    ],
)
def test_samples_made_by_hand_must_fit(pixels, labels, message):
    with pytest.raises(UsageError, match=message):
        Samples(pixels, labels)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_diverged_image_does_not_hide_that_the_others_are_bytes(value):
    found = BYTES.astype(np.float32)
    found[0, 0, 0, 0] = value
    with pytest.raises(UsageError, match="reconstructions=.*all whole: expected unit space"):
        quality.evaluate(UNIT, found)
    assert quality.evaluate(UNIT, np.full_like(UNIT, value)).diverged.all()


PIXELS = np.random.default_rng(0).integers(0, 256, (7, 3, 2, 1), np.uint8)


def test_scaled_pixels_are_made_by_index_and_left_by_slices():
    whole, made = PIXELS / np.float32(255), unit_space.Scaled(PIXELS)
    assert isinstance(made[2:5], unit_space.Scaled)
    np.testing.assert_array_equal(np.asarray(made[2:5]), whole[2:5])
    np.testing.assert_array_equal(made[np.array([4, 1])], whole[[4, 1]])
    assert (made.shape, made.dtype, made.nbytes, len(made)) == (
        whole.shape,
        whole.dtype,
        whole.nbytes,
        7,
    )


def test_scaled_pixels_are_images_of_their_shape():
    made = unit_space.Scaled(PIXELS)
    assert unit_space.images(made, (3, 2, 1)) is made
    with pytest.raises(UsageError, match=r"expected images \[N, 3, 3, 1\]"):
        unit_space.images(made, (3, 3, 1))
