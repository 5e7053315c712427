"""Facts of this machine in a record."""

import json
import os
import pwd
import sys
from importlib import metadata
from pathlib import Path

import jax
import pytest

from jaxinv.errors import UsageError
from jaxinv.machine import environment


def test_environment_names_device_and_versions():
    facts = environment.facts()
    assert facts["device"].startswith(f"{jax.devices()[0].platform}: ")
    assert facts["versions"]["jax"] == metadata.version("jax")
    assert facts["versions"]["dm-pix"] == metadata.version("dm-pix")
    assert facts["versions"]["python"] == "{}.{}.{}".format(*sys.version_info)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts


def test_environment_tells_what_changes_the_last_digits():
    with jax.default_matmul_precision("highest"):
        facts = environment.facts()
    assert facts["processor"]
    assert facts["numerics"]["x64"] == jax.config.jax_enable_x64
    assert facts["numerics"]["matmul_precision"] == "highest"
    assert "xla_cpu_use_fusion_emitters" in facts["numerics"]["xla_flags"]
    assert facts["numerics"]["backend"]


def test_64_bits_identify_a_run():
    with jax.enable_x64(False):
        usual = environment.numeric_mode()
    with jax.enable_x64(True):
        assert environment.numeric_mode() == {**usual, "x64": True}
        assert environment.facts()["numerics"]["x64"] is True
    with jax.enable_x64(False):
        assert environment.numeric_mode() == usual


def test_the_precision_of_products_identifies_a_run():
    with jax.default_matmul_precision(None):
        usual = environment.numeric_mode()
    with jax.default_matmul_precision("bfloat16"):
        assert environment.numeric_mode() == {**usual, "matmul_precision": "bfloat16"}
        assert not environment.is_of_this_mode(usual)


def test_another_generator_identifies_a_run():
    usual = environment.numeric_mode()
    with jax.default_prng_impl("rbg"):
        assert environment.numeric_mode() == {**usual, "prng": "rbg"}
        assert environment.is_of_this_mode({"prng": "rbg", **usual})
        assert not environment.is_of_this_mode(usual)
    with jax.threefry_partitionable(False):
        assert environment.numeric_mode() == {**usual, "partitionable": False}
    assert environment.is_of_this_mode({"recipe": 1, **usual})


def test_a_promotion_that_optax_cannot_do_with_is_refused():
    environment.check_promotion()
    with (
        jax.numpy_dtype_promotion("strict"),
        pytest.raises(UsageError, match="^JAX_NUMPY_DTYPE_PROMOTION=strict: expected standard"),
    ):
        environment.check_promotion()


def test_who_has_no_home_gets_the_name_of_one_for_a_while(monkeypatch):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", unknown)
    with pytest.raises(RuntimeError):
        Path.home()
    with environment.some_home():
        assert not Path.home().is_dir()
    assert "HOME" not in os.environ
    monkeypatch.setenv("HOME", "/mine")
    with environment.some_home():
        assert Path.home() == Path("/mine")
    assert os.environ["HOME"] == "/mine"
