"""Activations. JAX."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxinv.networks.onnx.operators.arithmetic import elementwise
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import Operand, Tensor, axis_of

_PLAIN: dict[str, Callable[[Array], Array]] = {
    **dict(Relu=jax.nn.relu, Sigmoid=jax.nn.sigmoid, Tanh=jnp.tanh, Softplus=jax.nn.softplus),
    **dict(HardSwish=jax.nn.hard_swish, Mish=jax.nn.mish, Softsign=jax.nn.soft_sign),
}


@operator(*_PLAIN, is_step=True)
def plain(call: Call, x: Tensor) -> Tensor:
    """Applies an activation without settings."""
    return x.like(_PLAIN[call.node.operator](x.array))


@operator("LeakyRelu", is_step=True)
def leaky_relu(call: Call, x: Tensor) -> Tensor:
    """Scales negative numbers."""
    return x.like(jnp.where(x.array >= 0, x.array, x.array * _number(call, "alpha", 0.01)))


@operator("ThresholdedRelu", is_step=True)
def thresholded_relu(call: Call, x: Tensor) -> Tensor:
    """Sets numbers up to a threshold to zero."""
    return x.like(jnp.where(x.array > _number(call, "alpha", 1), x.array, 0))


@operator("PRelu", is_step=True)
def prelu(call: Call, x: Tensor, slope: Operand) -> Tensor:
    """Scales negative numbers by parameters."""
    return elementwise(lambda x, slope: jnp.where(x >= 0, x, x * slope), x, slope)


@operator("Elu", "Celu", "Selu", is_step=True)
def elu(call: Call, x: Tensor) -> Tensor:
    """Replaces negative numbers by an exponential."""
    kind = call.node.operator
    alpha = _number(call, "alpha", 1.67326319217681884765625 if kind == "Selu" else 1)
    gamma = _number(call, "gamma", 1.05070102214813232421875 if kind == "Selu" else 1)
    scaled = jnp.minimum(x.array, 0) / (alpha if kind == "Celu" else 1)
    return x.like(gamma * jnp.where(x.array > 0, x.array, alpha * jnp.expm1(scaled)))


@operator("HardSigmoid", is_step=True)
def hard_sigmoid(call: Call, x: Tensor) -> Tensor:
    """Computes `clip(alpha x + beta, 0, 1)`."""
    line = x.array * _number(call, "alpha", 0.2) + _number(call, "beta", 0.5)
    return x.like(jnp.clip(line, 0, 1))


@operator("Gelu", is_step=True)
def gelu(call: Call, x: Tensor) -> Tensor:
    """Multiplies numbers by how many are smaller among normal ones."""
    return x.like(jax.nn.gelu(x.array, approximate=call.get("approximate") == "tanh"))


@operator("Swish", is_step=True)
def swish(call: Call, x: Tensor) -> Tensor:
    """Multiplies numbers by their sigmoid."""
    return x.like(x.array * jax.nn.sigmoid(x.array * _number(call, "alpha", 1)))


@operator("Softmax", "LogSoftmax", is_step=True)
def softmax(call: Call, x: Tensor) -> Tensor:
    """Computes probabilities: along one axis; before opset 13 over all behind it together."""
    function = jax.nn.softmax if call.node.operator == "Softmax" else jax.nn.log_softmax
    is_old = call.opset < 13
    axis = axis_of(call.get("axis", 1 if is_old else -1), x.rank)
    axes = range(axis, x.rank) if is_old else (axis,)
    return x.like(function(x.array, axis=x.places(axes)))


def _number(call: Call, name: str, default: Any) -> Any:
    return np.float32(call.get(name, default)).item()
