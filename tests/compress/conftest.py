"""A trained digits network, once for all tests of this folder."""

import copy

import pytest
import torch

from edgepack.compress.training import Train, train
from edgepack.recipe import Input
from edgepack.zoo import digits

torch.set_num_threads(1)  # small layers: threads cost more than they bring

INPUTS = (Input(name="image", shape=(1, 1, 8, 8)),)


@pytest.fixture(scope="session")
def data():
    return digits.splits()


@pytest.fixture(scope="session")
def _trained(data):
    module = digits.network()
    metrics = train(module, data, Train(epochs=6, lr=2e-3))
    return module, metrics


@pytest.fixture
def teacher(_trained):
    return copy.deepcopy(_trained[0])


@pytest.fixture
def teacher_metrics(_trained):
    return _trained[1]


@pytest.fixture
def inputs():
    return INPUTS
