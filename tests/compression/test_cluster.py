"""Shared values: k-means, what a table holds, and what is trained."""

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgepack.compression.cluster import Cluster, apply
from edgepack.compression.kmeans import cluster_scalars, cluster_vectors
from edgepack.compression.method import Context
from edgepack.compression.registry import METHODS
from edgepack.export import parity, to_onnx
from edgepack.onnxfile.counting import count
from edgepack.spec import Input, Train
from edgepack.torchnet.checkpoint import Change, restore, save

X = (Input(name="x", shape=(1, 32)),)


def step(**options):
    return Cluster(method="cluster", **options)


def test_digits_keep_their_accuracy_with_16_values_per_layer(teacher, data, inputs):
    result = apply(teacher, step(fine_tune=Train(epochs=2)), Context(inputs, data))
    for layer in result.metrics["layers"]:
        assert len(result.module.get_submodule(layer).weight.unique()) <= 16
    before, after = result.metrics["weight_bytes"]
    assert before / after > 7.5
    score = result.metrics["score"]
    assert score["fine_tune"] >= score["before"] - 0.02


@pytest.mark.parametrize(("clusters", "stored"), [(2, 128), (4, 256), (16, 512), (200, 1024)])
def test_codes_take_as_few_bits_as_the_table_needs(clusters, stored):
    torch.manual_seed(0)
    result = apply(nn.Sequential(nn.Linear(32, 32)), step(clusters=clusters), Context(X))
    assert result.metrics["layers"] == {"0": [4096, stored + 4 * clusters]}


def test_pruned_weights_are_a_code_that_is_not_trained():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 32))
    with torch.no_grad():
        net[0].weight[:, ::2] = 0
    result = apply(net, step(clusters=4), Context(X))
    layer = result.module[0]
    assert len(layer.parametrizations.weight.original) == 3
    result.module(torch.ones(1, 32)).sum().backward()
    assert len(layer.parametrizations.weight.original.grad) == 3
    assert len(layer.weight.unique()) == 4
    assert not layer.weight[:, ::2].any()
    assert result.metrics["zeros"] == [512, 512]


def test_the_gradient_of_a_value_is_the_sum_of_its_weights_gradients():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(32, 32))
    module = apply(net, step(clusters=4), Context(X)).module
    x = torch.randn(8, 32)
    plain = nn.Linear(32, 32)
    plain.load_state_dict({"weight": module[0].weight.detach(), "bias": module[0].bias.detach()})
    module(x).square().sum().backward()
    plain(x).square().sum().backward()
    codes = module[0].parametrizations.weight[0].codes
    for code, found in enumerate(module[0].parametrizations.weight.original.grad):
        assert float(found) == pytest.approx(float(plain.weight.grad[codes == code].sum()), rel=1e-4)


def test_integers_of_a_quantized_network_are_clustered_and_keep_their_steps(teacher, data, inputs, tmp_path):
    context = Context(inputs, data)
    trained = METHODS["train-quantized"]
    first = trained.spec(method="train-quantized", fine_tune=Train(epochs=1), skip=("classifier",))
    quantized = trained.apply(teacher, first, context)
    result = apply(quantized.module, step(clusters=16, fine_tune=Train(epochs=1)), context)
    assert {"last.0", "classifier"} <= set(result.metrics["layers"])
    score = result.metrics["score"]
    assert score["fine_tune"] > score["before"] - 0.03

    path = to_onnx(result.module, inputs, tmp_path / "m.onnx")
    nodes = {node.output[0]: node for node in onnx.load(path).graph.node}
    convolutions = [node for node in nodes.values() if node.op_type == "Conv"]
    decoders = [nodes[node.input[1]] for node in convolutions]
    assert {node.op_type for node in decoders} == {"DequantizeLinear"}
    assert "BatchNormalization" not in {node.op_type for node in nodes.values()}
    sizes = count(path).encodings
    assert sizes["codebook"] <= result.metrics["weight_bytes"][1] + 8 * 128
    sample = np.random.default_rng(0).random((1, 1, 8, 8)).astype("float32")
    assert parity(result.module, path, [sample]) < 1e-4

    record = [Change("train-quantized", quantized.change), Change("cluster", result.change)]
    save(result.module, tmp_path / "m.safetensors", record)
    rebuilders = {name: METHODS[name].rebuild for name in ("train-quantized", "cluster")}
    restored = restore(teacher, tmp_path / "m.safetensors", rebuilders).module
    with torch.no_grad():
        assert torch.equal(restored(torch.from_numpy(sample)), result.module(torch.from_numpy(sample)))


def test_scalars_are_clustered_by_nearest_centres_in_order():
    random = np.random.default_rng(0)
    values = random.standard_normal(20_000).astype("float32")  # more than the histogram's bins
    centres, codes = cluster_scalars(values, 8, seed=0)
    assert (np.diff(centres) > 0).all()
    distances = np.abs(values[:, None] - centres)
    np.testing.assert_allclose(distances[np.arange(len(values)), codes], distances.min(1), rtol=1e-6)
    means = [values[codes == code].mean() for code in range(8)]
    np.testing.assert_allclose(centres, means, atol=0.01)  # a fixed point, up to the bins
    again = cluster_scalars(values, 8, seed=0)
    assert all(np.array_equal(*pair) for pair in zip((centres, codes), again, strict=True))


def test_few_distinct_values_are_kept_exactly():
    values = np.array([3, 1, 1, 2, 3], "float32")
    centres, codes = cluster_scalars(values, 8, seed=0)
    np.testing.assert_array_equal(centres[codes], values)
    vectors = np.array([[1, 2], [3, 4], [1, 2]], "float32")
    centres, codes = cluster_vectors(vectors, 8, seed=0)
    np.testing.assert_array_equal(centres[codes], vectors)
