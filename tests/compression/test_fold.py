"""Folding as a recipe step: networks as users bring them, before and after in onnxruntime."""

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from edgepack.compression import binarize, fold
from edgepack.compression.fold import Fold
from edgepack.compression.method import Context
from edgepack.errors import InputError
from edgepack.export import to_onnx
from edgepack.onnxfile import canonicalise, save_onnx
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.spec import Input


def normalised(channels):
    norm = nn.BatchNorm2d(channels)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.5, 2)
    norm.weight.data.uniform_(0.5, 2)
    norm.bias.data.normal_()
    return norm


class Reparameterised(nn.Module):
    """A block of RepVGG or, with groups, of MobileOne."""

    def __init__(self, channels, groups=1):
        super().__init__()
        self.wide = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, groups=groups, bias=False), normalised(channels)
        )
        self.narrow = nn.Sequential(
            nn.Conv2d(channels, channels, 1, groups=groups, bias=False), normalised(channels)
        )
        self.same = normalised(channels)

    def forward(self, x):
        return torch.relu(self.wide(x) + self.narrow(x) + self.same(x))


class Foldable(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.before, self.stem = normalised(3), nn.Conv2d(3, 8, 3, 2, 1)
        self.dense, self.depthwise = Reparameterised(8), Reparameterised(8, 8)
        self.five, self.six = nn.Conv2d(8, 6, 3), nn.Conv2d(6, 6, 1, 2)
        self.up, self.after = nn.ConvTranspose2d(6, 5, 2, 2), normalised(5)
        self.one, self.two = nn.Linear(5, 4), nn.Linear(4, 9)
        self.base, self.down, self.back = (
            nn.Linear(9, 9),
            nn.Linear(9, 2, bias=False),
            nn.Linear(2, 9, bias=False),
        )

    def forward(self, x):
        x = self.depthwise(self.dense(torch.relu(self.stem(self.before(x)))))
        x = torch.relu(self.six(self.five(x)) * 0.5 + 1)
        x = torch.relu(self.two(self.one(self.after(self.up(x)).mean((2, 3)))))
        return self.base(x) + self.back(self.down(x))


def apply(path, context, **options):
    out = path.with_name("folded.onnx")
    return fold.apply(path, out, Fold(method="fold", **options), context), onnx.load(out).graph


def test_a_network_of_many_foldable_parts(tmp_path):
    inputs = (Input(name="x", shape=(1, 3, 16, 16)),)
    path = to_onnx(Foldable().eval(), inputs, tmp_path / "net.onnx")
    metrics, graph = apply(path, Context(inputs))
    assert [node.op_type for node in graph.node if node.op_type not in {"Relu", "ReduceMean"}] == [
        "BatchNormalization", "Conv", "Conv", "Conv", "Conv", "ConvTranspose", "Gemm", "Gemm",
    ]  # fmt: skip
    assert metrics["error"] < 1e-5
    assert metrics["nodes"] == [metrics["nodes"][0], 14]
    assert metrics["macs"][1] < 0.8 * metrics["macs"][0]
    assert metrics["folded"] == {"sequences": 4, "branches": 5}
    assert len(metrics["layers"]["dense.wide.0"]) == 5
    assert "the zeros of its padding are not shifted" in metrics["kept_whole"].values()
    assert {tensor.name for tensor in graph.initializer} >= {"dense.wide.0.weight", "dense.wide.0.bias"}
    again, _ = apply(path, Context(inputs))
    assert again == metrics
    same = path.with_name("folded.onnx").read_bytes()
    apply(path, Context(inputs))
    assert path.with_name("folded.onnx").read_bytes() == same
    kept, graph = apply(path, Context(inputs), skip=("dense.*", "base"))
    assert kept["folded"] == {"sequences": 4, "branches": 2}
    with pytest.raises(InputError, match="no layer or node matches 'dens'"):
        apply(path, Context(inputs), skip=("dens",))


def test_what_decodes_weights_stays(tmp_path):
    inputs = (Input(name="x", shape=(1, 4, 8, 8)),)
    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv2d(4, 32, 3), nn.ReLU(), nn.Conv2d(32, 4, 1), nn.Conv2d(4, 4, 1)).eval()
    signs = {"bits": 1, "axis": 0, "places": [["0", "weight"]]}
    path = to_onnx(
        binarize.rebuild(module, {"weights": [signs], "inputs": []}), inputs, tmp_path / "net.onnx"
    )
    metrics, _ = apply(path, Context(inputs))
    assert metrics["folded"] == {"sequences": 1}
    for file in (path, path.with_name("folded.onnx")):
        kinds = {each.name: each.encoding for each in encoded_constants(onnx.load(file))}
        assert kinds["0.weight.codes"] == "1-bit"


