"""LSTM, GRU and RNN: networks of torch, half precision, int8 weights, and what a kernel's code grows with."""

import numpy as np
import onnx
import pytest
import torch
from forms import Form
from forms_recurrent import WAYS, recurrent
from forms_run import reference
from onnx import helper, numpy_helper

from edgepack.config.target import load_target
from edgepack.export import to_onnx
from edgepack.export.reference import run_onnx
from edgepack.lower import compile_model, tuning_tasks
from edgepack.lower.host import open_on_host
from edgepack.schedules.recurrent.kernel import build_kernel, layer_of
from edgepack.schedules.recurrent.layer import Activation, LayerDirection, RecurrentLayer
from edgepack.schedules.recurrent.loops import Vectors
from edgepack.spec import Input


def run_compiled(path, feeds, folder, target="x86-64-v3"):
    """Compile a model and run it; returns its outputs."""
    compiled = compile_model(path, load_target(target), folder / f"{path.stem}.so")
    return open_on_host(compiled.path)(*[feeds[value.name] for value in compiled.inputs])


@pytest.mark.parametrize("operator", ["LSTM", "GRU", "RNN"])
def test_a_layer_with_the_batch_first_is_the_same_layer(operator, tmp_path):
    """onnxruntime does not have it: the reference runs it as a layer with the time first."""
    options = {"direction": "bidirectional", "state": "hc", "lengths": np.array([5, 2], "int32")}
    usual, other = recurrent(operator, **options), recurrent(operator, layout=1, **options)
    swapped = list(other.inputs)
    for place in (0, 5, 6)[: 3 if operator == "LSTM" else 2]:
        swapped[place] = np.ascontiguousarray(usual.inputs[place].swapaxes(0, 1))
    other = Form(operator, tuple(swapped), other.attributes, other.opset, other.outputs)
    want = reference(usual, tmp_path / "usual.onnx")
    onnx.save(_typed(other, [each.dtype for each in want]), tmp_path / "other.onnx")
    got = run_compiled(tmp_path / "other.onnx", other.feeds(), tmp_path)
    again = run_onnx(tmp_path / "other.onnx", other.feeds())
    axes = [(2, 0, 1, 3), (1, 0, 2), (1, 0, 2)]
    for theirs, ours, rewritten, order in zip(want, got, again, axes, strict=False):
        np.testing.assert_allclose(ours, theirs.transpose(order), atol=1e-6)
        np.testing.assert_array_equal(rewritten, theirs.transpose(order))


def _typed(form, dtypes):
    model = form.model()
    for output, dtype in zip(model.graph.output, dtypes, strict=True):
        output.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(dtype)
    return model


class Stacked(torch.nn.Module):
    """Several layers in both directions, whose last states are outputs, too."""

    def __init__(self, kind, **options):
        super().__init__()
        self.cells = kind(6, 9, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3, **options)

    def forward(self, x):
        y, state = self.cells(x)
        return (y, *state) if isinstance(state, tuple) else (y, state)


class Cells(torch.nn.Module):
    """A loop of a cell in Python."""

    def __init__(self, kind, steps):
        super().__init__()
        self.cell, self.steps = kind(6, 9), steps

    def forward(self, x):
        state = None
        for step in range(self.steps):
            state = self.cell(x[:, step], state)
        return state[0] if isinstance(state, tuple) else state


class WithState(torch.nn.Module):
    """A layer whose state is an input and an output, as in a stream."""

    def __init__(self):
        super().__init__()
        self.cells = torch.nn.LSTM(6, 9, bias=False)

    def forward(self, x, h, c):
        y, (h, c) = self.cells(x, (h, c))
        return y, h, c


