"""Weight-only quantization: sizes in the file, blocks, what is left, what compensation gains, and odd networks."""

import dataclasses

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from edgepack.compression import quantize_weights
from edgepack.compression.method import Context
from edgepack.compression.quantization.encoding import Form, form_of
from edgepack.compression.quantization.grids import fit_grid, grouped, ungrouped
from edgepack.compression.quantization.layers import weights
from edgepack.compression.quantize_weights import QuantizeWeights
from edgepack.config.target import load_target
from edgepack.errors import InputError
from edgepack.export import evaluate, relative_error, run_onnx, to_onnx
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host
from edgepack.onnxfile import load_onnx
from edgepack.onnxfile.counting import count
from edgepack.spec import Input


def step(**options):
    return QuantizeWeights(**{"method": "quantize-weights", **options})


@pytest.mark.parametrize(
    ("options", "smaller", "drop"),
    [
        ({}, 3.5, 0.004),
        ({"symmetric": False, "block_size": 64}, 3.2, 0.004),
        ({"bits": 4}, 6.4, 0.012),
        ({"bits": 4, "block_size": 64, "symmetric": False}, 5.6, 0.009),
        ({"bits": 2, "block_size": 32, "symmetric": False, "compensate": True}, 5.9, 0.12),
    ],
)
def test_the_file_gets_smaller_and_keeps_its_accuracy(  # noqa: PLR0917 - fixtures
    model, data, inputs, tmp_path, options, smaller, drop
):
    out = tmp_path / "q.onnx"
    metrics = quantize_weights.apply(model, out, step(**options), Context(inputs, data))
    assert metrics["size"] == [model.stat().st_size, out.stat().st_size]
    assert metrics["size"][0] > smaller * metrics["size"][1]
    assert evaluate(out, data.x_test, data.y_test) >= evaluate(model, data.x_test, data.y_test) - drop
    assert count(out).parameters == count(model).parameters
    assert count(out).macs == count(model).macs
    assert len(metrics["layers"]) == 7
    stored = sum(after for _, after in metrics["layers"].values())
    encoded = sum(size for name, size in count(out).encodings.items() if name != "dense")
    # The shapes of blocks; packed weights also have the shifts, the mask and the shapes that unpack them.
    each = 49 if options.get("bits") == 2 else 14
    assert stored <= encoded <= stored + each * 7


def test_the_same_step_gives_the_same_bytes(model, data, inputs, tmp_path):
    for name in ("a.onnx", "b.onnx"):
        options = step(bits=4, compensate=True, samples=16)
        quantize_weights.apply(model, tmp_path / name, options, Context(inputs, data))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_compensation_lowers_the_error_of_the_outputs(model, data, inputs, tmp_path):
    options = step(bits=4, compensate=True, samples=64)
    metrics = quantize_weights.apply(model, tmp_path / "q.onnx", options, Context(inputs, data))
    assert metrics["samples"] == 64
    assert set(metrics["output_sqnr_db"]) == set(metrics["layers"])
    assert all(after > before for before, after in metrics["output_sqnr_db"].values())
    plain = tmp_path / "plain.onnx"
    quantize_weights.apply(model, plain, step(bits=4), Context(inputs, data))
    errors = {}
    for path in (plain, tmp_path / "q.onnx"):
        pairs = [
            (run_onnx(path, {"image": x[None]})[0], run_onnx(model, {"image": x[None]})[0])
            for x in data.x_test[:20]
        ]
        errors[path] = np.mean([np.square(ours - exact).mean() for ours, exact in pairs])
    assert errors[tmp_path / "q.onnx"] < 0.5 * errors[plain]


def test_only_the_training_split_is_looked_at(model, data, inputs, tmp_path):
    options = step(bits=4, compensate=True, samples=16)
    blind = dataclasses.replace(data, x_test=np.full_like(data.x_test, 1e6))
    quantize_weights.apply(model, tmp_path / "a.onnx", options, Context(inputs, data))
    quantize_weights.apply(model, tmp_path / "b.onnx", options, Context(inputs, blind))
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()


