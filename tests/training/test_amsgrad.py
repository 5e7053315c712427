import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxinv.training.amsgrad import amsgrad

START = [0.5, -0.25, 1.0]

# Gradients that grow, shrink and change sign by more than eps and less than it.
GRADIENTS = [
    [1e-3, 2.0, -0.1],
    [5e-3, 1.0, -0.5],
    [4e-2, 0.3, -2.0],
    [0.5, 0.05, -0.3],
    [2.0, 0.01, 0.2],
    [0.1, -0.02, 0.05],
    [-0.05, 0.004, 1.0],
    [1e-3, -1e-3, 0.01],
]

# The parameters after each step of torch.optim.Adam(lr=1e-2, eps=1e-3, amsgrad=True), float64,
# PyTorch 2.13.0.
TORCH = [
    [0.495, -0.259995002, 1.00990099],
    [0.488258783, -0.269310906, 1.018487643],
    [0.481376139, -0.277296644, 1.026314928],
    [0.475136079, -0.283962819, 1.033494583],
    [0.468564421, -0.289618028, 1.039013941],
    [0.462654984, -0.294442913, 1.043643474],
    [0.457619872, -0.29866301, 1.045110211],
    [0.453181328, -0.302378922, 1.046381121],
]


# The same with betas=(0.9, 0.9), where moments are forgotten soon enough for the maximum to matter.
TORCH_FORGETFUL = [
    [0.495, -0.259995002, 1.00990099],
    [0.488381928, -0.269460061, 1.01828884],
    [0.481818709, -0.277440969, 1.025755577],
    [0.476024885, -0.283942175, 1.032505976],
    [0.470053389, -0.28932669, 1.037593072],
    [0.46480495, -0.293813785, 1.041760814],
    [0.460435028, -0.297648902, 1.043189817],
    [0.456669015, -0.300950287, 1.044400328],
]


def trajectory(transformation):
    x = jnp.array(START)
    state = transformation.init(x)
    path = []
    for gradient in GRADIENTS:
        update, state = transformation.update(jnp.array(gradient), state, x)
        x = optax.apply_updates(x, update)
        path.append(np.asarray(x))
    return np.array(path)


@pytest.mark.parametrize(("b2", "expected"), [(0.999, TORCH), (0.9, TORCH_FORGETFUL)])
def test_amsgrad_steps_as_pytorch_does(b2, expected):
    np.testing.assert_allclose(trajectory(amsgrad(1e-2, b2=b2, eps=1e-3)), expected, rtol=1e-5)


def test_amsgrad_of_optax_is_another():
    assert np.abs(trajectory(optax.amsgrad(1e-2, eps=1e-3)) - TORCH).max() > 1e-3


def test_amsgrad_remembers_the_largest_second_moment():
    assert np.abs(trajectory(optax.adam(1e-2, b2=0.9, eps=1e-3)) - TORCH_FORGETFUL).max() > 1e-3
