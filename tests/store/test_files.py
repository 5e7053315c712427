"""Files that are whole or not there, whatever happens to those who write them."""

import errno
import fcntl
import os

import pytest

from jaxinv.errors import UserError
from jaxinv.store import files, locks


def files_in(directory):
    return sorted(path.name for path in directory.iterdir())


def test_what_killed_writers_left_is_removed(tmp_path):
    names = [f"{folder}.0123456789a{n}.tmp" for n, folder in enumerate(("", "a/", "a/b/"))]
    kept = ["a/.mine.tmp", "a/b/0123456789ab.tmp", "a/b/.0123456789ab.tmp.x"]
    (tmp_path / "a" / "b").mkdir(parents=True)
    for name in (*names, *kept):
        (tmp_path / name).touch()

    def writer(file):  # its own temporary file is not taken from it
        files.ensure_writable(tmp_path)
        file.write(b"whole")

    files.atomic_write(tmp_path / "a" / "file", writer)
    assert (tmp_path / "a" / "file").read_bytes() == b"whole"
    assert [name for name in names if (tmp_path / name).exists()] == []
    assert all((tmp_path / name).exists() for name in kept)


def test_a_temporary_file_that_is_taken_away_before_it_is_held_is_made_again(tmp_path):
    made = []

    def make():
        made.append(tmp_path / f"{len(made)}")
        if len(made) > 1:
            made[-1].touch()
        return made[-1]

    with locks.temporary(make) as path:
        assert path == made[1]
    assert not files_in(tmp_path)


def test_without_locks_only_what_is_old_is_removed(tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    new, old = tmp_path / "new", tmp_path / "old"
    for path in (new, old):
        path.touch()
    os.utime(old, (0, 0))
    locks.remove_abandoned([new, old])
    assert files_in(tmp_path) == ["new"]


def test_atomic_write_replaces(tmp_path):
    path = tmp_path / "deep" / "file"
    for content in (b"one", b"two"):
        files.atomic_write(path, lambda file, content=content: file.write(content))
        assert path.read_bytes() == content
    assert files_in(path.parent) == ["file"]


def test_atomic_write_honours_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        files.atomic_write(tmp_path / "file", lambda file: None)
    finally:
        os.umask(before)
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize("error", [ValueError("mid-way"), KeyboardInterrupt()])
def test_a_failing_writer_leaves_the_old_file_alone(tmp_path, error):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def writer(file):
        file.write(b"half")
        raise error

    with pytest.raises(type(error)):
        files.atomic_write(path, writer)
    assert path.read_bytes() == b"old"
    assert files_in(tmp_path) == ["file"]


def test_a_full_disk_is_a_users_mistake_and_leaves_nothing(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError) as caught:
        files.atomic_write(tmp_path / "file", lambda file: file.write(b"new"))
    assert str(caught.value) == f"Cannot write {tmp_path / 'file'}: No space left on device."
    assert not files_in(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_workdir_is_a_users_mistake(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UserError, match="Permission denied"):
        files.ensure_writable(tmp_path)


def test_ensure_writable_makes_the_folder_and_leaves_it_empty(tmp_path):
    files.ensure_writable(tmp_path / "new" / "results")
    assert files_in(tmp_path / "new" / "results") == []
