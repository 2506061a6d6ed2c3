"""The channel graph of a network: which layer writes and reads each channel, and which must be removed together.

Every output channel of every convolution and linear layer has a number. The traced graph is run in order, and each
tensor carries the numbers along its channel axis: a convolution creates new ones, a concatenation joins
lists, a flatten repeats each number, and an addition ties two numbers together (union-find), as do
depthwise and grouped convolutions. Channels that pass through an unsupported operation are never guessed but locked,
with a reason. Grouping dependent channels follows DepGraph (Fang et al. 2023,
arXiv:2301.12900).
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.torchnet.channels.sets import ChannelSets
from edgepack.torchnet.layers import SIZES

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class ChannelGroup:
    """Interchangeable sets of channels: each removes the same number of channels from the same layers."""

    members: tuple[int, ...]  # the representative number of each set
    multiplicity: dict[str, int]  # layer -> channels per member


class ChannelGraph:
    """Channel numbers of a module's layers.

    Attributes:
        module: the analysed module.
        layers: its layers by name.
        sets: which numbers must be kept or removed together.
        outputs: layer -> number of each output channel; convolutions, linear layers and normalisations.
        inputs: layer -> number of each input channel; only convolutions and linear layers.
    """

    def __init__(self, module: "torch.nn.Module") -> None:
        self.module = module
        self.layers = dict(module.named_modules())
        self.sets = ChannelSets()
        self.outputs: dict[str, list[int]] = {}
        self.inputs: dict[str, list[int]] = {}

    @property
    def producers(self) -> list[str]:
        """Convolutions and linear layers, in graph order."""
        return list(self.inputs)

    def width(self, name: str) -> int:
        """Current number of output channels of a producer."""
        layer = self.layers[name]
        return int(getattr(layer, SIZES[type(layer).__name__][1]))

    def reasons(self) -> dict[str, str]:
        """Why producers without removable channels cannot be pruned, by name."""
        reasons_by_name = {}
        for name in self.producers:
            reasons = [self.sets.reason(number) for number in self.outputs[name]]
            if reasons and reasons[0] is not None and None not in reasons:
                reasons_by_name[name] = reasons[0]
        return reasons_by_name

    def groups(self) -> list[ChannelGroup]:
        """All removable sets, grouped by the layers and channels they remove, in graph order."""
        multiplicity: dict[int, Counter[str]] = defaultdict(Counter)
        for name in self.producers:
            for number in self.outputs[name]:
                if self.sets.reason(number) is None:
                    multiplicity[self.sets.root(number)][name] += 1
        grouped: dict[tuple[tuple[str, int], ...], list[int]] = defaultdict(list)
        for root in sorted(multiplicity):
            grouped[tuple(sorted(multiplicity[root].items()))].append(root)
        return [ChannelGroup(tuple(members), dict(key)) for key, members in grouped.items()]
