"""Target networks as programs, split into an edge and a cloud at any place."""

from jaxinv.networks.layers import Layer, append, as_layer, max_pool, sequence
from jaxinv.networks.modules import from_function, from_linen, from_module
from jaxinv.networks.network import Network, Params, Segment
from jaxinv.networks.onnx import from_onnx
from jaxinv.networks.wire import Wire
from jaxinv.networks.zoo import cifar_cnn, for_images, lenet5

__all__ = [
    "Layer",
    "Network",
    "Params",
    "Segment",
    "Wire",
    "append",
    "as_layer",
    "cifar_cnn",
    "for_images",
    "from_function",
    "from_linen",
    "from_module",
    "from_onnx",
    "lenet5",
    "max_pool",
    "sequence",
]
