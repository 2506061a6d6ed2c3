"""The channels of a network as a graph: which layer writes and reads which, and which must be removed together.

Every output channel of every convolution and linear layer is a number. Walking the traced graph in order, each
tensor carries the numbers along its channel axis: a convolution starts new ones, a concatenation joins
lists, a flatten repeats each number, and an addition says that two numbers are one (union-find), as do
depthwise and grouped convolutions. What the walk does not know keeps its channels whole: it is locked,
with a reason, never guessed. The idea of grouping dependent channels is that of DepGraph (Fang et al. 2023,
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
    """Sets of channels that are interchangeable: each removes as many channels from the same layers."""

    members: tuple[int, ...]  # the number that stands for each set
    multiplicity: dict[str, int]  # layer -> channels that one member removes from it


class ChannelGraph:
    """The channel numbers of a module's layers.

    Attributes:
        module: the analysed module.
        layers: its layers by name.
        sets: which numbers stay or go together.
        outputs: layer -> number of each output channel; convolutions, linear layers and normalisations.
        inputs: layer -> number of each input channel; convolutions and linear layers alone.
    """

    def __init__(self, module: "torch.nn.Module") -> None:
        self.module = module
        self.layers = dict(module.named_modules())
        self.sets = ChannelSets()
        self.outputs: dict[str, list[int]] = {}
        self.inputs: dict[str, list[int]] = {}

    @property
    def producers(self) -> list[str]:
        """The convolutions and linear layers, in the order of the graph."""
        return list(self.inputs)

    def width(self, name: str) -> int:
        """Output channels of a producer now."""
        layer = self.layers[name]
        return int(getattr(layer, SIZES[type(layer).__name__][1]))

    def reasons(self) -> dict[str, str]:
        """Why a producer with no removable channel keeps them all."""
        found = {}
        for name in self.producers:
            reasons = [self.sets.reason(number) for number in self.outputs[name]]
            if reasons and reasons[0] is not None and None not in reasons:
                found[name] = reasons[0]
        return found

    def groups(self) -> list[ChannelGroup]:
        """All removable sets, grouped by what they remove from which layers; in the order of the graph."""
        multiplicity: dict[int, Counter[str]] = defaultdict(Counter)
        for name in self.producers:
            for number in self.outputs[name]:
                if self.sets.reason(number) is None:
                    multiplicity[self.sets.root(number)][name] += 1
        grouped: dict[tuple[tuple[str, int], ...], list[int]] = defaultdict(list)
        for root in sorted(multiplicity):
            grouped[tuple(sorted(multiplicity[root].items()))].append(root)
        return [ChannelGroup(tuple(members), dict(key)) for key, members in grouped.items()]
