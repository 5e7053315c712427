"""Target networks: ordered named layers, split into an edge and a cloud at any of them."""

from jaxinv.networks.network import Kind, Layer, Network, Params, as_layer, max_pool, sequence
from jaxinv.networks.zoo import cifar_cnn, for_images, lenet5

__all__ = [
    "Kind",
    "Layer",
    "Network",
    "Params",
    "as_layer",
    "cifar_cnn",
    "for_images",
    "lenet5",
    "max_pool",
    "sequence",
]
