"""A strict JAX, and no test that touches the user's own files.

The environment is set when this file is imported, before JAX is, so that the processes that tests
start inherit it.
"""

import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

# Each process that runs tests has datasets of its own. What is compiled is shared by all processes
# of the session, the scripts that tests start among them.
_CACHE = os.environ["JAXINV_CACHE"] = tempfile.mkdtemp(prefix="jaxinv-tests-")
_PROGRAMS = None
if "JAXINV_TEST_PROGRAMS" not in os.environ:
    _PROGRAMS = os.environ["JAXINV_TEST_PROGRAMS"] = tempfile.mkdtemp(prefix="jaxinv-programs-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(Path(os.environ["JAXINV_TEST_PROGRAMS"]) / "tests")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.05"
# Several processes share an accelerator, if there is one.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
os.environ.pop("TFDS_DATA_DIR", None)
os.environ["NO_COLOR"] = "1"  # also where tests are started on a terminal
if not os.access(os.environ.get("HOME", ""), os.W_OK):  # a user without one
    os.environ["HOME"] = _CACHE

# Most of the time goes into compiling programs that run once, on little data: the emitters of fused
# loops take half of it. Without any optimisation, though, training a target takes longer than is
# won. A GPU finds the same each time, as it does for the scripts.
if "JAXINV_TEST_FLAGS" not in os.environ:
    own = os.environ.get("XLA_FLAGS", "")
    flags = f"--xla_backend_optimization_level=1 --xla_gpu_deterministic_ops=true {own}"
    faster = f"--xla_cpu_use_fusion_emitters=false {flags}"
    # Newer versions of XLA do not know that flag, and end a process that gives it.
    probe = subprocess.run(
        [sys.executable, "-c", "import jax; jax.devices()"],
        env={**os.environ, "XLA_FLAGS": faster, "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
    )
    os.environ["XLA_FLAGS"] = flags if "Unknown flag" in probe.stderr else faster
    os.environ["JAXINV_TEST_FLAGS"] = "set"

import jax  # noqa: E402
import pytest  # noqa: E402
from datasets import write_tfds  # noqa: E402
from jax._src.lru_cache import LRUCache  # noqa: E402
from scripts import Scripts, hear_signals  # noqa: E402

jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)
if jax.default_backend() != "cpu":  # which rounds products to fewer digits; tests compare them
    jax.config.update("jax_default_matmul_precision", "highest")


def _put_in_one_step(self, key, value):
    """Keeps a program; JAX writes it in several steps, and others may read half of it."""
    path = Path(self.path) / f"{key}-cache"
    part = path.with_name(f".{key}-{os.getpid()}-{threading.get_ident()}")
    part.write_bytes(value)
    part.replace(path)


LRUCache.put = _put_in_one_step
hear_signals()
# Tracing makes much garbage in cycles; looking for it often takes a sixth of the time.
gc.set_threshold(200_000, 50, 100)

# Files that take longest, which are not left to the end, when the other processes have no work.
_LONGEST = (
    *("test_experiments", "test_sweeps", "test_robustness", "test_blackbox", "test_partition"),
    *("test_inverse", "test_hosts", "test_report", "test_launch"),
)


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="run tests that are marked slow, too")


def pytest_collection_modifyitems(config, items):
    # What is named runs, slow or not.
    named = tuple(Path(name).as_posix() for name in config.args if "::" in name)
    if not (config.option.all or config.option.keyword or config.getoption("lf", False)):
        found: dict[bool, list] = {True: [], False: []}
        for item in items:
            slow = item.get_closest_marker("slow") and not item.nodeid.startswith(named)
            found[bool(slow)].append(item)
        config.hook.pytest_deselected(items=found[True])
        items[:] = found[False]
    order = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


def pytest_collection_finish():
    """Modules stay: they need not be looked through for garbage."""
    gc.freeze()


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
