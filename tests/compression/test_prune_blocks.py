"""prune-blocks: whole blocks become zero, of the shape in which the targets' kernels read weights."""

import numpy as np
import pytest
import torch
from onnx import numpy_helper
from test_prune_weights import Odd
from torch import nn

from edgepack.compression import prune_blocks
from edgepack.compression.method import Context
from edgepack.compression.prune_blocks import PruneBlocks
from edgepack.errors import InputError
from edgepack.export import parity, to_onnx
from edgepack.onnxfile import load_onnx
from edgepack.onnxfile.counting import count
from edgepack.onnxfile.sparse_blocks import restore_dense
from edgepack.spec import Input, Train

X = (Input(name="x", shape=(1, 4, 6, 6)),)


def prune(module, context=None, **options):
    step = PruneBlocks(**{"method": "prune-blocks", "ratio": 0.5, **options})
    return prune_blocks.apply(module, step, context or Context(X, lanes=8))


def blocks(weight, height, width, *, transposed=False):
    """The blocks of a weight, one per row."""
    rows = weight.transpose(0, 1) if transposed else weight
    rows = rows.reshape(rows.shape[0], rows.shape[1], -1).transpose(1, 2)
    out, positions, inputs = rows.shape
    split = rows.reshape(out // height, height, positions, inputs // width, width)
    return split.permute(0, 2, 3, 1, 4).reshape(-1, height * width)


def test_the_blocks_with_the_smallest_norm_become_zero():
    torch.manual_seed(0)
    module = Odd().eval()
    result = prune(module)
    assert result.metrics["blocks"] == {
        "first": [8, 4], "again": [8, 4], "up": [2, 4], "tied": [4, 4], "lstm.weight_ih_l0": [8, 4],
        "lstm.weight_hh_l0": [8, 4],
    }  # fmt: skip
    assert set(result.metrics["kept_whole"]) == {"depthwise", "normed", "out"}
    pruned = dict(result.module.named_parameters())
    for name, shape in (("first.weight", (8, 4)), ("tied.weight", (4, 4)), ("lstm.weight_hh_l0", (8, 4))):
        before = blocks(dict(module.named_parameters())[name], *shape)
        after = blocks(pruned[name], *shape)
        gone = (after == 0).all(1)
        assert torch.equal(after[~gone], before[~gone])
        assert int(gone.sum()) == len(gone) // 2
        assert before[gone].norm(dim=1).max() <= before[~gone].norm(dim=1).min()
    gone = (blocks(pruned["up.weight"], 2, 4, transposed=True) == 0).all(1)
    assert int(gone.sum()) == len(gone) // 2


def test_blocks_of_any_size_and_what_they_do_not_divide():
    module = nn.Sequential(nn.Conv2d(4, 6, 3), nn.Conv2d(6, 9, 1), nn.Conv2d(9, 3, 1)).eval()
    result = prune(module, block=(3, 2), norm="l1", scope="global")
    assert result.metrics["blocks"] == {"0": [3, 2], "1": [3, 2]}
    assert result.metrics["kept_whole"] == {"2": "3 outputs and 9 inputs are no multiple of 3 x 2"}
    assert result.metrics["sparsity"][1] == pytest.approx(0.5, abs=0.02)
    with pytest.raises(InputError, match="changes nothing") as caught:
        prune(module, block=(5, 5))
    assert "no multiple of 5 x 5" in caught.value.why


def test_the_digits_network_keeps_its_accuracy_with_half_of_its_blocks(teacher, data, inputs, tmp_path):
    context = Context(inputs, data, lanes=8)
    result = prune(teacher, context, schedule="gradual", fine_tune=Train(epochs=4, lr=2e-3))
    assert result.metrics["sparsity"][1] == pytest.approx(0.5, abs=0.01)
    accuracy = result.metrics["score"]
    assert accuracy["fine_tune"] >= accuracy["before"] - 0.03
    for name, (height, width) in result.metrics["blocks"].items():
        gone = (blocks(result.module.get_submodule(name).weight, height, width) == 0).all(1)
        assert float(gone.float().mean()) == pytest.approx(0.5, abs=0.05)

    whole = to_onnx(teacher, inputs, tmp_path / "whole.onnx")
    path = to_onnx(result.module, inputs, tmp_path / "pruned.onnx")
    assert count(path).encodings["sparse-blocks"] < 0.53 * whole.stat().st_size
    assert path.stat().st_size < 0.6 * whole.stat().st_size
    assert parity(result.module, path, [data.x_test[:1]]) < 1e-5
    found = restore_dense(load_onnx(path))
    stored = {each.name: numpy_helper.to_array(each) for each in found.graph.initializer}
    parameters = dict(result.module.named_parameters())
    for name in ("classifier.weight", "classifier.bias"):
        np.testing.assert_array_equal(stored[name], parameters[name].detach().numpy())


def test_gradual_needs_training():
    with pytest.raises(InputError, match="add fine_tune"):
        prune(Odd().eval(), schedule="gradual")
