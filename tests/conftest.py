"""A strict JAX, and no test that touches the user's own files.

The environment is set when this file is imported, before JAX is, so that the processes that tests
start inherit it.
"""

import os
import shutil
import tempfile
from pathlib import Path

_CACHE = tempfile.mkdtemp(prefix="jaxinv-tests-")
os.environ["JAXINV_CACHE"] = _CACHE
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(_CACHE) / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
os.environ.pop("TFDS_DATA_DIR", None)

import jax  # noqa: E402
import pytest  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@pytest.fixture(autouse=True, scope="session")
def _session_cache():
    """Everything that is cached by the session goes with it."""
    yield
    shutil.rmtree(_CACHE, ignore_errors=True)
