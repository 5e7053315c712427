"""Networks whose features are no numbers are refused before anybody attacks them."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxinv.errors import UserError
from jaxinv.networks import sequence
from jaxinv.studies import finite

LAYERS = [
    ("conv", nn.Conv(2, (3, 3))),
    ("root", lambda x: jnp.sqrt(x - 100.0)),
    ("logits", nn.DenseGeneral(3, axis=(-3, -2, -1))),
]
IMAGES = np.random.default_rng(0).random((3, 12, 12, 1), np.float32)


def test_the_first_cut_without_numbers_is_named():
    network = sequence(LAYERS, (12, 12, 1))
    params = network.init(jax.random.key(0))
    finite.check(network, params, ["conv"], IMAGES)
    with pytest.raises(UserError, match="^split=root: the network's features there are not finite"):
        finite.check(network, params, ["logits", "conv", "root"], IMAGES)
