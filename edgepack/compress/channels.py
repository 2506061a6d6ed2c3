"""Which channels of a network must be removed together: a dependency analysis of its traced graph.

Every output channel of every convolution and linear layer is a number. Walking the graph in order, each
tensor carries the numbers along its channel axis: a convolution starts new ones, a concatenation joins
lists, a flatten repeats each number, and an addition says that two numbers are one (union-find), as do
depthwise and grouped convolutions. What the walk does not know keeps its channels whole: it is locked,
with a reason, never guessed.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.errors import InputError
from edgepack.torchnet.layers import SIZES, shrink

if TYPE_CHECKING:
    import torch

INPUT = "its channels are the model's input"
OUTPUT = "its channels are the model's output"


@dataclass(frozen=True)
class Cell:
    """Sets of channels that are interchangeable: each removes as many channels from the same layers."""

    members: tuple[int, ...]  # the number that stands for each set
    multiplicity: dict[str, int]  # layer -> channels that one member removes from it


class Channels:
    """The channel numbers of a module: what reads and writes them, and what must go together."""

    def __init__(self, module: "torch.nn.Module") -> None:
        self.module = module
        self.layers = dict(module.named_modules())
        self.outputs: dict[str, list[int]] = {}  # layer -> number of each output channel (producers, norms)
        self.inputs: dict[str, list[int]] = {}  # layer -> number of each input channel (producers)
        self._parent: list[int] = []
        self._locked: dict[int, str] = {}  # root -> reason

    @property
    def producers(self) -> list[str]:
        """The convolutions and linear layers, in the order of the graph."""
        return list(self.inputs)

    def fresh(self, count: int) -> list[int]:
        """New numbers, each alone in its set."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return list(range(first, first + count))

    def root(self, number: int) -> int:
        """The number that stands for the set of ``number``."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def tie(self, a: int, b: int) -> None:
        """``a`` and ``b`` stay or go together."""
        low, high = sorted((self.root(a), self.root(b)))
        if low != high:
            self._parent[high] = low
            if high in self._locked:
                self._locked.setdefault(low, self._locked.pop(high))

    def lock(self, numbers: list[int], reason: str) -> None:
        """``numbers`` stay."""
        for number in numbers:
            self._locked.setdefault(self.root(number), reason)

    def width(self, name: str) -> int:
        """Output channels of a producer now."""
        layer = self.layers[name]
        return int(getattr(layer, SIZES[type(layer).__name__][1]))

    def reasons(self) -> dict[str, str]:
        """Why a producer with no removable channel keeps them all."""
        found = {}
        for name in self.producers:
            roots = [self.root(number) for number in self.outputs[name]]
            if all(root in self._locked for root in roots):
                found[name] = self._locked[roots[0]]
        return found

    def cells(self) -> list[Cell]:
        """All removable sets, grouped by what they remove from which layers; in the order of the graph."""
        multiplicity: dict[int, Counter[str]] = defaultdict(Counter)
        for name in self.producers:
            for number in self.outputs[name]:
                if self.root(number) not in self._locked:
                    multiplicity[self.root(number)][name] += 1
        grouped: dict[tuple[tuple[str, int], ...], list[int]] = defaultdict(list)
        for root in sorted(multiplicity):
            grouped[tuple(sorted(multiplicity[root].items()))].append(root)
        return [Cell(tuple(members), dict(key)) for key, members in grouped.items()]

    def importance(self, cell: Cell, criterion: str) -> list[float]:
        """One score a member: each layer's scores divided by their mean in the cell, summed over layers.

        Raises:
            InputError: for criterion ``bn`` where no batch normalisation scales the cell's channels.
        """
        position = {root: i for i, root in enumerate(cell.members)}
        scores = [0.0] * len(cell.members)
        found = False
        for name, numbers in self.outputs.items():
            values = self._scores(name, criterion)
            mine = [
                (position[r], v)
                for r, v in zip(map(self.root, numbers), values, strict=False)
                if r in position
            ]
            if not mine:
                continue
            found = True
            mean = sum(value for _, value in mine) / len(mine)
            for i, value in mine:
                scores[i] += value / mean if mean > 0 else 0.0
        if not found:
            raise InputError(
                f"criterion bn: no batch normalisation scales the channels of {', '.join(cell.multiplicity)}",
                where="compress, prune-channels, criterion",
                next="use criterion l1 or l2, or skip these layers",
            )
        return scores

    def _scores(self, name: str, criterion: str) -> list[float]:
        """One value an output channel of the layer; none where the criterion does not look at it."""
        layer = self.layers[name]
        is_norm = name not in self.inputs
        if is_norm != (criterion == "bn") or layer.weight is None:
            return []
        weight = layer.weight.detach().flatten(1) if not is_norm else layer.weight.detach()[:, None]
        return [float(value) for value in weight.norm(p=2 if criterion == "l2" else 1, dim=1)]

    def mask(self, module: "torch.nn.Module", removed: set[int]) -> None:
        """In a copy of the analysed module: nothing reads the channels in ``removed`` any more."""
        import torch

        layers = dict(module.named_modules())
        with torch.no_grad():
            for name, numbers in self.inputs.items():
                layer = layers[name]
                gone = [i for i, number in enumerate(numbers) if self.root(number) in removed]
                if getattr(layer, "groups", 1) == 1:
                    layer.weight[:, gone] = 0
                # In a grouped convolution a removed input's outputs are removed with it: nothing to mask.

    def remove(self, removed: set[int]) -> None:
        """Shrink the module's layers in place: every channel whose set is in ``removed`` goes."""
        for name, numbers in self.outputs.items():
            layer = self.layers[name]
            keep_out = [i for i, number in enumerate(numbers) if self.root(number) not in removed]
            if name not in self.inputs:
                state = {key: value for key, value in layer.state_dict().items() if value.dim() == 1}
                shrink(
                    layer,
                    {"num_features": len(keep_out)},
                    {key: value[keep_out] for key, value in state.items()},
                )
                continue
            keep_in = [i for i, number in enumerate(self.inputs[name]) if self.root(number) not in removed]
            in_name, out_name, *grouped = SIZES[type(layer).__name__]
            groups = layer.groups if grouped else 1
            new = {in_name: len(keep_in), out_name: len(keep_out)}
            tensors = {"weight": layer.weight.detach()[keep_out]}
            if layer.bias is not None:
                tensors["bias"] = layer.bias.detach()[keep_out]
            if groups == 1:
                tensors["weight"] = tensors["weight"][:, keep_in]
            else:  # whole groups go: the weight's input axis is one group wide and stays
                new["groups"] = len(keep_in) * groups // len(self.inputs[name])
            shrink(layer, new, tensors)


def analyse(module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]") -> Channels:
    """Trace ``module`` (in eval mode) on ``examples`` and find its channels.

    Raises:
        InputError: if ``forward`` cannot be traced (control flow on values), naming the line.
    """
    import torch.fx

    from edgepack.compress.propagation import Walk
    from edgepack.data.user_code import spot

    try:
        graph = torch.fx.Tracer().trace(module)
        traced = torch.fx.GraphModule(module, graph)
    except Exception as error:  # tracing runs the user's forward() on proxies: anything can come out
        raise InputError(
            f"{type(module).__name__} cannot be traced, so its channels are not known",
            where=spot(error),
            why=f"{type(error).__name__}: {error}".strip().partition("\n")[0].partition(". ")[0],
            next="keep forward() free of branches and loops on tensor values, or drop prune-channels",
        ) from error
    channels = Channels(module)
    with torch.no_grad():
        Walk(traced, channels, _shared_parameters(module)).run(*examples)
    return channels


def _shared_parameters(module: "torch.nn.Module") -> set[str]:
    """Layers whose weights other layers use too."""
    owners: dict[int, set[str]] = defaultdict(set)
    for name, layer in module.named_modules():
        for parameter in layer.parameters(recurse=False):
            owners[id(parameter)].add(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}