class Whole(nn.Module):
    """What must not be folded: shared layers, an intermediate result that is an output, pruned weights."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.shared, self.wide = nn.Conv2d(4, 4, 1), nn.Conv2d(4, 16, 1)
        self.back, self.sparse = nn.Conv2d(16, 4, 1), nn.Conv2d(4, 4, 1)
        with torch.no_grad():
            self.sparse.weight[torch.rand(4, 4, 1, 1) < 0.8] = 0

    def forward(self, x):
        x = self.shared(torch.relu(self.shared(x) * 2))
        inner = self.wide(x)
        y = torch.relu(self.back(inner))
        return self.sparse(y) + y, inner


def test_what_would_lose_stays_and_says_why(tmp_path):
    inputs = (Input(name="x", shape=(1, 4, 5, 5)),)
    path = to_onnx(Whole().eval(), inputs, tmp_path / "whole.onnx")
    with pytest.raises(InputError, match="there is nothing to fold") as caught:
        apply(path, Context(inputs))
    assert "their weights are shared with other layers" in caught.value.why
    assert "the zeros of pruned weights would be filled" in caught.value.why
    assert caught.value.next == "remove this step"


def graph_of(nodes, constants, shape, kind=TensorProto.FLOAT):
    value = helper.make_tensor_value_info("x", kind, shape)
    out = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph(
        nodes,
        "g",
        [value],
        [out],
        [onnx.numpy_helper.from_array(array, name) for name, array in constants.items()],
    )
    return canonicalise(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]))


@pytest.mark.parametrize("kind", ["float32", "float16"])
def test_products_of_more_than_two_axes_constants_and_identities(kind, tmp_path):
    rng = torch.Generator().manual_seed(0)
    weight = torch.randn(6, 6, generator=rng).numpy().astype(kind)
    bias = torch.randn(6, generator=rng).numpy().astype(kind)
    nodes = [
        helper.make_node("Identity", ["x"], ["a"]),
        helper.make_node("MatMul", ["a", "w"], ["b"]),
        helper.make_node("Add", ["b", "c"], ["d"]),
        helper.make_node("Mul", ["d", "c"], ["e"]),
        helper.make_node("Sub", ["half", "e"], ["f"]),
        helper.make_node("Dropout", ["f"], ["g"]),
        helper.make_node("Transpose", ["g"], ["h"], perm=[0, 1, 2]),
        helper.make_node("Div", ["h", "half"], ["y"]),
    ]
    import numpy as np

    half = np.asarray(0.5, kind)
    model = graph_of(
        nodes,
        {"w": weight, "c": bias, "half": half},
        [2, 3, 6],
        helper.np_dtype_to_tensor_dtype(np.dtype(kind)),
    )
    save_onnx(model, tmp_path / "m.onnx")
    metrics, graph = apply(tmp_path / "m.onnx", Context((Input(name="x", shape=(2, 3, 6), dtype=kind),)))
    assert [node.op_type for node in graph.node] == ["MatMul", "Add"]
    assert metrics["folded"]["identities"] == 3
    assert {tensor.data_type for tensor in graph.initializer} == {
        helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    }
