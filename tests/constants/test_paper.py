"""Figures that the paper prints, and the weights of its total variation."""

import flax.linen as nn
import pytest

from jaxinv import networks
from jaxinv.constants import paper
from jaxinv.errors import UsageError


@pytest.mark.parametrize(
    ("experiment", "split", "psnr", "ssim"),
    [
        ("whitebox", "conv1", 39.69, 1.00),
        ("whitebox", "relu2", 15.10, 0.60),
        ("blackbox", "conv1", 40.72, 0.99),
        ("blackbox", "relu2", 20.81, 0.80),
        ("queryfree", "conv1", 17.86, 0.64),
        ("queryfree", "relu2", 8.03, 0.38),
    ],
)
def test_printed(experiment, split, psnr, ssim):
    for dataset in ("mnist", "mnist_5k"):
        figure = paper.printed(experiment, dataset, split)
        assert (figure.psnr, figure.ssim) == (psnr, ssim)


def test_what_is_not_printed():
    assert paper.printed("whitebox", "mnist", "conv2") is None
    assert paper.printed("whitebox", "cifar10", "conv1") is None
    assert paper.printed("defenses", "mnist", "conv1") is None


CODE = {
    networks.lenet5: {0: ("conv1",), 1: networks.lenet5().cuts[1:]},
    networks.cifar_cnn: {
        0: ("conv11", "relu11", "conv12", "relu12", "pool1", "conv21", "relu21", "conv22"),
        10: ("relu22", "pool2", "conv31", "relu31", "conv32"),
        1e3: ("relu32", "pool3"),
        1e4: ("fc1", "sigmoid1"),
        5e2: ("fc2",),
    },
}


@pytest.mark.parametrize("build", CODE)
def test_lambda_of_the_code(build):
    network = build()
    weights = {cut: weight for weight, cuts in CODE[build].items() for cut in cuts}
    assert {cut: paper.code_lambda(network, cut) for cut in network.cuts} == weights


@pytest.mark.parametrize("build", CODE)
def test_lambda_as_printed(build):
    network = build()
    first_dense = network.cuts.index("fc1")
    for i, cut in enumerate(network.cuts):
        assert paper.printed_lambda(network, cut) == (0.1 if i >= first_dense else 0.0)


def test_lambda_of_ones_own_network():
    layers = [
        ("a", nn.Conv(2, (3, 3))),
        ("b", nn.Conv(2, (3, 3))),
        ("c", nn.relu),
        ("d", nn.DenseGeneral(4, axis=(-3, -2, -1))),
    ]
    network = networks.sequence(layers, (8, 8, 1))
    assert [paper.code_lambda(network, cut) for cut in "abcd"] == [0, 0, 1, 1]
    assert [paper.printed_lambda(network, cut) for cut in "abcd"] == [0, 0, 0, 0.1]


@pytest.mark.parametrize(
    ("text", "weight"), [("code", 1.0), ("printed", 0.0), ("0", 0.0), ("2.5e-3", 2.5e-3)]
)
def test_resolve_lambda(text, weight):
    assert paper.resolve_lambda(text, networks.lenet5(), "relu2") == weight


@pytest.mark.parametrize("text", ["", "paper", "-1", "nan", "inf", "1,2"])
def test_resolve_lambda_refuses(text):
    with pytest.raises(UsageError, match=f"^tv_weight={text}: expected code, printed or a number"):
        paper.resolve_lambda(text, networks.lenet5(), "relu2")
