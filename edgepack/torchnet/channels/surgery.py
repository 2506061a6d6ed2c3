"""Remove channels from a network, or mask them."""

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from edgepack.torchnet.channels.graph import ChannelGraph
from edgepack.torchnet.layers import shrink, sizes

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
                gone = [i for i, number in enumerate(numbers) if graph.sets.root(number) in removed]
                layer.weight.movedim(input_axis(layer), 0)[gone] = 0


def remove(graph: ChannelGraph, removed: AbstractSet[int]) -> None:
    """Shrink the analysed module's layers in place by removing every channel whose set is in ``removed``."""
    for name in graph.outputs:
        if name in graph.inputs:
            _shrink_producer(graph, name, removed)
        else:
            _shrink_norm(graph, name, removed)


def input_axis(layer: "torch.nn.Module") -> int:
    """The axis of a layer's weight along which its input channels are; outputs are along the other of the first two."""
    return 0 if getattr(layer, "transposed", False) else 1


def _shrink_norm(graph: ChannelGraph, name: str, removed: AbstractSet[int]) -> None:
    layer, keep = graph.layers[name], graph.kept(graph.outputs[name], removed)
    state = {key: value for key, value in layer.state_dict().items() if value.dim() == 1}
    shrink(layer, {"num_features": len(keep)}, {key: value[keep] for key, value in state.items()})


def _shrink_producer(graph: ChannelGraph, name: str, removed: AbstractSet[int]) -> None:
    layer = graph.layers[name]
    keep_out = graph.kept(graph.outputs[name], removed)
    keep_in = graph.kept(graph.inputs[name], removed)
    in_name, out_name, *grouped = sizes(layer)
    groups = layer.groups if grouped else 1
    new = {in_name: len(keep_in), out_name: len(keep_out)}
    across = input_axis(layer)
    weight = layer.weight.detach()
    if groups == 1:
        weight = _take(_take(weight, 1 - across, keep_out), across, keep_in)
    else:  # whole groups are removed: the weight's other axis is one group wide and does not change
        new["groups"] = len(keep_in) * groups // len(graph.inputs[name])
        weight = weight[keep_in if across == 0 else keep_out]
    tensors = {"weight": weight}
    if layer.bias is not None:
        tensors["bias"] = layer.bias.detach()[keep_out]
    shrink(layer, new, tensors)


def _take(tensor: "torch.Tensor", axis: int, positions: list[int]) -> "torch.Tensor":
    import torch

    return tensor.index_select(axis, torch.tensor(positions, dtype=torch.int64, device=tensor.device))
