"""A strict JAX, and no test that touches the user's own files.

The environment is set when this file is imported, before JAX is, so that the processes that tests
start inherit it.
"""

import os
import shutil
import tempfile
from pathlib import Path

# Each process that runs tests has a cache of its own: JAX does not write entries in one step, and
# what another process reads meanwhile is half a program.
_CACHE = tempfile.mkdtemp(prefix="jaxinv-tests-")
os.environ["JAXINV_CACHE"] = _CACHE
# What scripts compile is shared by all processes of the session, as it is by the runs of a sweep:
# scripts forget a program that they cannot read.
_PROGRAMS = None
if "JAXINV_TEST_PROGRAMS" not in os.environ:
    _PROGRAMS = os.environ["JAXINV_TEST_PROGRAMS"] = tempfile.mkdtemp(prefix="jaxinv-programs-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(_CACHE) / "jax")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.1"
# Most of the time goes into compiling programs that run once, on little data. Without any
# optimisation, though, those that train a target take longer than is won. A GPU finds the same each
# time, as it does for the scripts.
_FLAGS = "--xla_backend_optimization_level=1 --xla_gpu_deterministic_ops=true"
os.environ["XLA_FLAGS"] = f"{_FLAGS} {os.environ.get('XLA_FLAGS', '')}"
# Several processes share an accelerator, if there is one.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.pop("TFDS_DATA_DIR", None)

import jax  # noqa: E402
import pytest  # noqa: E402
from datasets import write_tfds  # noqa: E402
from scripts import Scripts  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
# Accelerators round products to fewer digits by default; tests compare them.
jax.config.update("jax_default_matmul_precision", "highest")


def pytest_unconfigure():
    """Everything that is cached by the session goes with it."""
    for folder in filter(None, (_CACHE, _PROGRAMS)):
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def scripts(tmp_path_factory):
    return Scripts(tmp_path_factory.mktemp("scripts"))


@pytest.fixture(scope="module")
def few(scripts):
    """Flags for a prepared MNIST of few digits, from which attacks learn in seconds.

    Its target is the shipped one.
    """
    from jaxinv.inputs import data

    digits = data.load("mnist_5k", announce=lambda line: None)
    train, test = (
        (samples.pixels[:count], samples.labels[:count])
        for samples, count in ((digits.target, 900), (digits.test, 520))
    )
    write_tfds(scripts.folder / "few", "mnist", train, test, num_classes=10)
    return ("--dataset=mnist", f"--data_dir={scripts.folder / 'few'}", "--num_images=8")
