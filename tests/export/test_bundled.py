"""What a bundle would hold for the weights of a torch module, estimated without an export."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from edgepack.export import to_onnx
from edgepack.export.bundled import module_weights
from edgepack.onnxfile.counting import count
from edgepack.spec import Input
from edgepack.torchnet.layers import example_inputs
from edgepack.weightfile.estimate import estimated_sizes


class Rows(nn.Module):
    """A normalisation over the rows of a linear layer's result, which is not over its outputs."""

    def __init__(self):
        super().__init__()
        self.linear, self.norm = nn.Linear(8, 6), nn.BatchNorm1d(5)

    def forward(self, x):
        return self.norm(self.linear(x))


class Several(nn.Module):
    """Tied weights, attention, a buffer, two inputs and outputs."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 16)
        self.attention = nn.MultiheadAttention(16, 2, batch_first=True)
        self.head = nn.Linear(16, 50, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("places", torch.randn(1, 6, 16))

    def forward(self, tokens, scale):
        hidden = self.embedding(tokens) * scale[:, None] + self.places
        hidden, _ = self.attention(hidden, hidden, hidden, need_weights=False)
        return self.head(hidden), hidden


def sizes(module, *inputs):
    return estimated_sizes(module_weights(module.eval(), example_inputs(inputs)))


IMAGE = Input(name="x", shape=(1, 4, 8, 8))


@pytest.mark.parametrize(
    ("module", "given", "elements"),
    [
        (nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8)), IMAGE, 8 * 36 + 8),
        (nn.Sequential(nn.Conv2d(4, 8, 3, bias=False), nn.BatchNorm2d(8, affine=False)), IMAGE, 8 * 36 + 8),
        (nn.Sequential(nn.Conv2d(4, 8, 3, groups=2), nn.ReLU(), nn.BatchNorm2d(8)), IMAGE, 8 * 18 + 24),
        (nn.Sequential(nn.ConvTranspose2d(4, 8, 3), nn.BatchNorm2d(8)), IMAGE, 8 * 36 + 8),
        (nn.Sequential(nn.ConvTranspose2d(4, 8, 3, groups=2), nn.BatchNorm2d(8)), IMAGE, 8 * 18 + 24),
        (nn.BatchNorm2d(4, track_running_stats=False), IMAGE, 8),
        (nn.BatchNorm2d(4, affine=False, track_running_stats=False), IMAGE, 0),
        (Rows(), Input(name="x", shape=(1, 5, 8)), 54 + 10),
        (parametrizations.weight_norm(nn.Linear(8, 6)), Input(name="x", shape=(1, 8)), 54),
        (nn.Linear(8, 6).half(), Input(name="x", shape=(1, 8), dtype="float16"), 54),
        (nn.ReLU(), IMAGE, 0),
    ],
    ids=lambda value: str(value).replace("\n", "") if isinstance(value, nn.Module) else "",
)
def test_normalisations_are_part_of_the_layer_before_them_where_they_can_be(module, given, elements):
    state = {name: value.clone() for name, value in module.state_dict().items()}
    size, memory = sizes(module, given)
    assert memory == 4 * elements
    assert (size > 0) == (elements > 0)
    assert all(torch.equal(value, state[name]) for name, value in module.state_dict().items())


def test_tied_weights_count_once():
    module, given = (
        Several(),
        (Input(name="tokens", shape=(1, 6), dtype="int64"), Input(name="scale", shape=(1, 16))),
    )
    assert sizes(module, *given)[1] == 4 * (50 * 16 + 4 * 16 * 16 + 4 * 16 + 6 * 16)


def test_the_estimate_is_that_of_the_exported_file(tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(
        nn.Conv2d(4, 32, 3, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(1152, 40)
    )
    with torch.no_grad():
        module[1].running_var.uniform_(0.5, 2)
        module[1].running_mean.uniform_(-1, 1)
        module[4].weight.mul_(torch.rand(40, 1152) > 0.9)  # stored in sparse blocks
    path = to_onnx(module.eval(), (IMAGE,), tmp_path / "m.onnx")
    exported = estimated_sizes(count(path).weights)
    assert sizes(module, IMAGE) == (pytest.approx(exported[0], rel=0.01), exported[1])
    assert exported[0] < 0.3 * exported[1]
