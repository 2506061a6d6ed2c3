"""How operations move the channel axis of a tensor: one rule per operation.

A rule takes the channels of the operation's first argument, its node, and the shapes before and after;
it returns the channels of the result, or None if they cannot be tracked.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import nn


@dataclass(frozen=True)
class Tracked:
    """The channel axis of a tensor and the channel number of each index along it."""

    axis: int
    numbers: list[int]


Rule = Callable[[Tracked, torch.fx.Node, torch.Size, torch.Size], Tracked | None]


def same(incoming: Tracked, _n: torch.fx.Node, _old: torch.Size, _new: torch.Size) -> Tracked:
    """Element-wise operations."""
    return incoming


def spatial(incoming: Tracked, _n: torch.fx.Node, _old: torch.Size, _new: torch.Size) -> Tracked | None:
    """Operations on the axes after ``[N, C]`` only."""
    return incoming if incoming.axis == 1 else None


def pad(incoming: Tracked, n: torch.fx.Node, old: torch.Size, _new: torch.Size) -> Tracked | None:
    """``pad(x, widths)``: two widths per axis, from the last axis."""
    widths: Any = n.args[1]
    return incoming if incoming.axis < len(old) - len(widths) // 2 else None


def reduce_axes(incoming: Tracked, n: torch.fx.Node, old: torch.Size, new: torch.Size) -> Tracked | None:
    """``mean(x, dim)`` over axes other than the channels."""
    dims: Any = n.args[1] if len(n.args) > 1 else n.kwargs.get("dim")
    if dims is None:
        return None
    gone = {dim % len(old) for dim in ([dims] if isinstance(dims, int) else dims)}
    if incoming.axis in gone:
        return None
    kept = len(new) == len(old)
    return Tracked(
        incoming.axis - (0 if kept else sum(dim < incoming.axis for dim in gone)), incoming.numbers
    )


def reshape(incoming: Tracked, _n: torch.fx.Node, old: torch.Size, new: torch.Size) -> Tracked | None:
    """The channel axis is kept, or merged with the axes after it, which repeats each channel."""
    before, count = math.prod(old[: incoming.axis]), len(incoming.numbers)
    starts = [b for b in range(len(new)) if math.prod(new[:b]) == before]
    for b in starts:
        if new[b] == count:
            return Tracked(b, incoming.numbers)
    for b in starts:
        repeats = new[b] // count
        if repeats * count == new[b] and math.prod(new[b + 1 :]) * repeats == math.prod(
            old[incoming.axis + 1 :]
        ):
            return Tracked(b, [number for number in incoming.numbers for _ in range(repeats)])
    return None


def view(incoming: Tracked, n: torch.fx.Node, old: torch.Size, new: torch.Size) -> Tracked | None:
    """A reshape whose arguments do not fix the size of the axis that contains the channels."""
    result = reshape(incoming, n, old, new)
    sizes: Any = n.args[1] if isinstance(n.args[1], tuple | list) else n.args[1:]
    if result is None or len(sizes) != len(new):
        return None
    size = sizes[result.axis]
    # x.size(1) and x.shape[1] follow the pruned channels; arithmetic on them may not.
    follows = isinstance(size, torch.fx.Node) and operation(size) in {"size", "getitem"}
    return result if follows or size == -1 else None


def permute(incoming: Tracked, n: torch.fx.Node, old: torch.Size, _new: torch.Size) -> Tracked | None:
    """``permute(x, dims)`` and ``x.permute(*dims)``."""
    dims: Any = n.args[1:] if isinstance(n.args[1], int) else n.args[1]
    if not all(isinstance(dim, int) for dim in dims):
        return None
    return Tracked([dim % len(old) for dim in dims].index(incoming.axis), incoming.numbers)


def transpose(incoming: Tracked, n: torch.fx.Node, old: torch.Size, _new: torch.Size) -> Tracked | None:
    """``transpose(x, a, b)``."""
    a, b = n.args[1], n.args[2]
    if not (isinstance(a, int) and isinstance(b, int)):
        return None
    a, b = a % len(old), b % len(old)
    return Tracked({a: b, b: a}.get(incoming.axis, incoming.axis), incoming.numbers)


def index_axes(incoming: Tracked, n: torch.fx.Node, old: torch.Size, _new: torch.Size) -> Tracked | None:
    """``x[:, :, None, None]``, and slices or elements of other axes."""
    index: Any = n.args[1]
    entries = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in entries:
        taken = sum(entry is not None for entry in entries) - 1
        at = entries.index(Ellipsis)
        entries[at : at + 1] = [slice(None)] * (len(old) - taken)
    source, result = 0, 0
    for entry in entries:
        if entry is None:
            result += 1
        elif source == incoming.axis:
            return Tracked(result, incoming.numbers) if entry == slice(None) else None
        elif isinstance(entry, slice | int):
            source, result = source + 1, result + isinstance(entry, slice)
        else:
            return None
    return Tracked(result + incoming.axis - source, incoming.numbers)


def along_others(incoming: Tracked, n: torch.fx.Node, old: torch.Size, _new: torch.Size) -> Tracked | None:
    """``softmax(x, dim)`` along an axis other than the channels."""
    dim: Any = n.args[1] if len(n.args) > 1 else n.kwargs.get("dim")
    return incoming if isinstance(dim, int) and dim % len(old) != incoming.axis else None


def heads_of(incoming: Tracked, n: torch.fx.Node, old: torch.Size, new: torch.Size) -> tuple[int, int] | None:
    """Where ``view``, ``reshape`` or ``unflatten`` splits the channels into heads: their axis, and the size of a head.

    Their number must be written as -1 (or follow another size), because it changes.
    """
    if operation(n) not in {"view", "reshape", "unflatten"}:
        return None
    before, after = math.prod(old[: incoming.axis]), math.prod(old[incoming.axis + 1 :])
    for axis in range(len(new) - 1):
        if math.prod(new[:axis]) != before or new[axis] * new[axis + 1] != len(incoming.numbers):
            continue
        if math.prod(new[axis + 2 :]) != after:
            continue
        if operation(n) == "unflatten":
            sizes: Any = n.args[2]
            count = sizes[0] if isinstance(sizes, tuple | list) else None
        else:
            sizes = n.args[1] if isinstance(n.args[1], tuple | list) else n.args[1:]
            count = sizes[axis] if len(sizes) == len(new) else None
        if count == -1 or isinstance(count, torch.fx.Node):
            return axis, new[axis + 1]
    return None


def operation(n: torch.fx.Node) -> str:
    """Return the name of the function or method that a node calls."""
    return n.target if isinstance(n.target, str) else getattr(n.target, "__name__", str(n.target))


_POINTWISE = (
    "relu", "relu_", "relu6", "leaky_relu", "elu", "gelu", "silu", "mish", "sigmoid", "tanh", "softplus",
    "hardswish", "hardsigmoid", "hardtanh", "clamp", "dropout", "dropout2d", "contiguous", "clone", "detach",
    "neg", "abs", "exp", "sqrt", "float",
)  # fmt: skip
_SPATIAL = (
    "max_pool1d", "max_pool2d", "avg_pool1d", "avg_pool2d", "adaptive_avg_pool1d", "adaptive_avg_pool2d",
    "adaptive_max_pool2d", "interpolate",
)  # fmt: skip

FUNCTIONS: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, same),
    **dict.fromkeys(_SPATIAL, spatial),
    **dict.fromkeys(("mean", "sum", "amax", "amin"), reduce_axes),
    **dict.fromkeys(("flatten", "squeeze", "unsqueeze"), reshape),
    **dict.fromkeys(("view", "reshape"), view),
    **dict.fromkeys(("softmax", "log_softmax"), along_others),
    "pad": pad,
    "permute": permute,
    "transpose": transpose,
    "getitem": index_axes,
}
"""Rules for functions and methods, by name."""

_POINTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Softplus,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
_SPATIAL_MODULES = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d, nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.Upsample,
    nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.ZeroPad2d, nn.ReflectionPad2d,
)  # fmt: skip

MODULES: dict[type[nn.Module], Rule] = {
    **dict.fromkeys(_POINTWISE_MODULES, same),
    **dict.fromkeys(_SPATIAL_MODULES, spatial),
    nn.Flatten: reshape,
}
"""Rules for modules of torch.nn, by class; subclasses are traced through instead."""
