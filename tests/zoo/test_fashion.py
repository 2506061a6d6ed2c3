"""The networks for Fashion-MNIST cost what docs/zoo.md says, are always the same, and compute the same in ONNX."""

import numpy as np
import pytest
import torch

from edgepack.export import relative_error, run_onnx, to_onnx
from edgepack.spec import Input
from edgepack.torchnet.layers import count_module
from edgepack.zoo import fashion, snippets

IMAGE = (Input(name="image", shape=(1, 1, 28, 28)),)
COSTS = {"vgg": (372_570, 7_638_272), "resnet20": (272_186, 8_523_968), "separable": (136_202, 3_433_920)}


@pytest.mark.parametrize("name", COSTS)
def test_costs_and_outputs(name, tmp_path):
    network = getattr(fashion, name)().eval()
    again = getattr(fashion, name)().eval()
    x = torch.randn(1, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    counted = count_module(network, (x,))
    assert (counted.parameters, counted.macs) == COSTS[name]
    with torch.no_grad():
        y = network(x).numpy()
        assert np.array_equal(y, again(x).numpy())
    assert y.shape == (1, fashion.CLASSES)
    to_onnx(network, IMAGE, tmp_path / "net.onnx")
    assert relative_error(run_onnx(tmp_path / "net.onnx", {"image": x.numpy()})[0], y) < 1e-5


def test_the_transformer_reads_bytes():
    network = snippets.transformer().eval()
    assert sum(each.numel() for each in network.parameters()) == 27_394
    with torch.no_grad():
        assert network(torch.zeros(3, snippets.LENGTH, dtype=torch.int64)).shape == (3, 2)
