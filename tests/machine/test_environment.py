"""Facts of this machine in a record."""

import json
import sys
from importlib import metadata

import jax

from jaxinv.machine import environment


def test_environment_names_device_and_versions():
    facts = environment.facts()
    assert facts["device"].startswith(f"{jax.devices()[0].platform}: ")
    assert facts["versions"]["jax"] == metadata.version("jax")
    assert facts["versions"]["dm-pix"] == metadata.version("dm-pix")
    assert facts["versions"]["python"] == "{}.{}.{}".format(*sys.version_info)
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
