"""Zeros of pruned weights survive training."""

import copy

import torch

from edgepack.compression import Context
from edgepack.spec import Train
from edgepack.torchnet.losses import fitting
from edgepack.torchnet.objective import Objective
from edgepack.torchnet.sparsity import zero_masks


def test_pruned_weights_stay_zero_in_training_and_the_others_learn(teacher, data, inputs):
    module = copy.deepcopy(teacher)
    weight = module.classifier.weight
    with torch.no_grad():
        weight.view(-1)[:100] = 0
    before = weight.detach().clone()
    calls = []
    objective = Objective(loss=fitting, after_step=lambda _module, done: calls.append(done))
    Context(inputs, data).train(module, Train(epochs=1, lr=0.01), objective)
    assert calls
    assert not weight.view(-1)[:100].any()
    assert (weight.view(-1)[100:] != before.view(-1)[100:]).any()


def test_vectors_and_weights_without_zeros_or_of_zeros_only_are_not_pruned():
    module = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 2), torch.nn.Linear(2, 2))
    torch.nn.init.zeros_(module[0].bias)
    torch.nn.init.zeros_(module[1].weight)
    with torch.no_grad():
        module[2].weight[0, 0] = 0
    assert {name: int(mask.sum()) for name, mask in zero_masks(module).items()} == {"2.weight": 1}
