"""Nets for tests of methods that train: such as users bring, small and quick to train."""

import numpy as np
import torch
from torch import nn

from edgepack.compression import Context
from edgepack.data import Splits
from edgepack.spec import Input


class Perceptron(nn.Module):
    """Linear layers with batch normalisation between, and without bias."""

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(16, 32, bias=False),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Linear(32, 32),
            nn.BatchNorm1d(32),
            nn.ReLU(),
            nn.Linear(32, 4),
        )

    def forward(self, x):
        return self.net(x)


class Odd(nn.Module):
    """A grouped convolution, a layer used twice, a grouped transposed one, a functional call, an LSTM, a tiny layer."""

    def __init__(self):
        super().__init__()
        self.grouped = nn.Conv1d(3, 12, 3, padding=1, groups=3)
        self.twice = nn.Conv1d(12, 12, 3, padding=1)
        self.up = nn.ConvTranspose1d(12, 12, 4, stride=2, groups=2, padding=1)
        self.norm = nn.BatchNorm1d(12)
        self.functional = nn.Linear(12, 4)
        self.lstm = nn.LSTM(12, 8, batch_first=True)
        self.tiny = nn.Linear(1, 4)

    def forward(self, x):
        x = torch.relu(self.twice(torch.relu(self.twice(torch.relu(self.grouped(x))))))
        x = self.norm(self.up(x))
        y, _ = self.lstm(x.transpose(1, 2))
        return nn.functional.linear(x.mean(2), self.functional.weight) + self.tiny(y.mean((1, 2))[:, None])


class Attention(nn.Module):
    """Token ids through a transformer; the embedding's weight is also that of a linear layer."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(40, 16)
        self.encoder = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 24, 0.0, batch_first=True), 1)
        self.tied = nn.Linear(16, 40, bias=False)
        self.tied.weight = self.embedding.weight
        self.out = nn.Linear(40, 4)

    def forward(self, x):
        return self.out(self.tied(self.encoder(self.embedding(x))).mean(1))


SHAPES = {Perceptron: (16,), Odd: (3, 8), Attention: (7,)}


def case(kind, seed=0, samples=64):
    """A module with random batch normalisation, its samples, and the context of a step on it."""
    torch.manual_seed(seed)
    module = kind().eval()
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.normal_(layer.weight)  # of both signs
            nn.init.normal_(layer.bias)
            layer.running_mean.normal_()
            layer.running_var.uniform_(0.5, 2)
    rng, shape = np.random.default_rng(seed), SHAPES[kind]
    tokens = kind is Attention
    x = (
        rng.integers(0, 40, (samples, *shape))
        if tokens
        else rng.standard_normal((samples, *shape)).astype("float32")
    )
    y = np.arange(samples) % 4
    inputs = (Input(name="x", shape=(1, *shape), dtype="int64" if tokens else "float32"),)
    return module, x, Context(inputs, Splits(x, y, x[:16], y[:16]))


def restored(module, result, method, path):
    """The module of a step's result, saved, and restored from a new one of the same class."""
    from edgepack.torchnet.checkpoint import Change, Structure, restore, save

    save(result.module, path, [Change(method.name, result.change, Structure.of(module))])
    return restore(type(module)(), path, {method.name: method.rebuild}).module
