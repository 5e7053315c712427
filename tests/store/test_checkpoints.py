"""Checkpoints: what is written is read back, and everything else is refused in one clear line."""

import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from safetensors.numpy import save as to_bytes

from jaxinv.errors import DamagedError, UserError
from jaxinv.store import checkpoints

TREE = {"conv": {"kernel": np.arange(6, dtype="f").reshape(2, 3), "bias": np.zeros(3, "f")}}


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "model.safetensors"
    checkpoints.save(path, TREE, metadata={"dataset": "mnist"})
    return path


def test_round_trip(tmp_path):
    params = {"b": jnp.array([np.nan, -0.0, 1e-42]), "a": {"x": np.arange(4.0, dtype="f")[::-2]}}
    tree = (params, optax.adam(0.1).init(params))  # named tuples, and an integer count
    path = tmp_path / "new" / "folder" / "state.safetensors"
    checkpoints.save(path, tree, metadata={"history": "[1, 2]"})
    loaded, metadata = checkpoints.load(path, jax.eval_shape(lambda: tree))
    assert metadata == {"history": "[1, 2]"}
    assert jax.tree.structure(loaded) == jax.tree.structure(tree)
    for ours, theirs in zip(jax.tree.leaves(loaded), jax.tree.leaves(tree), strict=True):
        assert ours.dtype == theirs.dtype
        assert np.asarray(ours).tobytes() == np.asarray(theirs).tobytes()


def test_names_and_missing_metadata(tmp_path):
    checkpoints.save(tmp_path / "file", TREE)
    arrays, metadata = checkpoints.read(tmp_path / "file")
    assert set(arrays) == {"conv/kernel", "conv/bias"}
    assert metadata == {}


@pytest.mark.parametrize("size", [0, 4, 40, -1])
def test_truncated(path, size):
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(UserError, match=f"{path}: not a readable checkpoint") as caught:
        checkpoints.load(path, TREE)
    assert "\n" not in str(caught.value)


def test_a_bit_that_has_changed_is_noticed(path):
    """In the arrays, in the metadata, and in the header that says what is where."""
    content = path.read_bytes()
    name = content.index(b"checksum")  # without this name it is a file of old
    for place in {*range(len(content))} - {*range(name, name + len(b"checksum"))}:
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << place % 7]) + content[place + 1 :]
        )
        with pytest.raises(DamagedError):
            checkpoints.read(path)


def test_a_file_without_a_checksum_is_read(path):
    arrays, metadata = checkpoints.read(path)
    path.write_bytes(to_bytes(arrays, metadata=metadata))
    assert checkpoints.read(path)[1] == metadata


def test_another_format(path):
    path.write_bytes(b"\x80\x04not a checkpoint" * 20)
    with pytest.raises(UserError, match="not a readable checkpoint"):
        checkpoints.load(path, TREE)


def test_a_name_that_is_too_long_is_missing():
    with pytest.raises(UserError, match="a: no such checkpoint"):
        checkpoints.load("a" * 300, TREE)


def test_missing(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such checkpoint"):
        checkpoints.load(tmp_path / "nowhere", TREE)
    with pytest.raises(UserError, match="no such checkpoint"):
        checkpoints.read(tmp_path)


KERNEL, BIAS = TREE["conv"]["kernel"], TREE["conv"]["bias"]
OTHERS = {
    "conv/kernel.*holds float32.2, 3.*expects float32.3, 2": {
        "conv": {"kernel": KERNEL.T, "bias": BIAS}
    },
    "conv/bias.*has no such array": {"conv": {"kernel": KERNEL}},
    "dense/kernel.*lacks it": {**TREE, "dense": {"kernel": BIAS}},
    "conv/bias": {"conv": {"kernel": KERNEL, "bias": BIAS.astype(np.int32)}},
}


@pytest.mark.parametrize(("message", "other"), OTHERS.items(), ids=OTHERS)
def test_another_model(path, message, other):
    with pytest.raises(UserError, match=f"another model .{message}") as caught:
        checkpoints.load(path, other)
    assert str(path) in str(caught.value)


def test_a_failed_write_leaves_the_old_file(path, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoints.save(path, {"other": np.ones(2)})
    checkpoints.load(path, TREE)
    assert [file.name for file in path.parent.iterdir()] == [path.name]


def test_fingerprint():
    first = checkpoints.fingerprint(TREE)
    assert len(first) == 12
    assert int(first, 16)
    reordered = {"conv": {"bias": jnp.asarray(BIAS), "kernel": jnp.asarray(KERNEL)}}
    assert checkpoints.fingerprint(reordered) == first
    changed = KERNEL.copy()
    changed[1, 2] += 1e-6
    others = [
        {"conv": {"kernel": changed, "bias": BIAS}},
        {"conv1": TREE["conv"]},
        {"conv": {"kernel": KERNEL.T, "bias": BIAS}},
        {"conv": {"kernel": KERNEL.reshape(3, 2), "bias": BIAS}},
        {"conv": {"kernel": KERNEL, "bias": BIAS.astype(np.int32)}},
    ]
    assert len({first, *map(checkpoints.fingerprint, others)}) == 6
