"""A network that is somebody else's: a Flax module in a file, with its parameters."""

NETWORK = '''"""A small network with a skip connection."""

import flax.linen as nn
import jax
import jax.numpy as jnp

SHAPE = (12, 12, 1)


class Tiny(nn.Module):
    outputs: int = 3
    grid: bool = False

    @nn.compact
    def __call__(self, x):
        x = nn.Conv(4, (3, 3), strides=2, name="conv")(x)
        y = nn.Conv(4, (3, 3), name="branch")(nn.relu(x))
        x = nn.relu(x + y).reshape(len(x), -1)
        x = nn.Dense(self.outputs, name="head")(nn.relu(nn.Dense(12, name="hidden")(x)))
        return x.reshape(len(x), 2, -1) if self.grid else x


def _made(*settings):
    module = Tiny(*settings)
    return module.apply, module.init(jax.random.key(0), jnp.zeros((1, *SHAPE))), SHAPE


def build():
    return _made(3)


def scores():
    return _made(5)


def embedding():
    return _made(6, True)


def untrained():
    from jaxinv.networks import sequence
    from jaxinv.networks.layers import max_pool

    dense = nn.DenseGeneral(3, axis=(-3, -2, -1))
    return sequence([("conv", nn.Conv(2, (3, 3))), ("pool", max_pool), ("head", dense)], SHAPE)


def fails():
    scale = 1
    return scale / 0


def number():
    return 3


TEXT = "no function"
'''


def write(folder, name="net.py"):
    """Writes the file and returns its path."""
    path = folder / name
    path.write_text(NETWORK)
    return path
