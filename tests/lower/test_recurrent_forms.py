"""Recurrent layers of torch in the forms that users bring: torch's results from onnxruntime and compiled, or refused."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from test_recurrent import run_compiled
from torch import nn
from torch.nn.utils import rnn

from edgepack.errors import InputError
from edgepack.export import to_onnx
from edgepack.export.reference import run_onnx
from edgepack.spec import Input

pytestmark = pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
STEPS, BATCH, WIDTH, HIDDEN = 3, 2, 4, 6
SHAPES = {"x": (STEPS, BATCH, WIDTH), "h": (6, BATCH, HIDDEN), "c": (6, BATCH, HIDDEN)}
KINDS = {
    "LSTM": (nn.LSTM, {}),
    "projected LSTM": (nn.LSTM, {"proj_size": 5}),
    "GRU": (nn.GRU, {}),
    "RNN tanh": (nn.RNN, {}),
    "RNN relu": (nn.RNN, {"nonlinearity": "relu"}),
}
OPTIONS = list(product((1, 2), *[(False, True)] * 5))
CHOSEN = {"LSTM": 13, "projected LSTM": 38, "GRU": 27, "RNN tanh": 20, "RNN relu": 55}
"""Of each layer, the form of this number is tested always, and the one whose options are all different."""

CELLS = (nn.LSTMCell, nn.GRUCell, nn.RNNCell)


class Layer(nn.Module):
    """One layer, given the shared inputs in the layout that it takes."""

    def __init__(self, kind, form):
        super().__init__()
        cells, options = KINDS[kind]
        layers, both, first, bias, unbatched, state = form
        self.text = f"{kind}, {layers} layers, {both=}, {first=}, {bias=}, {unbatched=}, {state=}"
        self.first, self.unbatched, self.state = first, unbatched, state
        self.layer = cells(
            WIDTH,
            HIDDEN,
            layers,
            bias=bias,
            bidirectional=both,
            batch_first=first,
            dropout=0.5 if layers > 1 else 0.0,
            **options,
        )

    def forward(self, x, h, c):
        count = self.layer.num_layers * (2 if self.layer.bidirectional else 1)
        h, c = h[:count, :, : self.layer.proj_size or HIDDEN], c[:count]
        if self.unbatched:
            x, h, c = x[:, 0], h[:, 0], c[:, 0]
        elif self.first:
            x = x.transpose(0, 1)
        given = (h, c) if isinstance(self.layer, nn.LSTM) else h
        return self.layer(x, given if self.state else None)


class Loop(nn.Module):
    """A cell that is called in a loop in Python."""

    def __init__(self, cell, *, unbatched):
        super().__init__()
        self.cell, self.unbatched = cell, unbatched
        self.text = f"{cell}, {unbatched=}"

    def forward(self, x, h, c):
        state, states = (None if self.unbatched else h[0]), []
        if isinstance(self.cell, nn.LSTMCell) and state is not None:
            state = (state, state)
        for step in x[:, 0] if self.unbatched else x:
            state = self.cell(step, state)
            states.append(state[0] if isinstance(state, tuple) else state)
        return torch.stack(states), state


class All(nn.Module):
    """Many layers with the same inputs: one export and one build for all of them."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x, h, c):
        return [layer(x, h, c) for layer in self.layers]


def check(layers, folder, *, build):
    network = All(layers).eval()
    inputs = [Input(name=name, shape=shape) for name, shape in SHAPES.items()]
    values = {name: torch.randn(shape) for name, shape in SHAPES.items()}
    with torch.no_grad():
        want = [torch.utils._pytree.tree_leaves(layer(**values)) for layer in layers]
    path = to_onnx(network, inputs, folder / "net.onnx")
    feeds = {name: value.numpy() for name, value in values.items()}
    for run in (run_onnx, run_compiled) if build else (run_onnx,):
        results = iter(run(path, feeds, folder) if run is run_compiled else run(path, feeds))
        for layer, outputs in zip(layers, want, strict=True):
            for output in outputs:
                np.testing.assert_allclose(next(results), output.numpy(), atol=2e-6, err_msg=layer.text)
        assert next(results, None) is None


def test_some_forms_of_each_layer_and_cell(tmp_path):
    torch.manual_seed(0)
    layers = [Layer(kind, OPTIONS[at]) for kind, chosen in CHOSEN.items() for at in (chosen, -1 - chosen)]
    loops = [Loop(cell(WIDTH, HIDDEN), unbatched=cell is nn.GRUCell) for cell in CELLS]
    check([*layers, *loops], tmp_path, build=True)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", KINDS)
def test_all_forms_of_each_layer(kind, tmp_path):
    torch.manual_seed(0)
    for start in range(6):
        check([Layer(kind, form) for form in OPTIONS[start::6]], tmp_path, build=False)


class Packed(nn.Module):
    """Packs its sequences, whose lengths are known or an input."""

    def __init__(self, kind):
        super().__init__()
        self.encoder = nn.ModuleDict({"cells": kind(WIDTH, HIDDEN, batch_first=True)})

    def forward(self, x, lengths=None):
        lengths = torch.tensor([3, 2]) if lengths is None else lengths
        packed = rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return rnn.pad_packed_sequence(self.encoder["cells"](packed)[0], batch_first=True)[0]


@pytest.mark.parametrize("given", [False, True])
@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
def test_packed_sequences_are_refused(kind, given, tmp_path, capfd):
    inputs = [Input(name="x", shape=(2, 3, WIDTH))]
    inputs += [Input(name="lengths", shape=(2,), dtype="int64")] if given else []
    with pytest.raises(InputError) as caught:
        to_onnx(Packed(kind).eval(), inputs, tmp_path / "net.onnx")
    error = caught.value
    assert error.message == "Packed packs the sequences for `encoder.cells`"
    file, _, line = error.where.rpartition(":")
    assert file == __file__
    assert "pack_padded_sequence(" in Path(file).read_text().splitlines()[int(line) - 1]
    assert "padded sequences" in error.next
    assert not (tmp_path / "net.onnx").exists()
    assert capfd.readouterr() == ("", "")
