"""What a layer of lower rank looks like: its ranks with their cost, and the layers that replace it.

A form belongs to one layer of a network. ``choices`` are the ranks that save multiply-accumulates, cheapest first, each
better than all cheaper ones.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import nn

from edgepack.torchnet.lowrank.factors import Cp, Svd, Tucker2, restore, root_of, whiten

Kind = Literal["svd", "tucker", "cp"]
_CP_GRID = (0.06, 0.12, 0.25, 0.4, 0.6, 0.8)  # of the largest rank that saves: each is decomposed on its own


@dataclass(frozen=True)
class Choice:
    """Ranks for a layer: one for ``svd`` and ``cp``, outputs and inputs for ``tucker``."""

    ranks: tuple[int, ...]
    macs: int
    energy: float  # share of the weights' energy that is kept; of the outputs' with statistics of the inputs


@dataclass
class RankUse:
    """How a network uses a layer, over all calls in one inference.

    Attributes:
        read: positions that the layer reads: elements of its input without the channels.
        written: the same of its output.
        steps: for a convolution with one kernel axis after another: positions after each axis.
        moments: second moments of the input channels, ``[ci, ci]``, float64; None without samples.
    """

    read: int = 0
    written: int = 0
    steps: list[int] = field(default_factory=list)
    moments: torch.Tensor | None = None


class RankForm(ABC):
    """The weight ``[co, ci, *kernel]`` of one layer in one form."""

    kind: Kind

    def __init__(self, weight: torch.Tensor, use: RankUse) -> None:
        self.shape = tuple(weight.shape)
        self._weight = weight.detach().double()
        self._use = use
        self._root = None if use.moments is None else root_of(use.moments)
        self._taps = math.prod(self.shape[2:])

    @property
    def whole(self) -> int:
        """Multiply-accumulates of the layer as it is."""
        return int(self._use.written * math.prod(self.shape))

    @property
    @abstractmethod
    def full(self) -> tuple[int, ...]:
        """The ranks that lose nothing."""

    @abstractmethod
    def choices(self) -> list[Choice]:
        """All ranks worth choosing."""

    @abstractmethod
    def at(self, rank: int) -> Choice:
        """Return the choice with this rank, or the full one if that is smaller."""

    @abstractmethod
    def factors(self, ranks: Sequence[int]) -> list[torch.Tensor]:
        """Return the weights of the layers of :func:`build`, in their order, float64."""

    def _matrix(self) -> torch.Tensor:
        return whiten(self._weight.reshape(*self.shape[:2], -1), self._root)


class SvdForm(RankForm):
    """A narrow layer with the kernel, then one with a kernel of 1."""

    kind = "svd"

    def __init__(self, weight: torch.Tensor, use: RankUse) -> None:
        super().__init__(weight, use)
        self._svd = Svd.of(self._matrix())
        self._kept = self._svd.kept().tolist()

    @property
    def full(self) -> tuple[int, ...]:
        """The ranks that lose nothing."""
        return (len(self._kept),)

    def choices(self) -> list[Choice]:
        """All ranks worth choosing."""
        every = (self.at(rank) for rank in range(1, len(self._kept) + 1))
        return [choice for choice in every if choice.macs < self.whole]

    def at(self, rank: int) -> Choice:
        """Return the choice with this rank, or the full one."""
        rank = min(rank, len(self._kept))
        co, ci = self.shape[:2]
        macs = self._use.written * rank * (ci * self._taps + co)
        return Choice((rank,), macs, self._kept[rank - 1])

    def factors(self, ranks: Sequence[int]) -> list[torch.Tensor]:
        """Return ``[rank, ci, *kernel]`` and ``[co, rank]``, the latter with kernel axes of 1."""
        first, second = self._svd.factors(ranks[0])
        narrow = restore(first, self._root).reshape(-1, *self.shape[1:])
        return [narrow, second.reshape(*second.shape, *(1 for _ in self.shape[2:]))]


class TuckerForm(RankForm):
    """A kernel of 1 to fewer channels, the kernel between fewer channels, a kernel of 1 to all channels."""

    kind = "tucker"

    def __init__(self, weight: torch.Tensor, use: RankUse) -> None:
        super().__init__(weight, use)
        self._tucker = Tucker2.of(self._matrix())
        self._kept = self._tucker.kept()

    @property
    def full(self) -> tuple[int, ...]:
        """The ranks that lose nothing."""
        return self.shape[:2]

    def choices(self) -> list[Choice]:
        """All ranks worth choosing."""
        co, ci = self.shape[:2]
        outputs, inputs = torch.arange(1, co + 1)[:, None], torch.arange(1, ci + 1)[None]
        macs = self._cost(outputs, inputs)
        cheap = (macs < self.whole).nonzero()
        cost = macs[cheap[:, 0], cheap[:, 1]]
        energy = self._kept[cheap[:, 0], cheap[:, 1]]
        found: list[Choice] = []
        for index in cost.argsort(stable=True).tolist():
            kept = float(energy[index])
            if not found or kept > found[-1].energy:
                s, r = cheap[index].tolist()
                found.append(Choice((s + 1, r + 1), int(cost[index]), kept))
        return found

    def at(self, rank: int) -> Choice:
        """Return the choice with this rank of outputs and of inputs, or the full ones."""
        s, r = (min(rank, size) for size in self.shape[:2])
        return Choice((s, r), int(self._cost(s, r)), float(self._kept[s - 1, r - 1]))

    def _cost(self, outputs: Any, inputs: Any) -> Any:
        co, ci = self.shape[:2]
        inner = outputs * inputs * self._taps + outputs * co
        return self._use.read * ci * inputs + self._use.written * inner

    def factors(self, ranks: Sequence[int]) -> list[torch.Tensor]:
        """Return ``[r, ci]``, ``[s, r, *kernel]`` and ``[co, s]``, the outer ones with kernel axes of 1."""
        ones = tuple(1 for _ in self.shape[2:])
        first, core, last = self._tucker.factors(*ranks)
        first = restore(first[:, :, None], self._root)
        return [
            first.reshape(*first.shape[:2], *ones),
            core.reshape(*core.shape[:2], *self.shape[2:]),
            last.reshape(*last.shape, *ones),
        ]


class CpForm(RankForm):
    """A kernel of 1, a depthwise kernel along each axis, and a kernel of 1. Statistics of the inputs are not used."""

    kind = "cp"

    def __init__(self, weight: torch.Tensor, use: RankUse) -> None:
        super().__init__(weight, use)
        self._found: dict[int, Cp] = {}

    @property
    def full(self) -> tuple[int, ...]:
        """The rank up to which a decomposition may gain."""
        return (math.prod(sorted(self.shape)[:-1]),)

    def choices(self) -> list[Choice]:
        """All ranks worth choosing."""
        largest = min((self.whole - 1) // self._per_rank(), self.full[0])
        found: list[Choice] = []
        for rank in sorted({round(largest * share) for share in _CP_GRID} - {0}):
            choice = self.at(rank)
            if not found or choice.energy > found[-1].energy:
                found.append(choice)
        return found

    def at(self, rank: int) -> Choice:
        """Return the choice with this rank."""
        rank = min(rank, self.full[0])
        return Choice((rank,), rank * self._per_rank(), self._at(rank).kept)

    def factors(self, ranks: Sequence[int]) -> list[torch.Tensor]:
        """Return ``[r, ci]``, ``[r, 1, k]`` for each axis and ``[co, r]``, with kernel axes of 1 elsewhere."""
        last, first, *kernels = self._at(ranks[0]).factors
        axes = len(kernels)
        ones = tuple(1 for _ in range(axes))
        along = [
            kernel.T.reshape(ranks[0], 1, *(len(kernel) if axis == number else 1 for axis in range(axes)))
            for number, kernel in enumerate(kernels)
        ]
        return [first.T.reshape(*first.T.shape, *ones), *along, last.reshape(*last.shape, *ones)]

    def _at(self, rank: int) -> Cp:
        if rank not in self._found:
            self._found[rank] = Cp.of(self._weight, rank)
        return self._found[rank]

    def _per_rank(self) -> int:
        co, ci, *kernel = self.shape
        middle = sum(taps * positions for taps, positions in zip(kernel, self._use.steps, strict=True))
        return int(self._use.read * ci + middle + self._use.written * co)


FORMS: dict[Kind, type[RankForm]] = {"svd": SvdForm, "tucker": TuckerForm, "cp": CpForm}


def build(layer: Any, kind: Kind, ranks: Sequence[int]) -> nn.Sequential:
    """Return new layers of the form ``kind`` in place of a linear layer or a convolution, in eval mode."""
    bias = layer.bias is not None
    if isinstance(layer, nn.Linear):
        layers = [
            nn.Linear(layer.in_features, ranks[0], bias=False),
            nn.Linear(ranks[0], layer.out_features, bias),
        ]
        return nn.Sequential(*layers).to(layer.weight.dtype).eval()
    convolution = type(layer)
    window = {"stride": layer.stride, "padding": layer.padding, "dilation": layer.dilation}
    window |= {"padding_mode": layer.padding_mode}
    ci, co, kernel = layer.in_channels, layer.out_channels, layer.kernel_size
    if kind == "svd":
        layers = [
            convolution(ci, ranks[0], kernel, bias=False, **window),
            convolution(ranks[0], co, 1, bias=bias),
        ]
    elif kind == "tucker":
        outputs, inputs = ranks
        layers = [
            convolution(ci, inputs, 1, bias=False),
            convolution(inputs, outputs, kernel, bias=False, **window),
            convolution(outputs, co, 1, bias=bias),
        ]
    else:
        (rank,) = ranks
        along = [
            convolution(rank, rank, groups=rank, bias=False, **_along(layer, axis))
            for axis in range(len(kernel))
        ]
        layers = [convolution(ci, rank, 1, bias=False), *along, convolution(rank, co, 1, bias=bias)]
    return nn.Sequential(*layers).to(layer.weight.dtype).eval()


def _along(layer: Any, axis: int) -> dict[str, Any]:
    """The window of a convolution along one axis alone."""

    def only(values: Any, otherwise: int) -> Any:
        return (
            values
            if isinstance(values, str)
            else tuple(value if number == axis else otherwise for number, value in enumerate(values))
        )

    return {
        "kernel_size": only(layer.kernel_size, 1),
        "stride": only(layer.stride, 1),
        "padding": only(layer.padding, 0),
        "dilation": only(layer.dilation, 1),
        "padding_mode": layer.padding_mode,
    }


def fill(layers: nn.Sequential, factors: Sequence[torch.Tensor], bias: torch.Tensor | None) -> None:
    """Set the weights of the layers of :func:`build`, and the bias of the last."""
    with torch.no_grad():
        for layer, factor in zip(layers, factors, strict=True):
            layer.weight.copy_(factor.reshape(layer.weight.shape))
        if bias is not None:
            layers[-1].bias.copy_(bias)
