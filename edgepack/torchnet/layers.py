"""Layers whose sizes compression may change; running and counting modules."""

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from edgepack.spec import Input

# Class name in torch.nn -> attributes with its sizes; subclasses have them as well.
_CONVOLUTION = ("in_channels", "out_channels", "groups")
SIZES = {
    "Conv1d": _CONVOLUTION,
    "Conv2d": _CONVOLUTION,
    "Conv3d": _CONVOLUTION,
    "ConvTranspose1d": _CONVOLUTION,
    "ConvTranspose2d": _CONVOLUTION,
    "ConvTranspose3d": _CONVOLUTION,
    "Linear": ("in_features", "out_features"),
    "BatchNorm1d": ("num_features",),
    "BatchNorm2d": ("num_features",),
    "BatchNorm3d": ("num_features",),
}
SIZE_NAMES = frozenset(name for names in SIZES.values() for name in names)


def sizes(layer: "torch.nn.Module") -> dict[str, int]:
    """Return the sizes of ``layer`` that compression may change; empty unless its class is in ``SIZES``.

    Subclasses count as their base class: a fake-quantized ``Linear`` of any package is a ``Linear``.
    """
    return {name: int(getattr(layer, name)) for name in _size_names(type(layer))}


def _size_names(kind: type) -> tuple[str, ...]:
    for each in kind.__mro__:
        if each.__module__.startswith("torch.nn.") and each.__name__ in SIZES:
            return SIZES[each.__name__]
    return ()


def shrink(layer: "torch.nn.Module", new: dict[str, int], tensors: "dict[str, torch.Tensor]") -> None:
    """Set the sizes of ``layer`` to ``new`` and replace its parameters and buffers by ``tensors``, in place."""
    for name, value in new.items():
        setattr(layer, name, value)
    for name, tensor in tensors.items():
        _replace(layer, name, tensor.clone())


def resize(layer: "torch.nn.Module", new: Mapping[str, int], shapes: Mapping[str, Sequence[int]]) -> None:
    """Set the sizes of ``layer`` to ``new`` and its tensors to the ``shapes``, in place; resized tensors are zeros.

    ``shapes`` are named as in ``layer.state_dict()``, so tensors of nested layers (parametrizations,
    quantizers) are resized as well. Tensors without a shape do not change.
    """
    for name, value in new.items():
        if getattr(layer, name) != value:
            setattr(layer, name, value)
    for name, tensor in layer.state_dict().items():
        shape = tuple(shapes.get(name, tensor.shape))
        if shape != tuple(tensor.shape):
            owner, _, own = name.rpartition(".")
            _replace(layer.get_submodule(owner), own, tensor.new_zeros(shape))


def _replace(layer: "torch.nn.Module", name: str, tensor: "torch.Tensor") -> None:
    from torch import nn

    old = getattr(layer, name)
    if isinstance(old, nn.Parameter):
        setattr(layer, name, nn.Parameter(tensor, requires_grad=old.requires_grad))
    else:
        setattr(layer, name, tensor)


def replace_layer(
    module: "torch.nn.Module", old: "torch.nn.Module", new: "torch.nn.Module"
) -> "torch.nn.Module":
    """Put ``new`` in place of the layer ``old``, wherever the module has it; returns the module, or ``new`` if it is ``old``."""
    if module is old:
        return new
    for parent in module.modules():
        for name, child in list(parent._modules.items()):  # noqa: SLF001 - named_children() has each child once
            if child is old:
                setattr(parent, name, new)
    return module


def sharing_layers(module: "torch.nn.Module") -> set[str]:
    """Return the names of layers that share weights with other layers."""
    owners: dict[int, set[str]] = defaultdict(set)
    for name, layer in module.named_modules():
        for parameter in layer.parameters(recurse=False):
            owners[id(parameter)].add(name)
    return {name for names in owners.values() if len(names) > 1 for name in names}


