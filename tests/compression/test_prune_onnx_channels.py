"""prune-channels on .onnx files: the same channels go as on the torch module, and onnxruntime says that it is right."""

import itertools

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from test_prune_graphs import NETWORKS, randomised, zeroed
from torch import nn

from edgepack.compression import prune_channels, prune_onnx_channels
from edgepack.compression.method import Context
from edgepack.compression.prune_channels import PruneChannels
from edgepack.errors import EdgepackError, InputError
from edgepack.export import to_onnx
from edgepack.onnxfile import canonicalise, load_onnx, save_onnx
from edgepack.onnxfile.sparse_blocks import restore_dense
from edgepack.spec import Input, Train

X = (Input(name="x", shape=(1, 2, 8, 8)),)


def step(**options):
    return PruneChannels(**{"method": "prune-channels", **({"ratio": 0.25} | options)})


def prune(path, tmp_path, context=None, **options):
    out = tmp_path / "pruned.onnx"
    metrics = prune_channels.METHOD.onnx.apply(path, out, step(**options), context or Context(X))
    return out, metrics


def run(path, *values):
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    feed = {value.name: array for value, array in zip(session.get_inputs(), values, strict=True)}
    return session.run(None, feed)


class Decoder(nn.Module):
    """Transposed convolutions, one of them depthwise, a scale per channel, and a resize."""

    def __init__(self):
        super().__init__()
        self.down = nn.Conv2d(2, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.each = nn.ConvTranspose2d(8, 8, 2, groups=8)
        self.up = nn.ConvTranspose2d(8, 6, 2, stride=2)
        self.scale = nn.Parameter(torch.rand(8, 1, 1) + 0.5)
        self.head = nn.Conv2d(6, 2, 1)

    def forward(self, x):
        x = torch.relu(self.norm(self.down(x))) * self.scale
        x = nn.functional.interpolate(self.each(x), scale_factor=2)
        return self.head(torch.relu(self.up(x)))


class All(nn.Module):
    """All networks in one file, because an export takes seconds."""

    def __init__(self):
        super().__init__()
        self.silent = {}
        for build in NETWORKS:
            module, _ = zeroed(build)
            self.add_module(build.__name__, module)
            self.silent |= {f"{build.__name__}.{name}": len(gone) for name, gone in build.zero.items()}
        self.add_module("Decoder", randomised(Decoder()))

    def forward(self, x):
        return tuple(network(x) for network in self.children())


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    torch.manual_seed(0)
    module = All().eval()
    path = to_onnx(module, X, tmp_path_factory.mktemp("all") / "all.onnx")
    save_onnx(restore_dense(load_onnx(path)), path)  # as the pipeline does before each step
    return path, module


def test_the_file_loses_the_silent_channels_that_the_module_loses(exported, tmp_path):
    path, module = exported
    out, metrics = prune(path, tmp_path, skip=("Decoder*",))
    left = metrics["layers"]
    named = {name: count for name, count in module.silent.items() if name in left}
    assert len(named) > 20, "the linear layers of an image with channels last have no name in the file"
    assert {name: left[name][0] - left[name][1] for name in named} == named
    x = np.random.default_rng(1).standard_normal((1, 2, 8, 8)).astype("float32")
    for got, want in zip(run(out, x), run(path, x), strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-4)
    assert metrics["macs"][1] < metrics["macs"][0]
    assert out.stat().st_size < path.stat().st_size


@pytest.mark.parametrize("options", [{"ratio": 0.5}, {"macs": 0.5}, {"size": 0.5, "scope": "global"}])
def test_transposed_convolutions_shrink_at_both_ends_and_budgets_are_met(exported, options, tmp_path):
    path, _ = exported
    _, metrics = prune(path, tmp_path, **{"ratio": None, **options})
    layers = metrics["layers"]
    assert layers["Decoder.down"] == layers["Decoder.each"]
    assert all(layers[f"Decoder.{name}"][1] < layers[f"Decoder.{name}"][0] for name in ("down", "up"))
    for key, metric in (("macs", "macs"), ("size", "parameters")):
        if key in options:
            before, after = metrics[metric]
            assert 0.4 * before < after <= 0.5 * before


def graph(nodes, constants, shape=(1, 4, 6, 6)):
    """A file as other exporters write it: no batch normalisation folded, constants shared."""
    tensors = [numpy_helper.from_array(array.astype(array.dtype), name) for name, array in constants.items()]
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    return canonicalise(helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)]))


