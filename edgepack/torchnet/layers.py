"""Layers whose sizes compression may change; running and counting modules."""

import contextlib
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
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
    macs: int  # of Conv, Linear, LSTM, GRU and RNN layers, for one inference of the given batch


def count_module(module: "torch.nn.Module", examples: "tuple[torch.Tensor, ...]") -> ModuleCounts:
    """Run ``module`` once on ``examples`` and count the MACs of its convolutions, linear and recurrent layers."""
    from torch import nn

    macs = 0

    def hook(layer: Any, inputs: Any, output: Any) -> None:
        nonlocal macs
        if isinstance(layer, nn.RNNBase):
            data = inputs[0].data  # of a tensor, or of packed sequences
            weights = sum(p.numel() for name, p in layer.named_parameters() if name.startswith("weight"))
            macs += data.numel() // layer.input_size * weights
        elif isinstance(layer, nn.Linear):
            macs += output.numel() * layer.in_features
        else:
            macs += output.numel() * math.prod(layer.weight.shape[1:])

    kinds = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.RNNBase)
    handles = [layer.register_forward_hook(hook) for layer in module.modules() if isinstance(layer, kinds)]
    try:
        with inference(module):
            module(*examples)
    finally:
        for handle in handles:
            handle.remove()
    return ModuleCounts(parameters=sum(p.numel() for p in module.parameters()), macs=macs)
