"""The layers of a network that can have a lower rank, and the network with some of them replaced."""

import copy
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrize

from edgepack.torchnet.layers import inference, replace_layer, sharing_layers
from edgepack.torchnet.lowrank.forms import FORMS, Choice, Kind, RankForm, RankUse, build, fill
from edgepack.torchnet.lowrank.recurrent import FactoredRecurrent, copy_weights, weight_names
from edgepack.torchnet.stored import why_computed

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_RECURRENT = (nn.LSTM, nn.GRU, nn.RNN)
RECURRENT = "recurrent"  # the form, in a record of changes, of a recurrent layer with projections


class Factorable:
    """A copy of a module, and a form for each layer that can be factored.

    Layers are named as in the module; each layer of an LSTM, GRU or RNN by its input weights: ``lstm.weight_ih_l0``.

    Attributes:
        forms: by layer; those that :meth:`measure` prepares.
        kept: by layer, why it cannot be factored.
    """

    def __init__(self, module: nn.Module, examples: Sequence[torch.Tensor], conv: Kind) -> None:
        """Find the layers that ``module`` uses when it runs on ``examples``."""
        self._module = copy.deepcopy(module).eval()
        self._conv: Kind = conv
        self._whole: dict[str, Any] = {}  # recurrent layers as they were
        self._places: dict[str, tuple[str, int]] = {}  # their layers: name of the whole, number
        self._layers: dict[
            str, Any
        ] = {}  # whose input is read: the layer itself, or the place of a projection
        self.forms: dict[str, RankForm] = {}
        self.kept: dict[str, str] = {}
        self._find()
        self._uses = self._count(examples)
        for name in [name for name in self._layers if name not in self._uses]:
            self.kept[name] = "forward() does not call it"
            del self._layers[name]

    @property
    def names(self) -> dict[str, tuple[str, ...]]:
        """The layers that can be factored, each with all its names: that of the whole recurrent layer as well."""
        return {
            name: (name, *self._places[name][:1]) if name in self._places else (name,)
            for name in self._layers
        }

    def measure(self, feeds: "Sequence[tuple[torch.Tensor, ...]]" = ()) -> None:
        """Decompose the weights; with samples, for the inputs that the layers have for these."""
        if feeds:
            self._measure_moments(feeds)
        for name, layer in self._layers.items():
            weight, kind = self._weight(name, layer)
            self.forms[name] = FORMS[kind](weight, self._uses[name])

    def replaced(self, choices: Mapping[str, Choice]) -> tuple[nn.Module, dict[str, Any]]:
        """Return a copy of the network with these layers factored, and the record from which :func:`rebuild` repeats it."""
        module = copy.deepcopy(self._module)
        change: dict[str, Any] = {}
        for name, choice in choices.items():
            if name not in self._places:
                form, old = self.forms[name], module.get_submodule(name)
                new = build(old, form.kind, choice.ranks)
                fill(new, form.factors(choice.ranks), old.bias)
                module = replace_layer(module, old, new)
                change[name] = {"form": form.kind, "ranks": list(choice.ranks)}
        for whole, original in self._whole.items():
            ranks = [0] * original.num_layers
            for name, (own, number) in self._places.items():
                if own == whole and name in choices:
                    (ranks[number],) = choices[name].ranks
            if any(ranks):
                new = FactoredRecurrent(original, ranks)
                copy_weights(original, new)
                self._fill_recurrent(new, whole, choices)
                change[whole] = {"form": RECURRENT, "ranks": ranks}
            else:
                new = copy.deepcopy(original)
            module = replace_layer(module, module.get_submodule(whole), new)
        return module.eval(), change

    def _fill_recurrent(self, new: FactoredRecurrent, whole: str, choices: Mapping[str, Choice]) -> None:
        for name, (own, number) in self._places.items():
            if own != whole or name not in choices:
                continue
            first, second = self.forms[name].factors(choices[name].ranks)
            with torch.no_grad():
                new.projections[number].weight.copy_(first)
                layer = new.layers[number]
                parts = second.chunk(2 if layer.bidirectional else 1)
                for each, part in zip(weight_names(layer, 0), parts, strict=True):
                    getattr(layer, each).copy_(part)

    def _find(self) -> None:
        shared = sharing_layers(self._module)
        for name, layer in list(self._module.named_modules()):
            if not isinstance(layer, (nn.Linear, *_CONVOLUTIONS, *_RECURRENT)):
                continue
            why = _obstacle(layer, shared=name in shared)
            if why is not None:
                self.kept[name] = why
            elif isinstance(layer, _RECURRENT):
                self._split(name, layer)
            else:
                self._layers[name] = layer

    def _split(self, name: str, layer: Any) -> None:
        """Replace a recurrent layer by its layers, so that the input of each can be read."""
        parts = FactoredRecurrent(layer, [0] * layer.num_layers)
        copy_weights(layer, parts)
        self._module = replace_layer(self._module, layer, parts.eval())
        self._whole[name] = layer
        for number in range(layer.num_layers):
            own = f"{name}.weight_ih_l{number}" if name else f"weight_ih_l{number}"
            self._places[own] = name, number
            self._layers[own] = parts.projections[number]

    def _weight(self, name: str, layer: Any) -> tuple[torch.Tensor, Kind]:
        if name in self._places:
            whole, number = self._places[name]
            original = self._whole[whole]
            return torch.cat([getattr(original, each) for each in weight_names(original, number)]), "svd"
        pointwise = isinstance(layer, nn.Linear) or math.prod(layer.kernel_size) == 1
        return layer.weight, "svd" if pointwise else self._conv

    def _channels(self, name: str, layer: Any) -> tuple[int, int]:
        """The input and output channels of a layer."""
        weight, _ = self._weight(name, layer)
        return weight.shape[1], weight.shape[0]

    def _count(self, examples: Sequence[torch.Tensor]) -> dict[str, RankUse]:
        uses: dict[str, RankUse] = {}

        def hook(name: str, layer: Any, read: torch.Tensor, written: torch.Tensor) -> None:
            use = uses.setdefault(name, RankUse())
            ci, co = self._channels(name, layer)
            axes = len(layer.kernel_size) if isinstance(layer, _CONVOLUTIONS) else 0
            recurrent = name in self._places
            use.read += read.numel() // ci
            use.written += read.numel() // ci if recurrent else written.numel() // co
            before, after = read.shape[read.dim() - axes :], written.shape[written.dim() - axes :]
            batch = read.numel() // ci // math.prod(before)
            steps = [batch * math.prod(after[: i + 1]) * math.prod(before[i + 1 :]) for i in range(axes)]
            use.steps = [a + b for a, b in zip(use.steps or [0] * axes, steps, strict=True)]

        self._run_hooked([tuple(examples)], hook)
        return uses

    def _measure_moments(self, feeds: "Sequence[tuple[torch.Tensor, ...]]") -> None:
        """Set the mean of x x^T over all positions and samples, for the input channels of each layer."""
        sums: dict[str, tuple[torch.Tensor, int]] = {}

        def hook(name: str, layer: Any, read: torch.Tensor, _written: torch.Tensor) -> None:
            ci, _ = self._channels(name, layer)
            axes = len(layer.kernel_size) if isinstance(layer, _CONVOLUTIONS) else 0
            rows = read.movedim(read.dim() - axes - 1, -1).reshape(-1, ci).double()
            total, count = sums.get(name, (torch.zeros(ci, ci, dtype=torch.float64), 0))
            sums[name] = total + rows.T @ rows, count + len(rows)

        self._run_hooked(feeds, hook)
        for name, (total, count) in sums.items():
            self._uses[name].moments = total / count

    def _run_hooked(self, feeds: "Sequence[tuple[torch.Tensor, ...]]", hook: Any) -> None:
        handles = []
        for name, layer in self._layers.items():

            def call(own: Any, inputs: Any, output: Any, name: str = name) -> None:
                hook(name, own, inputs[0].data, output.data)  # of tensors, or of packed sequences

            handles.append(layer.register_forward_hook(call))
        try:
            with inference(self._module):
                for feed in feeds:
                    self._module(*feed)
        finally:
            for handle in handles:
                handle.remove()


