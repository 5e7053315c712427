"""The information of the small edge, measured once."""

import jax
import pytest
from small_edge import EDGE, IMAGES, PARAMS

from jaxinv.measures import bounds


@pytest.fixture(scope="session")
def known():
    return bounds.information(EDGE, PARAMS, IMAGES[:3], jax.random.key(1), draws=2)
