"""Importance of the channels of a torch network: one score per set of channels.

A channel's importance is the norm of its filter (L1: Li et al. 2017, arXiv:1608.08710; L2: He et al. 2018,
arXiv:1808.06866), the scale of its batch normalisation (Liu et al. 2017, arXiv:1708.06519), the squared change of the loss
that its removal causes to first order (Taylor: Molchanov et al. 2019, arXiv:1906.10771), the mean magnitude of its values
where they are read (after Molchanov et al. 2017, arXiv:1611.06440), or random, to compare the others with.
"""

import copy
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgepack.compression.method import Context
from edgepack.compression.ranking import Criterion, LayerScores, average_by_set
from edgepack.spec import Train
from edgepack.torchnet.channels import ChannelGraph

if TYPE_CHECKING:
    import torch


def layer_scores(graph: ChannelGraph, criterion: Criterion, context: Context, seed: int) -> LayerScores:
    """Return one score per output channel of each layer that the criterion applies to.

    Raises:
        InputError: ``taylor`` or ``activation`` without samples.
    """
    if criterion == "taylor":
        return _taylor(graph, context, Train(epochs=1, seed=seed))
    if criterion == "bn":
        norms = {name: graph.layers[name].weight for name in graph.outputs if name not in graph.inputs}
        return {name: weight.detach().abs().tolist() for name, weight in norms.items() if weight is not None}
    power = 1 if criterion == "l1" else 2
    return {name: _filters(graph, name).norm(p=power, dim=1).tolist() for name in graph.inputs}


def _filters(graph: ChannelGraph, name: str, weight: "torch.Tensor | None" = None) -> "torch.Tensor":
    """The layer's weight (or another tensor of its shape) with one row per output channel."""
    from edgepack.torchnet.channels.surgery import input_axis

    layer = graph.layers[name]
    tensor: torch.Tensor = layer.weight.detach() if weight is None else weight
    if input_axis(layer) == 1:
        return tensor.flatten(1)
    # [ci, co/groups, *kernel]: the outputs of each group in turn.
    groups = layer.groups
    split = tensor.unflatten(0, (groups, tensor.shape[0] // groups))
    return split.transpose(1, 2).flatten(0, 1).flatten(1)


def _taylor(graph: ChannelGraph, context: Context, spec: Train) -> LayerScores:
    """Run one epoch without updating anything, and sum ``(sum of gradient * weight)**2`` of each filter over batches."""
    import torch

    module = copy.deepcopy(graph.module)
    layers = dict(module.named_modules())
    totals: dict[str, torch.Tensor] = {}

    class Observer(torch.optim.SGD):  # type: ignore[misc] # torch is untyped here (pyproject.toml)
        """Adds up the scores in place of an update."""

        def step(self, closure: Any = None) -> None:
            del closure
            for name in graph.inputs:
                layer = layers[name]
                if layer.weight.grad is None:
                    continue
                change = _filters(graph, name, layer.weight.detach() * layer.weight.grad).sum(1)
                if layer.bias is not None and layer.bias.grad is not None:
                    change = change + layer.bias.detach() * layer.bias.grad
                totals[name] = totals.get(name, torch.zeros_like(change)) + change.square()

    from edgepack.torchnet.objective import Objective

    observe = Objective(optimizer=lambda trained, train: Observer(trained.parameters(), lr=train.lr))
    replace(context, trainings=None).train(module, spec, observe)  # no weight changes
    return {name: total.tolist() for name, total in totals.items()}


def activations(graph: ChannelGraph, batches: "Sequence[tuple[torch.Tensor, ...]]") -> dict[int, float]:
    """Return, by set, the mean magnitude of its channels in the inputs of the layers that read them.

    Each layer's magnitudes are divided by their mean.
    """
    import torch

    from edgepack.torchnet.layers import inference

    sums: dict[str, torch.Tensor] = {}
    counts: dict[str, int] = defaultdict(int)

    def hook(name: str) -> Any:
        layer = graph.layers[name]
        from_end = 1 if isinstance(layer, torch.nn.Linear) else len(layer.kernel_size) + 1

        def add(_layer: Any, given: Any, _output: Any) -> None:
            values = given[0].detach().movedim(-from_end, 0).flatten(1).abs()
            sums[name] = sums.get(name, torch.zeros(len(values))) + values.sum(1)
            counts[name] += values.shape[1]

        return add

    handles = [graph.layers[name].register_forward_hook(hook(name)) for name in graph.inputs]
    try:
        with inference(graph.module):
            for batch in batches:
                graph.module(*batch)
    finally:
        for handle in handles:
            handle.remove()
    return average_by_set(graph, {name: (sums[name] / counts[name]).tolist() for name in sums})