def _obstacle(layer: Any, *, shared: bool) -> str | None:
    """Why a layer cannot be factored; None if it can be."""
    if parametrize.is_parametrized(layer):
        return why_computed(next(iter(layer.parametrizations.values())))
    if type(layer) not in (nn.Linear, *_CONVOLUTIONS, *_RECURRENT):
        return f"its class {type(layer).__name__} may do more than torch's own"
    if isinstance(layer, _RECURRENT):
        extra = layer._parameters.keys() - set(layer._flat_weights_names)  # noqa: SLF001 - weight_norm adds its own
        if layer.proj_size:
            return "it has a projection of its states"
    else:
        extra = layer._parameters.keys() - {"weight", "bias"}  # noqa: SLF001
    if extra:
        return "its weights are computed from others"
    if shared:
        return "its weights are shared with another layer"
    return "its channels are in groups" if getattr(layer, "groups", 1) > 1 else None


def rebuild(module: nn.Module, change: Mapping[str, Any]) -> nn.Module:
    """Replace the layers of a record of :meth:`Factorable.replaced` by new ones with new weights."""
    for name, each in change.items():
        old = module.get_submodule(name)
        if each["form"] == RECURRENT:
            new = FactoredRecurrent(old, each["ranks"]).eval()
        else:
            new = build(old, each["form"], each["ranks"])
        module = replace_layer(module, old, new)
    return module
