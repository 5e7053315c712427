"""ONNX's operators by name. Each module registers its own as it is imported."""

from jaxinv.networks.onnx.operators import (
    activations,
    arithmetic,
    convolutions,
    indexing,
    normalizations,
    pooling,
    products,
    reductions,
    resizing,
    shapes,
)
from jaxinv.networks.onnx.registry import OPERATORS

__all__ = [
    "OPERATORS",
    "activations",
    "arithmetic",
    "convolutions",
    "indexing",
    "normalizations",
    "pooling",
    "products",
    "reductions",
    "resizing",
    "shapes",
]