def floats(*shape):
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype("float32")


def test_activations_choose_the_channels_that_are_never_on(tmp_path):
    bias, weight = floats(6), floats(6, 2, 1, 1)
    bias[[1, 4]] = -100.0  # large weights would keep them
    weight[[1, 4]] *= 5
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "a.bias"], ["a"], name="a"),
        helper.make_node("Relu", ["a"], ["r"]),
        helper.make_node("Conv", ["r", "b.weight"], ["y"], name="b"),
    ]
    path = tmp_path / "m.onnx"
    save_onnx(
        graph(nodes, {"a.weight": weight, "a.bias": bias, "b.weight": floats(3, 6, 1, 1)}, (1, 2, 8, 8)), path
    )
    samples = {"x": np.random.default_rng(0).standard_normal((4, 1, 2, 8, 8)).astype("float32")}
    out, metrics = prune(path, tmp_path, Context(X, samples=samples), ratio=1 / 3, criterion="activation")
    assert metrics["layers"] == {"a": [6, 4], "b": [3, 3]}
    x = samples["x"][0]
    np.testing.assert_allclose(run(out, x)[0], run(path, x)[0], rtol=1e-5, atol=1e-5)
    with pytest.raises(InputError, match="needs samples"):
        prune(path, tmp_path, ratio=1 / 3, criterion="activation")


def test_a_whole_attention_head_goes(tmp_path):
    """Three heads of four channels, of which the second says nothing."""
    nodes, constants = [], {"heads": np.array([1, 5, 3, 4]), "flat": np.array([1, 5, 12])}
    for name in ("query", "key", "value"):
        constants[f"{name}.weight"], constants[f"{name}.bias"] = floats(6, 12), floats(12)
        constants[f"{name}.weight"][:, 4:8] = constants[f"{name}.bias"][4:8] = 0
        nodes += [
            helper.make_node("MatMul", ["x", f"{name}.weight"], [f"{name}_p"], name=name),
            helper.make_node("Add", [f"{name}_p", f"{name}.bias"], [f"{name}_b"]),
            helper.make_node("Reshape", [f"{name}_b", "heads"], [f"{name}_h"]),
            helper.make_node(
                "Transpose",
                [f"{name}_h"],
                [f"{name}_t"],
                perm=[0, 2, 3, 1] if name == "key" else [0, 2, 1, 3],
            ),
        ]
    nodes += [
        helper.make_node("MatMul", ["query_t", "key_t"], ["scores"]),
        helper.make_node("Softmax", ["scores"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", "value_t"], ["context"]),
        helper.make_node("Transpose", ["context"], ["together"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["together", "flat"], ["joined"]),
        helper.make_node("MatMul", ["joined", "out.weight"], ["y"], name="out"),
    ]
    path = tmp_path / "m.onnx"
    save_onnx(graph(nodes, constants | {"out.weight": floats(12, 6)}, (1, 5, 6)), path)
    out, metrics = prune(path, tmp_path, ratio=1 / 3)
    assert metrics["layers"] == {"query": [12, 8], "key": [12, 8], "value": [12, 8], "out": [6, 6]}
    x = floats(1, 5, 6)
    np.testing.assert_allclose(run(out, x)[0], run(path, x)[0], rtol=1e-4, atol=1e-4)


def test_constants_that_several_nodes_read_are_cut_for_each_of_them(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "a.weight", "bias"], ["a"], name="a"),
        helper.make_node("BatchNormalization", ["a", "s", "bias", "bias", "v"], ["n"], name="n"),
        helper.make_node("Relu", ["n"], ["r"]),
        helper.make_node("Conv", ["r", "b.weight", "bias"], ["b"], name="b"),
        helper.make_node("Split", ["b", "halves"], ["left", "right"], axis=1),
        helper.make_node("Mul", ["left", "right"], ["m"]),
        helper.make_node("Reshape", ["m", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "fc.weight"], ["p"]),
        helper.make_node("Add", ["p", "fc.bias"], ["y"]),
    ]
    constants = {
        "a.weight": floats(8, 4, 1, 1), "b.weight": floats(8, 8, 1, 1), "bias": np.zeros(8, "float32"),
        "s": np.ones(8, "float32"), "v": np.ones(8, "float32"), "halves": np.array([4, 4]),
        "shape": np.array([1, 144]), "fc.weight": floats(144, 3), "fc.bias": floats(3),
    }  # fmt: skip
    path = tmp_path / "m.onnx"
    save_onnx(graph(nodes, constants), path)
    out, metrics = prune(path, tmp_path, ratio=0.5)
    assert metrics["layers"] == {"a": [8, 4], "b": [8, 4], "fc": [3, 3]}
    left = {tensor.name: tuple(tensor.dims) for tensor in load_onnx(out).graph.initializer}
    assert left["fc.weight"] == (72, 3)
    assert [
        tuple(numpy_helper.to_array(t)) for t in load_onnx(out).graph.initializer if t.name == "halves"
    ] == [(2, 2)]
    first = out.read_bytes()
    prune(path, tmp_path, ratio=0.5)
    assert out.read_bytes() == first, "not deterministic"


def test_what_is_computed_or_shared_stays_whole_and_is_named(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["a"], name="a"),
        helper.make_node("ConvTranspose", ["a", "a.weight"], ["b"], name="b"),
        helper.make_node("LRN", ["b"], ["c"], name="lrn", size=3),
        helper.make_node("Conv", ["c", "d.weight"], ["d"], name="d"),
        helper.make_node("Conv", ["d", "e.weight"], ["y"], name="e"),
    ]
    constants = {
        "a.weight": floats(4, 4, 1, 1), "d.weight": floats(6, 4, 1, 1), "e.weight": floats(2, 6, 1, 1),
    }  # fmt: skip
    path = tmp_path / "m.onnx"
    save_onnx(graph(nodes, constants), path)
    _, metrics = prune(path, tmp_path, ratio=0.5)
    assert metrics["layers"] == {"a": [4, 4], "b": [4, 4], "d": [6, 3], "e": [2, 2]}
    assert "shared" in metrics["kept_whole"]["a"]
    assert metrics["kept_whole"]["e"] == "its channels are the model's output"
    with pytest.raises(InputError, match="has no channels to remove") as caught:
        prune(path, tmp_path, ratio=0.5, skip=("d",))
    assert "d: skipped by the recipe" in caught.value.why
    with pytest.raises(InputError, match="no layer matches 'f'"):
        prune(path, tmp_path, skip=("f",))


