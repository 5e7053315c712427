"""The cache: whole, light, and never in the way."""

import errno
import fcntl
import hashlib
import os
import pwd
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from datasets import write_tfds
from tiny import TEST, TRAIN, assert_is_tiny, cache_entry, load

from jaxinv.inputs import cache, data, places, stamps


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
    "harm",
    [
        *("flip", "truncate", "empty", "missing", "manifest", "nested", "folder", "facts", "swap"),
        "of another dataset",
    ],
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
    elif harm == "nested":
        (entry / "entry.json").write_text("[" * 100_000)
    elif harm == "folder":
        (entry / "entry.json").unlink()
        (entry / "entry.json").mkdir()
    elif harm == "of another dataset":
        shutil.rmtree(entry)
        write_tfds(root, "other", TEST, TRAIN)
        load("other", root)
        cache_entry(tmp_path).rename(entry)
    elif harm == "facts":
        manifest = (entry / "entry.json").read_text("utf-8")
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


def test_changed_labels_are_seen_though_the_times_of_files_stayed(root, monkeypatch):
    """File systems that are made at one time, such as images of containers, tell one time."""
    stamp = stamps.stamp
    monkeypatch.setattr(stamps, "stamp", lambda path: [*stamp(path)[:1], 0, 0])
    first = load("tiny", root)
    (shard,) = (root / "tiny" / "1.0.0").glob("tiny-test*")
    shutil.rmtree(root)
    write_tfds(root, "tiny", TRAIN, (TEST[0], (TEST[1] + 1) % 3))
    assert load("tiny", root).fingerprint != first.fingerprint
    assert shard.is_file()


def test_a_cache_with_a_name_too_long_is_named_as_what_it_is(root, tmp_path, monkeypatch):
    monkeypatch.setenv("JAXINV_CACHE", str(tmp_path / ("n" * 300)))
    lines = []
    assert_is_tiny(load("tiny", root, lines))
    assert len(lines) == 1 and "cannot be written (File name too long)" in lines[0]


@pytest.mark.parametrize("place", ["file", "file/cache", "cache"])
def test_unwritable_cache_costs_only_time_and_is_named(root, tmp_path, monkeypatch, place):
    (tmp_path / "file").write_text("")
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "data").write_text("")
    cache_dir = tmp_path / place
    monkeypatch.setenv("JAXINV_CACHE", str(cache_dir))
    for _ in range(2):
        lines = []
        assert_is_tiny(load("tiny", root, lines))
        (line,) = lines
        assert line.startswith(f"The cache of decoded data {cache_dir}/data/tiny-1.0.0-")
        assert line.endswith(
            " cannot be written (Not a directory); the next run decodes the data again."
        )


def test_a_full_disk_costs_only_time(root, monkeypatch):
    def full(path, array):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(np, "save", full)
    lines = []
    assert_is_tiny(load("tiny", root, lines))
    assert "cannot be written (No space left on device); " in lines[0]


def test_an_entry_of_another_version_of_the_code_stays(root, tmp_path, monkeypatch):
    load("tiny", root)
    first = cache_entry(tmp_path)
    monkeypatch.setattr(cache, "_FORMAT", 99)
    assert_is_tiny(load("tiny", root))
    assert sorted(first.parent.iterdir())[0] == first and len(list(first.parent.iterdir())) == 2


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


def test_a_user_without_a_home_has_a_cache_for_the_process(monkeypatch, capsys):
    def unknown(user):
        raise KeyError(user)

    monkeypatch.setattr(pwd, "getpwuid", unknown)
    for name in ("HOME", "JAXINV_CACHE"):
        monkeypatch.delenv(name)
    places._of_this_process.cache_clear()
    root = places.cache_root()
    assert root.is_dir() and places.cache_root() == root
    assert places.of_tfds(None) == [root / "tensorflow_datasets"]
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "no home folder" in said and "JAXINV_CACHE" in said
    places._of_this_process().cleanup()
    places._of_this_process.cache_clear()


def test_cache_root(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "platform", "linux")
    assert places.cache_root("given") == Path("given")
    assert places.cache_root() == tmp_path / "cache"
    monkeypatch.delenv("JAXINV_CACHE")
    assert places.cache_root() == tmp_path / "home" / ".cache" / "jaxinv"
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert places.cache_root() == Path("/xdg/jaxinv")
    monkeypatch.setenv("XDG_CACHE_HOME", "~/mine")
    assert places.cache_root() == tmp_path / "home" / "mine" / "jaxinv"
