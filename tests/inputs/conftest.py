"""A home, a cache and a dataset for each test."""

import pytest
from datasets import write_tfds
from tiny import TEST, TRAIN

from jaxinv.inputs import decode as _decode


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


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def embedded_cache(shared_cache, monkeypatch):
    """One cache for the tests that load the embedded digits, which take a second to parse."""
    monkeypatch.setenv("JAXINV_CACHE", str(shared_cache))


@pytest.fixture
def without_tensorflow(monkeypatch):
    monkeypatch.setattr(_decode, "has_tensorflow", lambda: False)
