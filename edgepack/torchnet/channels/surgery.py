"""Remove channels from a network, or mask them."""

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from edgepack.torchnet.channels.graph import ChannelGraph
from edgepack.torchnet.layers import SIZES, shrink

if TYPE_CHECKING:
    import torch


def mask(graph: ChannelGraph, module: "torch.nn.Module", removed: AbstractSet[int]) -> None:
    """Mask the channels in ``removed`` in a copy of the analysed module, so that nothing reads them.

    In a grouped convolution the outputs of a removed input are also removed, so it is not masked.
    """
    import torch

    layers = dict(module.named_modules())
    with torch.no_grad():
        for name, numbers in graph.inputs.items():
            layer = layers[name]
            if getattr(layer, "groups", 1) == 1:
                layer.weight[:, [i for i, n in enumerate(numbers) if graph.sets.root(n) in removed]] = 0


def remove(graph: ChannelGraph, removed: AbstractSet[int]) -> None:
    """Shrink the analysed module's layers in place by removing every channel whose set is in ``removed``."""
    for name in graph.outputs:
        if name in graph.inputs:
            _shrink_producer(graph, name, removed)
        else:
            _shrink_norm(graph, name, removed)


def _keep_indices(graph: ChannelGraph, numbers: list[int], removed: AbstractSet[int]) -> list[int]:
    return [i for i, number in enumerate(numbers) if graph.sets.root(number) not in removed]


def _shrink_norm(graph: ChannelGraph, name: str, removed: AbstractSet[int]) -> None:
    layer, keep = graph.layers[name], _keep_indices(graph, graph.outputs[name], removed)
    state = {key: value for key, value in layer.state_dict().items() if value.dim() == 1}
    shrink(layer, {"num_features": len(keep)}, {key: value[keep] for key, value in state.items()})


def _shrink_producer(graph: ChannelGraph, name: str, removed: AbstractSet[int]) -> None:
    layer = graph.layers[name]
    keep_out = _keep_indices(graph, graph.outputs[name], removed)
    keep_in = _keep_indices(graph, graph.inputs[name], removed)
    in_name, out_name, *grouped = SIZES[type(layer).__name__]
    groups = layer.groups if grouped else 1
    new = {in_name: len(keep_in), out_name: len(keep_out)}
    tensors = {"weight": layer.weight.detach()[keep_out]}
    if layer.bias is not None:
        tensors["bias"] = layer.bias.detach()[keep_out]
    if groups == 1:
        tensors["weight"] = tensors["weight"][:, keep_in]
    else:  # whole groups are removed: the weight's input axis is one group wide and does not change
        new["groups"] = len(keep_in) * groups // len(graph.inputs[name])
    shrink(layer, new, tensors)
