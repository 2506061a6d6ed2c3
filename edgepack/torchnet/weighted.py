"""The weights of a module that a method may store in another form, and how its layers are used."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn.utils import parametrize
from torch.utils import _pytree

from edgepack.torchnet.layers import inference
from edgepack.torchnet.stored import labelled, owners, why_computed

if TYPE_CHECKING:
    from torch.utils.hooks import RemovableHandle

_OUTPUTS_FIRST = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
_OUTPUTS_SECOND = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_ATTENTION = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
_MATRIX = 2  # axes: a parameter with fewer is a bias or a scale


@dataclass(frozen=True)
class StorableWeight:
    """A parameter of one layer, or of several that share it.

    Attributes:
        places: the layers and names under which the module holds it.
        axis: its axis of output channels; of features in an embedding.
    """

    places: tuple[tuple[str, str], ...]
    axis: int

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of its layers."""
        return tuple(layer for layer, _ in self.places)

    @property
    def name(self) -> str:
        """The name of its first layer, by which metrics refer to it; with the parameter's name unless it is ``weight``."""
        return labelled(*self.places[0])

    @property
    def names(self) -> tuple[str, ...]:
        """All names that select it: its layers, and its names in metrics."""
        return tuple(dict.fromkeys((*self.layers, *(labelled(*place) for place in self.places))))

    def of(self, module: nn.Module) -> torch.Tensor:
        """The weight in ``module``."""
        layer, own = self.places[0]
        value: torch.Tensor = getattr(module.get_submodule(layer), own)
        return value


def weights_of(module: nn.Module) -> tuple[list[StorableWeight], dict[str, str]]:
    """Return the weights of convolutions, linear and recurrent layers, embeddings and attention in ``module``, in order.

    Also returns, by layer, why other layers with weights are left alone: layers of other classes, weights that a
    parametrization or another module computes, and those that such layers share.
    """
    found: list[StorableWeight] = []
    left: dict[str, str] = {}
    layers = dict(module.named_modules())
    for places in owners(module).values():
        value = getattr(layers[places[0][0]], places[0][1])
        axes = [_axis(layers[layer], own) for layer, own in places]
        known = [axis for axis in axes if axis is not None]
        if value.dim() < _MATRIX or any(_COMPUTED in f".{layer}." for layer, _ in places):
            continue
        if len(known) == len(places):
            found.append(StorableWeight(tuple(places), min(known)))
            continue
        others = [layer for (layer, _), axis in zip(places, axes, strict=True) if axis is None]
        for (layer, own), axis in zip(places, axes, strict=True):
            kind = type(layers[layer]).__name__
            other = f"{kind} is no convolution, linear or recurrent layer, embedding or attention"
            left[labelled(layer, own)] = other if axis is None else f"it shares its weight with {others[0]}"
    for name, layer in layers.items():
        if parametrize.is_parametrized(layer):
            for own, chain in layer.parametrizations.items():
                left[labelled(name, own)] = why_computed(chain)
    return found, left


_COMPUTED = ".parametrizations."  # in the names of the parameters from which torch computes a weight


def weighted_layers(module: nn.Module) -> list[str]:
    """Return the names of all layers with a weight of their own, of any class, computed or not."""
    return [
        name
        for name, layer in module.named_modules()
        if _COMPUTED not in f".{name}."
        and (
            parametrize.is_parametrized(layer)
            or any(each.dim() >= _MATRIX for each in layer.parameters(recurse=False))
        )
    ]


def _axis(layer: nn.Module, own: str) -> int | None:
    """The axis of output channels of a layer's parameter; None for one that is not handled."""
    if isinstance(layer, nn.MultiheadAttention):
        return 0 if own in _ATTENTION else None
    if isinstance(layer, _RECURRENT):  # rows are the states of one gate after the other
        return 0 if own.startswith("weight_") else None
    if own != "weight":
        return None
    if isinstance(layer, _OUTPUTS_FIRST):
        return 0
    if isinstance(layer, (*_OUTPUTS_SECOND, nn.Embedding)):
        return 1
    return None


def weights_only(layer: nn.Module) -> str | None:
    """Return why the input of a layer is not rounded; None if it may be."""
    if isinstance(layer, _RECURRENT):
        return "input and states of a recurrent layer stay float"
    if isinstance(layer, nn.MultiheadAttention):
        return "its three inputs are often one tensor, which rounding the first alone would change"
    return None


@dataclass(frozen=True)
class LayerUse:
    """How the layers of a module are used on some samples.

    Attributes:
        order: the layers that were called, by their first call.
        outer: the first and the last of them, and those that read an input of the module or return an output of it.
        read: by layer, values that it reads ``[N]``; none of recurrent layers, attention, or integers.
    """

    order: tuple[str, ...]
    outer: frozenset[str]
    read: Mapping[str, torch.Tensor]


_KEPT = 4096  # values of each call


def observe(
    module: nn.Module,
    layers: Sequence[str],
    batches: Sequence[tuple[torch.Tensor, ...]],
    progress: Callable[[float], None],
) -> LayerUse:
    """Run ``module`` in eval mode on ``batches`` of its inputs and note how ``layers`` are used."""
    seen = _Observed()
    handles: list[RemovableHandle] = []
    for name in layers:
        layer = module.get_submodule(name)
        handles += (
            layer.register_forward_pre_hook(partial(seen.before, name)),
            layer.register_forward_hook(partial(seen.after, name)),
        )
    outputs: list[torch.Tensor] = []
    try:
        with inference(module):
            for number, batch in enumerate(batches):
                seen.inputs = {each.data_ptr() for each in batch}
                outputs = _pytree.tree_leaves(module(*batch))
                progress((number + 1) / len(batches))
    finally:
        for handle in handles:
            handle.remove()
    given = set(map(id, outputs))
    last = {name for name, tensors in seen.returned.items() if not given.isdisjoint(map(id, tensors))}
    ends = {next(iter(seen.order)), next(reversed(seen.order))} if seen.order else set()
    read = {name: torch.cat(each) for name, each in seen.read.items()}
    return LayerUse(tuple(seen.order), frozenset(ends | seen.reading | last), read)


class _Observed:
    """What hooks of layers see."""

    def __init__(self) -> None:
        self.inputs: set[int] = set()  # addresses of the module's inputs
        self.order: dict[str, None] = {}
        self.reading: set[str] = set()
        self.read: dict[str, list[torch.Tensor]] = {}
        self.returned: dict[str, list[torch.Tensor]] = {}

    def before(self, name: str, layer: nn.Module, arguments: tuple[Any, ...]) -> None:
        self.order[name] = None
        x = arguments[0] if arguments else None  # passed by name
        if not isinstance(x, torch.Tensor):
            return
        if x.data_ptr() in self.inputs:
            self.reading.add(name)
        if x.is_floating_point() and x.numel() and weights_only(layer) is None:
            flat = x.detach().flatten()
            self.read.setdefault(name, []).append(flat[:: -(-flat.numel() // _KEPT)].clone())

    def after(self, name: str, _layer: nn.Module, _arguments: tuple[Any, ...], output: Any) -> None:
        self.returned[name] = _pytree.tree_leaves(output)
