"""The channel graph of a torch network: which layer writes and reads each channel, and which are removed together.

The traced graph is run in order, and each tensor carries the numbers along its channel axis: a convolution creates new
ones, a concatenation joins lists, a flatten repeats each number, and an addition ties two numbers together
(union-find), as do depthwise and grouped convolutions. Channels that pass through an unsupported operation are never
guessed but locked, with a reason. Grouping dependent channels follows DepGraph (Fang et al. 2023, arXiv:2301.12900).
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgepack.torchnet.channels.table import ChannelTable, Volume
from edgepack.torchnet.layers import sizes

if TYPE_CHECKING:
    import torch


class ChannelGraph(ChannelTable):
    """Channel numbers of a module's layers.

    Attributes:
        module: the analysed module.
        layers: its layers by name.
    """

    def __init__(self, module: "torch.nn.Module") -> None:
        super().__init__()
        self.module = module
        self.layers = dict(module.named_modules())

    def width(self, name: str) -> int:
        """Current number of output channels of a producer."""
        return list(sizes(self.layers[name]).values())[1]

    def axes(self, name: str) -> tuple[list[int], ...]:
        """The numbers along the axes of a producer's weights: outputs and inputs, or outputs alone if it is grouped."""
        grouped = getattr(self.layers[name], "groups", 1) > 1
        return (self.outputs[name],) if grouped else (self.outputs[name], self.inputs[name])

    def elements(self) -> list[Volume]:
        """The elements of all parameters and buffers."""
        volumes, seen = [], set()
        for name, layer in self.layers.items():
            for key, tensor in layer.state_dict(keep_vars=True).items():
                if "." in key or id(tensor) in seen:  # of an inner layer; tied
                    continue
                seen.add(id(tensor))
                axes: tuple[list[int], ...] = ()
                if name in self.inputs:
                    axes = self.axes(name) if key == "weight" else (self.outputs[name],)
                elif name in self.outputs and tensor.dim() == 1:
                    axes = (self.outputs[name],)
                volumes.append(Volume(tensor.numel(), axes))
        return volumes

    def macs(self, by_layer: Mapping[str, int]) -> list[Volume]:
        """The multiply-accumulates of all layers, given those with all channels."""
        return [
            Volume(macs, self.axes(name) if name in self.inputs else ()) for name, macs in by_layer.items()
        ]
