"""Products of matrices. JAX."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxinv.errors import UserError
from jaxinv.networks.onnx.graph import Node
from jaxinv.networks.onnx.operators.arithmetic import elementwise
from jaxinv.networks.onnx.registry import Call, operator
from jaxinv.networks.onnx.tensors import Operand, Order, Tensor, in_order, without


@operator("MatMul", is_step=True)
def matmul(call: Call, x: Operand, y: Operand) -> Tensor:
    """Multiplies matrices, whatever the order in which they are stored."""
    if isinstance(x, Tensor) and _rank(y) == 2 and x.rank >= 2:
        return _with_weights(x, in_order(y))
    if isinstance(x, Tensor) and isinstance(y, Tensor) and x.shape[:-2] == y.shape[:-2] != ():
        return _one_by_one(x, y)
    return Tensor.plain(jnp.matmul(in_order(x), in_order(y)))


def _rank(operand: Operand) -> int:
    return operand.rank if isinstance(operand, Tensor) else operand.ndim


def _with_weights(x: Tensor, weights: Any) -> Tensor:
    """Multiplies the last of ONNX's axes, wherever it is stored, by one matrix."""
    last = x.rank - 1
    y = lax.dot_general(x.array, jnp.asarray(weights), (((x.place(last),), (0,)), ((), ())))
    return Tensor(y, (*without(x.order, (last,)), last))


def _one_by_one(x: Tensor, y: Tensor) -> Tensor:
    """Multiplies matrices in pairs."""
    pairs = range(x.rank - 2)
    contracted = ((x.place(-1),), (y.place(-2),))
    return Tensor.plain(
        lax.dot_general(x.array, y.array, (contracted, (x.places(pairs), y.places(pairs))))
    )


def _weights(node: Node, rank: int) -> Order:
    return (1, 0) if node.attributes.get("transB") else (0, 1)


@operator("Gemm", kernels={1: _weights}, is_step=True)
def gemm(call: Call, x: Operand, y: Operand, bias: Operand | None = None) -> Tensor:
    """Multiplies two matrices and adds a third."""
    if _rank(x) != 2 or _rank(y) != 2:
        raise UserError(f"expected matrices, got arrays of {_rank(x)} and {_rank(y)} axes.")
    left, right = (
        operand if isinstance(operand, Tensor) else Tensor.plain(jnp.asarray(operand))
        for operand in (x, y)
    )
    left = Tensor(left.array, left.order[::-1]) if call.get("transA") else left
    weights = right.array if right.order == _weights(call.node, 2) else None
    if weights is None:
        weights = in_order(right).T if call.get("transB") else in_order(right)
    product = _with_weights(left, weights)
    alpha, beta = (np.array(call.get(name, 1), np.float32) for name in ("alpha", "beta"))
    product = product if alpha == 1 else product.like(product.array * alpha)
    if bias is None:
        return product
    added = elementwise(jnp.multiply, bias, beta) if beta != 1 else bias
    return elementwise(jnp.add, product, added)


@operator("Einsum", is_step=True)
def einsum(call: Call, *operands: Operand) -> Tensor:
    """Multiplies and sums as an equation of letters says."""
    equation = call.get("equation", "").replace(" ", "")
    return Tensor.plain(jnp.einsum(equation, *map(in_order, operands)))