def test_what_cannot_be_done_is_refused(model, inputs, tmp_path):
    with pytest.raises(InputError, match="calibration needs samples"):
        quantize_weights.apply(model, tmp_path / "q.onnx", step(compensate=True), Context(inputs))
    with pytest.raises(InputError, match="'clasifier'; did you mean 'classifier'"):
        quantize_weights.apply(model, tmp_path / "q.onnx", step(skip=("clasifier",)), Context(inputs))
    with pytest.raises(InputError, match="no weight gets smaller"):
        quantize_weights.apply(model, tmp_path / "q.onnx", step(skip=("*",)), Context(inputs))
    assert not (tmp_path / "q.onnx").exists()


def test_skipped_layers_and_layers_too_small_are_named(inputs, tmp_path):
    torch.manual_seed(0)
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.Linear(32, 10), nn.Linear(10, 1)).eval()
    path = to_onnx(module, inputs, tmp_path / "m.onnx")
    metrics = quantize_weights.apply(path, tmp_path / "q.onnx", step(skip=("2",)), Context(inputs))
    assert list(metrics["layers"]) == ["1.weight", "3.weight"]
    assert metrics["kept_whole"] == {"2.weight": "skipped by the recipe"}
    metrics = quantize_weights.apply(path, tmp_path / "q.onnx", step(block_size=8, bits=8), Context(inputs))
    assert metrics["layers"]["1.weight"] == [8192, 2048 + 4 * 256]