def test_a_file_cannot_be_trained(tmp_path):
    path = tmp_path / "m.onnx"
    save_onnx(graph([helper.make_node("Relu", ["x"], ["y"])], {}), path)
    for options in ({"fine_tune": Train(epochs=1)}, {"criterion": "taylor"}):
        with pytest.raises(InputError, match=r"cannot train an \.onnx file"):
            prune(path, tmp_path, **options)
    with pytest.raises(InputError, match="has no channels to remove"):
        prune(path, tmp_path)
    assert not list(itertools.chain(tmp_path.glob("pruned*"), tmp_path.glob(".*")))


def test_the_batch_of_a_recipe_does_not_matter(tmp_path):
    """A reshape that fixes the batch beside the channels."""
    nodes = [
        helper.make_node("Conv", ["x", "a.weight"], ["a"], name="a"),
        helper.make_node("GlobalAveragePool", ["a"], ["g"]),
        helper.make_node("Reshape", ["g", "shape"], ["flat"]),
        helper.make_node("Gemm", ["flat", "fc.weight"], ["y"], transB=1),
    ]
    constants = {"a.weight": floats(8, 4, 3, 3), "shape": np.array([2, 8]), "fc.weight": floats(3, 8)}
    path = tmp_path / "m.onnx"
    save_onnx(graph(nodes, constants, (2, 4, 6, 6)), path)
    out, metrics = prune(path, tmp_path, ratio=0.5)
    assert metrics["layers"] == {"a": [8, 4], "fc": [3, 3]}
    assert run(out, floats(2, 4, 6, 6))[0].shape == (2, 3)
    onnx.checker.check_model(onnx.load(out), full_check=True)


def test_the_result_is_compared_on_tokens_from_the_whole_table():
    def made(table):
        graph = helper.make_graph(
            [helper.make_node("Gather", ["table", "ids"], ["y"])],
            "g",
            [helper.make_tensor_value_info("ids", TensorProto.INT64, [1, 16])],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 16, 2])],
            [numpy_helper.from_array(table, "table")],
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)

    table = np.arange(20, dtype="float32").reshape(10, 2)
    prune_onnx_channels._check_equal(made(table), made(table))
    other = table.copy()
    other[1:] += 1  # the row of token 0 is the same
    with pytest.raises(EdgepackError, match="does not compute the same"):
        prune_onnx_channels._check_equal(made(other), made(table))
