"""Which layer writes and reads each channel: what the analyses of torch networks and of ONNX graphs have in common.

Every output channel of every convolution and linear layer has a number. Numbers that must be kept or removed together
are tied (:class:`~edgepack.torchnet.channels.sets.ChannelSets`); those that must be kept are locked, with a reason.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from edgepack.torchnet.channels.sets import ChannelSets


@dataclass(frozen=True)
class ChannelGroup:
    """Interchangeable sets of channels: each removes the same number of channels from the same layers."""

    members: tuple[int, ...]  # the representative number of each set
    multiplicity: dict[str, int]  # layer -> channels per member


@dataclass(frozen=True)
class Volume:
    """An amount (of elements, or multiply-accumulates) that is proportional to the channels kept along some axes.

    Attributes:
        amount: the amount with all channels.
        axes: the number of each channel, by axis.
    """

    amount: int
    axes: tuple[Sequence[int], ...]


class ChannelTable:
    """Channel numbers of a model's layers.

    Attributes:
        sets: which numbers must be kept or removed together.
        outputs: layer -> number of each output channel; of layers with weights and normalisations.
        inputs: layer -> number of each input channel; only of layers with weights.
    """

    def __init__(self) -> None:
        self.sets = ChannelSets()
        self.outputs: dict[str, list[int]] = {}
        self.inputs: dict[str, list[int]] = {}

    @property
    def producers(self) -> list[str]:
        """Layers with weights, in graph order."""
        return list(self.inputs)

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

    def tie(self, some: Iterable[int], others: Iterable[int]) -> None:
        """Keep or remove each pair of numbers together."""
        for a, b in zip(some, others, strict=True):
            self.sets.tie(a, b)

    def tie_groups(self, incoming: Sequence[int], outgoing: Sequence[int], groups: int) -> None:
        """Keep or remove whole groups of a grouped convolution, with their inputs and outputs."""
        reads, writes = len(incoming) // groups, len(outgoing) // groups
        for g in range(groups):
            block = [*incoming[g * reads : (g + 1) * reads], *outgoing[g * writes : (g + 1) * writes]]
            self.tie([block[0]] * (len(block) - 1), block[1:])

    def kept(self, numbers: Sequence[int], removed: AbstractSet[int]) -> list[int]:
        """Return the positions along an axis whose sets are not in ``removed``."""
        return [i for i, number in enumerate(numbers) if self.sets.root(number) not in removed]

    def amount(self, volumes: Iterable[Volume], removed: AbstractSet[int]) -> float:
        """Return the sum of ``volumes`` without the channels in ``removed``."""
        total = 0.0
        for volume in volumes:
            amount = float(volume.amount)
            for axis in volume.axes:
                amount *= len(self.kept(axis, removed)) / max(1, len(axis))
            total += amount
        return total
