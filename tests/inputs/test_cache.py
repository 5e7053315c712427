"""The cache: whole, light, and never in the way."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from datasets import write_tfds
from tiny import TEST, TRAIN, assert_is_tiny, cache_entry, load

from jaxinv.inputs import cache, data, stamps


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