@contextlib.contextmanager
def inference(module: "torch.nn.Module") -> Iterator[None]:
    """Eval mode without gradients in the block; afterwards every layer's mode is restored."""
    import torch

    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for layer, mode in modes:
            layer.training = mode


def example_inputs(inputs: "Sequence[Input]", seed: int = 0) -> "tuple[torch.Tensor, ...]":
    """Return one tensor per input: standard normal for floats, zeros for integers and booleans."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    tensors = []
    for spec in inputs:
        dtype = getattr(torch, spec.dtype)
        if dtype.is_floating_point:
            tensors.append(torch.randn(spec.shape, generator=generator).to(dtype))
        else:
            tensors.append(torch.zeros(spec.shape, dtype=dtype))
    return tuple(tensors)


@dataclass(frozen=True)
class ModuleCounts:
    """Parameters and multiply-accumulates of a torch module."""

    parameters: int
    nonzeros: int  # parameters that are not zero
    macs: int  # of Conv, Linear, LSTM, GRU and RNN layers, for one inference of the given batch


def count_module(module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]") -> ModuleCounts:
    """Run ``module`` once on ``examples`` and count the MACs of its convolutions, linear and recurrent layers.

    Of a weight that a parametrization computes, such as a codebook's, the elements of the weight are counted.
    """
    macs = sum(layer_macs(module, examples).values())
    parameters = decoded_parameters(module)
    return ModuleCounts(
        parameters=sum(each.numel() for each in parameters),
        nonzeros=sum(int(each.count_nonzero()) for each in parameters),
        macs=macs,
    )


def decoded_parameters(module: "torch.nn.Module") -> "list[torch.Tensor]":
    """Return all parameters, each once, with weights in place of what parametrizations compute them from."""
    import torch
    from torch.nn.utils import parametrize

    stored: set[int] = set()
    weights: dict[int, torch.Tensor] = {}
    with torch.no_grad():
        for layer in module.modules():
            if parametrize.is_parametrized(layer):
                for name, chain in layer.parametrizations.items():
                    inner = list(chain.parameters())
                    stored.update(map(id, inner))
                    weights.setdefault(id(inner[0]) if inner else id(chain), getattr(layer, name))
    return [*(each for each in module.parameters() if id(each) not in stored), *weights.values()]


def layer_macs(module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]") -> dict[str, int]:
    """Run ``module`` once on ``examples`` and count the MACs of each convolution, linear and recurrent layer, over all its uses."""
    from torch import nn

    macs: dict[str, int] = {}

    def count(name: str, layer: Any, args: Any, kwargs: Any, output: Any) -> None:
        if isinstance(layer, recurrent):
            data = (args[0] if args else kwargs["input"]).data  # of a tensor, or of packed sequences
            names = getattr(layer, "_flat_weights_names", ("weight_ih", "weight_hh"))  # of layers, of a cell
            weights = sum(getattr(layer, name).numel() for name in names if name.startswith("weight"))
            used = data.numel() // layer.input_size * weights
        elif isinstance(layer, nn.Linear):
            used = output.numel() * layer.in_features
        elif layer.transposed:  # weight [ci, co/groups, *kernel]
            used = (args[0] if args else kwargs["input"]).numel() * math.prod(layer.weight.shape[1:])
        else:  # weight [co, ci/groups, *kernel]
            used = output.numel() * math.prod(layer.weight.shape[1:])
        macs[name] = macs.get(name, 0) + used

    recurrent = (nn.RNNBase, nn.RNNCellBase)
    kinds = (nn.modules.conv._ConvNd, nn.Linear, *recurrent)  # noqa: SLF001 - torch has no public name for all convolutions
    named = [(name, layer) for name, layer in module.named_modules() if isinstance(layer, kinds)]
    handles = [layer.register_forward_hook(partial(count, name), with_kwargs=True) for name, layer in named]
    try:
        with inference(module):
            module(*examples)
    finally:
        for handle in handles:
            handle.remove()
    return macs