class Shared(nn.Module):
    """A layer used twice, an embedding tied to the output, a transposed and a grouped convolution, a recurrent layer."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(40, 16)
        self.twice = nn.Linear(16, 16, bias=False)
        self.up = nn.ConvTranspose1d(16, 16, 2, stride=2)
        self.grouped = nn.Conv1d(16, 16, 3, padding=1, groups=4)
        self.lstm = nn.LSTM(16, 16, batch_first=True, bidirectional=True)
        self.down = nn.Linear(32, 16)

    def forward(self, ids, scale):
        x = torch.relu(self.twice(self.twice(self.words(ids)))) * scale
        x = self.grouped(self.up(x.transpose(1, 2))).transpose(1, 2)
        x = self.down(self.lstm(x)[0])
        return x @ self.words.weight.T, x.mean(1)


ODD = (Input(name="ids", shape=(2, 6), dtype="int64"), Input(name="scale", shape=(2, 1, 16)))


@pytest.fixture(scope="module")
def odd(tmp_path_factory):
    torch.manual_seed(0)
    return to_onnx(Shared().eval(), ODD, tmp_path_factory.mktemp("odd") / "m.onnx")


@pytest.mark.parametrize("options", [{}, {"bits": 4}, {"bits": 4, "block_size": 8}, {"symmetric": False}])
def test_networks_with_shared_weights_and_several_inputs(odd, tmp_path, options):
    metrics = quantize_weights.apply(odd, tmp_path / "q.onnx", step(**options), Context(ODD))
    assert {"words.weight", "up.weight", "grouped.weight"} <= {*metrics["layers"], *metrics["kept_whole"]}
    rng = np.random.default_rng(0)
    feed = {"ids": rng.integers(0, 40, (2, 6)), "scale": rng.random((2, 1, 16), "float32")}
    bound = 0.02 if options.get("bits", 8) == 8 else 0.3
    for ours, exact in zip(run_onnx(tmp_path / "q.onnx", feed), run_onnx(odd, feed), strict=True):
        assert relative_error(ours, exact) < bound
    recurrent = {node.op_type: node for node in onnx.load(tmp_path / "q.onnx").graph.node}["LSTM"]
    decoded = {
        node.output[0]
        for node in onnx.load(tmp_path / "q.onnx").graph.node
        if node.op_type == "DequantizeLinear"
    }
    assert set(recurrent.input[1:3]) <= decoded


def test_compensation_takes_samples_without_labels(odd, tmp_path):
    rng = np.random.default_rng(0)
    samples = {"ids": rng.integers(0, 40, (8, 2, 6)), "scale": rng.random((8, 2, 1, 16), "float32")}
    options = step(bits=4, compensate=True, samples=8)
    metrics = quantize_weights.apply(odd, tmp_path / "q.onnx", options, Context(ODD, samples=samples))
    assert metrics["samples"] == 8
    assert "grouped.weight" in metrics["output_sqnr_db"]


@pytest.mark.parametrize("options", [{}, {"block_size": 16, "symmetric": False}])
def test_packed_weights_of_2_bits_are_compiled(tmp_path, options):

    torch.manual_seed(0)
    module = nn.Sequential(nn.Conv1d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(42, 5)).eval()
    inputs = (Input(name="x", shape=(1, 3, 9)),)
    path = to_onnx(module, inputs, tmp_path / "m.onnx")
    metrics = quantize_weights.apply(path, tmp_path / "q.onnx", step(bits=2, **options), Context(inputs))
    assert len(metrics["layers"]) == 2
    assert "2-bit" in count(tmp_path / "q.onnx").encodings
    assert count(tmp_path / "q.onnx").parameters == count(path).parameters
    result = compile_model(tmp_path / "q.onnx", load_target("x86-64-v3"), tmp_path / "m.so")
    machine = open_on_host(result.path)
    x = np.random.default_rng(0).standard_normal((1, 3, 9)).astype("float32")
    exact = run_onnx(tmp_path / "q.onnx", {"x": x})[0]
    assert relative_error(machine(x)[0], exact) < 1e-5
    assert relative_error(exact, run_onnx(path, {"x": x})[0]) < 1


def test_weights_of_codebooks_are_not_weights(tmp_path):
    class Codebook(nn.Module):
        def __init__(self):
            super().__init__()
            self.table = nn.Parameter(torch.randn(16, 4))
            self.register_buffer("codes", torch.randint(16, (32 * 64 // 4,)))

        def forward(self, x):
            return nn.functional.linear(x, self.table[self.codes].reshape(32, 64))

    torch.manual_seed(0)
    path = to_onnx(Codebook(), (Input(name="x", shape=(1, 64)),), tmp_path / "m.onnx")
    assert not weights(load_onnx(path).graph)


@pytest.mark.parametrize(
    ("shape", "form"),
    [
        ((6, 10), Form((6, 10), 0)),
        ((6, 10), Form((6, 10), 1)),
        ((6, 10), Form((6, 10), 1, 0, 4)),
        ((6, 10), Form((6, 10), 0, 1, 3)),
        ((2, 6, 10), Form((2, 6, 10), 1, 2, 4)),
        ((2, 6, 10), Form((2, 6, 10), 1)),
        ((2, 6, 10), Form((2, 6, 10), None)),
    ],
)
def test_groups_are_put_back_in_place(shape, form):
    array = np.arange(np.prod(shape)).reshape(shape)
    groups = grouped(array, form.axis, form.rows, form.block)
    assert (ungrouped(groups, shape, form.axis, form.rows, form.block) == array).all()
    assert form.scales(np.arange(len(groups))).size == len(groups)
    if form.block:
        assert groups.shape[1] == form.block


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_grids_contain_zero_and_the_range(bits, symmetric):
    rng = np.random.default_rng(bits)
    groups = np.concatenate([rng.normal(size=(4, 50)), np.zeros((1, 50)), rng.random((2, 50)) + 3]).astype(
        "float32"
    )
    grid = fit_grid(groups, bits, symmetric=symmetric)
    assert (grid.values(np.broadcast_to(grid.zero[:, None], groups.shape)) == 0).all()
    assert not (grid.scale.view("uint32") & 0xFFFF).any()  # 8 significant bits
    error = np.abs(grid.values(grid.rounded(groups)) - groups)
    assert (error <= grid.scale[:, None] * 0.5001 + (0 if symmetric else grid.scale[:, None] * 0.5)).all()
    better = fit_grid(groups, bits, symmetric=symmetric, fit="mse")
    squares = [np.square(each.values(each.rounded(groups)) - groups).sum(1) for each in (better, grid)]
    assert (squares[0] <= squares[1] + 1e-9).all()


def test_blocks_of_a_convolution_contain_whole_filters(model):
    found = weights(load_onnx(model).graph)
    assert form_of(found["last.0.weight"], (64, 64, 3, 3), 32) == Form((64, 576), 0, 1, 32)
    assert form_of(found["depthwise.0.weight"], (32, 1, 3, 3), 32) == Form((32, 1, 3, 3), 0)