NETWORKS = {
    "LSTM": lambda: Stacked(torch.nn.LSTM),
    "GRU": lambda: Stacked(torch.nn.GRU),
    "RNN": lambda: Stacked(torch.nn.RNN, nonlinearity="relu"),
    "LSTM cells": lambda: Cells(torch.nn.LSTMCell, 4),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_torch(name, tmp_path):
    torch.manual_seed(0)
    network = NETWORKS[name]().eval()
    path = to_onnx(network, [Input(name="x", shape=(1, 4, 6))], tmp_path / "net.onnx")
    x = torch.randn(1, 4, 6)
    with torch.no_grad():
        want = network(x)
    got = run_compiled(path, {"x": x.numpy()}, tmp_path)
    for ours, theirs in zip(got, want if isinstance(want, tuple) else (want,), strict=True):
        np.testing.assert_allclose(ours, theirs.numpy(), atol=2e-6)


def test_a_state_that_is_kept_outside_goes_on(tmp_path):
    torch.manual_seed(0)
    network = WithState().eval()
    inputs = [Input(name=name, shape=(3, 1, 6) if name == "x" else (1, 1, 9)) for name in ("x", "h", "c")]
    path = to_onnx(network, inputs, tmp_path / "net.onnx")
    x, h, c = torch.randn(6, 1, 6), np.zeros((1, 1, 9), "float32"), np.zeros((1, 1, 9), "float32")
    with torch.no_grad():
        want = network(x, torch.zeros(1, 1, 9), torch.zeros(1, 1, 9))
    for number, part in enumerate(x.split(3)):
        (tmp_path / str(number)).mkdir()
        y, h, c = run_compiled(path, {"x": part.numpy(), "h": h, "c": c}, tmp_path / str(number))
        np.testing.assert_allclose(y, want[0][3 * number : 3 * number + 3].numpy(), atol=1e-6)
    np.testing.assert_allclose(c, want[2].numpy(), atol=1e-6)


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
def test_half_precision_keeps_sums_and_states_in_float32(operator, tmp_path):
    """Over 200 steps in float16, the error stays that of rounding the outputs once."""
    form = recurrent(
        operator, steps=200, batch=1, width=8, hidden=32, dtype="float16", direction="bidirectional"
    )
    wide = Form(
        operator,
        tuple(None if each is None else _as_float(each) for each in form.inputs),
        form.attributes,
        form.opset,
        form.outputs,
    )
    want = reference(wide, tmp_path / "wide.onnx")
    onnx.save(_typed(form, [np.dtype("float16")] * len(want)), tmp_path / "half.onnx")
    got = run_compiled(tmp_path / "half.onnx", form.feeds(), tmp_path)
    for ours, theirs in zip(got, want, strict=True):
        assert ours.dtype == np.float16
        np.testing.assert_allclose(ours.astype("float32"), theirs, rtol=6e-4, atol=1e-4)


def _as_float(value):
    return type(value)(value.value.astype("float32")) if hasattr(value, "value") else value.astype("float32")


@pytest.mark.parametrize("operator", ["LSTM", "GRU"])
@pytest.mark.parametrize("direction", WAYS[1:])
def test_int8_weights_are_decoded(operator, direction, tmp_path):
    form = recurrent(operator, direction=direction, hidden=16, width=8)
    model = form.model()
    graph, (node,) = model.graph, model.graph.node
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for place, name in enumerate(node.input[1:3], start=1):
        value = numpy_helper.to_array(tensors[name])
        scale = np.abs(value).max(axis=2) / 127  # one for each row
        graph.initializer.remove(tensors[name])
        graph.initializer.append(
            numpy_helper.from_array(np.rint(value / scale[..., None]).astype("int8"), f"{name}_q")
        )
        graph.initializer.append(numpy_helper.from_array(scale[..., None].astype("float32"), f"{name}_s"))
        attributes = {"axis": 2, "block_size": value.shape[2]}
        graph.node.insert(
            0, helper.make_node("DequantizeLinear", [f"{name}_q", f"{name}_s"], [f"{name}_d"], **attributes)
        )
        node.input[place] = f"{name}_d"
    path = tmp_path / "int8.onnx"
    for output, shape in zip(
        graph.output, [each.shape for each in reference(form, tmp_path / "f.onnx")], strict=True
    ):
        output.CopyFrom(helper.make_tensor_value_info(output.name, 1, shape))
    onnx.save(model, path)
    want = run_onnx(path, form.feeds())
    for ours, theirs in zip(run_compiled(path, form.feeds(), tmp_path), want, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-6)


def _layer(**options):
    sigmoid, tanh = Activation(name="Sigmoid"), Activation(name="Tanh")
    usual = {"kind": "LSTM", "steps": 10, "batch": 1, "hidden": 100, "dtype": "float32"}
    directions = (LayerDirection(backward=False, activations=(sigmoid, tanh, tanh)),)
    return RecurrentLayer(**{**usual, "directions": directions, **options})


def test_code_does_not_grow_with_the_sequence_nor_with_whole_tiles():
    def size(**options):
        return len(build_kernel(_layer(**options), Vectors(8)).script().splitlines())

    assert size(steps=1000) == size(steps=10)
    assert size(hidden=1600) == size(hidden=16)
    assert size(hidden=1615) < 6 * size(hidden=16)


def test_what_has_no_blocks_is_not_tuned(tmp_path):
    form = recurrent("GRU")
    reference(form, tmp_path / "f.onnx")
    functions = [
        function
        for task in tuning_tasks(tmp_path / "f.onnx", load_target("x86-64-v3"))
        for function in task.mod.functions.values()
    ]
    assert functions
    assert all(layer_of(function) is None for function in functions)
