"""The order of the axes of an input: images and series with their channels last. NumPy."""

from jaxinv.networks.onnx.graph import Graph, Node
from jaxinv.networks.onnx.tensors import Order, channels_last
from jaxinv.networks.program import words

_CHANNELS_FIRST = words(
    """
    Conv ConvTranspose MaxPool AveragePool GlobalAveragePool GlobalMaxPool BatchNormalization
    InstanceNormalization GroupNormalization DepthToSpace SpaceToDepth
    """
)
_PASSING = words(
    """
    Add Sub Mul Div Cast Identity Pad Slice Concat Split Resize Upsample Clip Relu Sigmoid Dropout
    Neg Sqrt Pow
    """
)
_CHANNELS = (1, 3, 4)  # of an image, where nothing else tells


def order_of(graph: Graph) -> Order:
    """Returns the order in which the input is taken: ONNX's axis of each.

    An image that enters a convolution as `[N, C, H, W]` is taken as `[N, H, W, C]`; one that is
    transposed first is taken as it is. Where the graph does not tell, the axis of 1, 3 or 4
    channels does.
    """
    rank = len(graph.input.shape) + 1
    plain = tuple(range(rank))
    if rank < 3:
        return plain
    first = _first_to_tell(graph)
    if first is not None and first.operator in _CHANNELS_FIRST:
        return channels_last(rank)
    if first is not None or rank != 4:
        return plain
    shape = graph.input.shape
    is_first = shape[0] in _CHANNELS and shape[-1] not in _CHANNELS
    return channels_last(rank) if is_first else plain


def _first_to_tell(graph: Graph) -> Node | None:
    """Returns the first node whose operator names the axis of channels, or that transposes."""
    reached = {graph.input.name}
    for node in graph.nodes:
        if reached.isdisjoint(node.inputs[:1] if node.operator != "Concat" else node.inputs):
            continue
        if node.operator in _CHANNELS_FIRST or node.operator == "Transpose":
            return node
        if node.operator in _PASSING:
            reached.update(node.outputs)
    return None
