"""A small ResNet and a small ViT, as PyTorch exports them for a batch of one."""

import numpy as np
from onnx_graphs import model, weights


def resnet():
    """Returns a ResNet of one block on 8 x 8 colour images, with batch normalisation."""
    arrays, nodes = {}, []

    def conv(name, x, channels, stride=1):
        inputs = 3 if x == "x" else 4
        arrays[f"{name}.weight"] = weights(channels, inputs, 3, 3, seed=len(arrays)) * 0.3
        for number, part in enumerate(("weight", "bias", "running_mean", "running_var")):
            arrays[f"{name}_bn.{part}"] = weights(channels, seed=number) ** 2 + 0.1
        options = {"pads": [1] * 4, "strides": [stride] * 2}
        nodes.append(("Conv", [x, f"{name}.weight"], [name], options))
        own = [f"{name}_bn.{part}" for part in ("weight", "bias", "running_mean", "running_var")]
        nodes.append(("BatchNormalization", [name, *own], [f"{name}_bn"], {}))
        return f"{name}_bn"

    nodes.append(("Relu", [conv("conv1", "x", 4)], ["relu1"], {}))
    pool = {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1] * 4}
    nodes.append(("MaxPool", ["relu1"], ["pool1"], pool))
    nodes.append(("Relu", [conv("block.conv1", "pool1", 4)], ["block.relu1"], {}))
    second = conv("block.conv2", "block.relu1", 4)
    nodes.append(("Add", [second, "pool1"], ["block.add"], {}))
    nodes.append(("Relu", ["block.add"], ["block.relu2"], {}))
    nodes.append(("GlobalAveragePool", ["block.relu2"], ["pool2"], {}))
    nodes.append(("Flatten", ["pool2"], ["flat"], {}))
    arrays |= {"fc.weight": weights(5, 4), "fc.bias": weights(5)}
    nodes.append(("Gemm", ["flat", "fc.weight", "fc.bias"], ["y"], {"transB": 1}))
    return model(nodes, arrays, (1, 3, 8, 8))


def vit(batch_first=True):
    """Returns a ViT of one block on 8 x 8 colour images, with heads of attention.

    Args:
      batch_first: whether attention keeps the batch in front; else it comes behind the tokens, as
        in `torch.nn.MultiheadAttention`.
    """
    d, heads, tokens = 8, 2, 5
    arrays = {
        "patch.weight": weights(d, 3, 4, 4) * 0.2,
        "class": weights(1, 1, d),
        "position": weights(1, tokens, d),
        **{f"ln{i}.{part}": weights(d, seed=i) for i in (1, 2) for part in ("weight", "bias")},
        "qkv.weight": weights(d, 3 * d) * 0.3,
        "qkv.bias": weights(3 * d),
        "out.weight": weights(d, d) * 0.3,
        "mlp.weight": weights(d, d),
        "head.weight": weights(5, d),
        **dict(one=np.float32(1), half=np.float32(0.5), root=np.float32(2**0.5)),
        "scale": np.float32((d // heads) ** -0.5),
        **dict(flat=[1, d, -1], once=[1, 1, d], first=np.array(0), two=np.array(1)),
        "last": np.array(2),
    }
    nodes = [
        ("Conv", ["x", "patch.weight"], ["patches"], {"strides": [4, 4]}),
        ("Reshape", ["patches", "flat"], ["rows"], {}),
        ("Transpose", ["rows"], ["tokens"], {"perm": [0, 2, 1]}),
        ("Expand", ["class", "once"], ["class_token"], {}),
        ("Concat", ["class_token", "tokens"], ["all"], {"axis": 1}),
        ("Add", ["all", "position"], ["embedded"], {}),
        ("LayerNormalization", ["embedded", "ln1.weight", "ln1.bias"], ["ln1"], {}),
        *_attention(arrays, d, heads, tokens, batch_first),
        ("Add", ["embedded", "attended"], ["middle"], {}),
        ("LayerNormalization", ["middle", "ln2.weight", "ln2.bias"], ["ln2"], {}),
        ("MatMul", ["ln2", "mlp.weight"], ["hidden"], {}),
        ("Div", ["hidden", "root"], ["smaller"], {}),
        ("Erf", ["smaller"], ["erf"], {}),
        ("Add", ["erf", "one"], ["raised"], {}),
        ("Mul", ["hidden", "raised"], ["product"], {}),
        ("Mul", ["product", "half"], ["gelu"], {}),
        ("Add", ["middle", "gelu"], ["end"], {}),
        ("Gather", ["end", "first"], ["of_class"], {"axis": 1}),
        ("Gemm", ["of_class", "head.weight"], ["y"], {"transB": 1}),
    ]
    arrays = {name: np.asarray(array) for name, array in arrays.items()}
    return model(nodes, arrays, (1, 3, 8, 8))


def _attention(arrays, d, heads, tokens, batch_first):
    """Returns the nodes from `ln1` to `attended`."""
    each = d // heads
    if batch_first:
        split, order = [1, tokens, 3, heads, each], [2, 0, 3, 1, 4]
        merged, back = [1, tokens, d], [0, 2, 1, 3]
        after = [("Identity", ["joined"], ["attended"], {})]
        before = [("Identity", ["ln1"], ["taken"], {})]
        shape = [1, heads, tokens, each]
    else:
        split, order = [tokens, 1, 3, heads, each], [2, 1, 3, 0, 4]
        merged, back = [tokens, d], [2, 0, 1, 3]
        arrays["again"] = [tokens, 1, d]
        before = [("Transpose", ["ln1"], ["taken"], {"perm": [1, 0, 2]})]
        after = [
            ("Reshape", ["joined", "again"], ["unmerged"], {}),
            ("Transpose", ["unmerged"], ["attended"], {"perm": [1, 0, 2]}),
        ]
        shape = [1, heads, tokens, each]
    arrays |= {"split": split, "merged": merged, "shape": shape}
    parts = [
        node
        for number, name in zip(("first", "two", "last"), "qkv", strict=True)
        for node in (
            ("Gather", ["heads", number], [f"{name}_"], {"axis": 0}),
            ("Reshape", [f"{name}_", "shape"], [name], {}),
        )
    ]
    return [
        *before,
        ("MatMul", ["taken", "qkv.weight"], ["qkv0"], {}),
        ("Add", ["qkv0", "qkv.bias"], ["qkv"], {}),
        ("Reshape", ["qkv", "split"], ["parts"], {}),
        ("Transpose", ["parts"], ["heads"], {"perm": order}),
        *parts,
        ("Transpose", ["k"], ["k_t"], {"perm": [0, 1, 3, 2]}),
        ("MatMul", ["q", "k_t"], ["scores0"], {}),
        ("Mul", ["scores0", "scale"], ["scores"], {}),
        ("Softmax", ["scores"], ["shares"], {"axis": -1}),
        ("MatMul", ["shares", "v"], ["heads_out"], {}),
        ("Transpose", ["heads_out"], ["swapped"], {"perm": back}),
        ("Reshape", ["swapped", "merged"], ["values"], {}),
        ("MatMul", ["values", "out.weight"], ["joined"], {}),
        *after,
    ]
