"""The walk through a traced graph that fills :class:`edgepack.compress.channels.Channels`."""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.fx
from torch import nn

from edgepack.compress.channels import INPUT, OUTPUT, Channels

# What these do to a value does not depend on its channel.
_POINTWISE_MODULES = (
    nn.ReLU, nn.ReLU6, nn.LeakyReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Mish, nn.Sigmoid, nn.Tanh, nn.Softplus,
    nn.Hardswish, nn.Hardsigmoid, nn.Hardtanh, nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d,
)  # fmt: skip
_POINTWISE = frozenset(
    "relu relu_ relu6 leaky_relu elu gelu silu mish sigmoid tanh softplus hardswish hardsigmoid hardtanh clamp "
    "dropout dropout2d contiguous clone detach neg abs exp sqrt float".split()
)
_BINARY = frozenset("add sub mul truediv div iadd isub imul add_ sub_ mul_ maximum minimum".split())
# Axes after the channels only.
_SPATIAL_MODULES = (
    nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d, nn.AvgPool1d, nn.AvgPool2d, nn.AvgPool3d,
    nn.AdaptiveAvgPool1d, nn.AdaptiveAvgPool2d, nn.AdaptiveAvgPool3d, nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d,
    nn.Upsample, nn.UpsamplingNearest2d, nn.UpsamplingBilinear2d, nn.ZeroPad2d, nn.ReflectionPad2d,
)  # fmt: skip
_SPATIAL = frozenset(
    "max_pool1d max_pool2d avg_pool1d avg_pool2d adaptive_avg_pool1d adaptive_avg_pool2d adaptive_max_pool2d "
    "interpolate".split()
)
_REDUCTIONS = frozenset("mean sum amax amin".split())
_RESHAPES = frozenset("flatten view reshape squeeze unsqueeze".split())
_QUESTIONS = frozenset("size dim getattr".split())  # they look at the shape alone
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


@dataclass(frozen=True)
class Tracked:
    """The channel axis of a tensor and the number of each channel along it."""

    axis: int
    numbers: list[int]


class Walk(torch.fx.Interpreter):
    """Runs the graph on example inputs and tracks the channels of every tensor."""

    def __init__(self, traced: torch.fx.GraphModule, channels: Channels, shared: set[str]) -> None:
        super().__init__(traced)
        self._channels = channels
        self._shared = shared  # layers whose weights other layers use too
        self._tracked: dict[torch.fx.Node, Tracked | None] = {}

    def run_node(self, n: torch.fx.Node) -> Any:
        """Compute the node, then track its channels."""
        value = super().run_node(n)
        tracked = self._track(n, value)
        if (
            tracked is None
            and n.op not in {"placeholder", "get_attr", "output"}
            and _name(n) not in _QUESTIONS
        ):
            self._lock_inputs(n, f"{_label(n, self.submodules)} needs all of them")
        self._tracked[n] = tracked
        return value

    def _track(self, n: torch.fx.Node, value: Any) -> Tracked | None:
        if n.op == "output":
            self._lock_inputs(n, OUTPUT)
            return None
        if n.op in {"placeholder", "get_attr"} or not isinstance(value, torch.Tensor):
            return None
        if n.op == "call_module":
            return self._module(n, value)
        name = _name(n)
        if name in _BINARY:
            return self._binary(n, value)
        if name in {"cat", "concat"}:
            return self._concatenation(n, value)
        source = n.args[0] if n.args else None
        incoming = self._of(source)
        if incoming is None:
            return None
        shape = self._value(source).shape
        if name in _POINTWISE:
            return incoming
        if name in _SPATIAL:
            return incoming if incoming.axis == 1 else None
        if name == "pad":
            return incoming if incoming.axis < len(shape) - len(n.args[1]) // 2 else None  # type: ignore[arg-type] # a list of widths
        if name in _REDUCTIONS:
            return _reduced(incoming, shape, n)
        if name in _RESHAPES:
            fixed = name in {"view", "reshape"} and _names_channels(n, incoming, shape, value.shape)
            return None if fixed else _reshaped(incoming, shape, value.shape)
        if name in {"permute", "transpose"}:
            return _moved(incoming, n, len(shape), name)
        if name == "getitem":
            return _indexed(incoming, n.args[1], len(shape))
        return None

    # What each kind of layer does.

    def _module(self, n: torch.fx.Node, value: torch.Tensor) -> Tracked | None:
        layer, name = self.submodules[str(n.target)], str(n.target)
        incoming = self._of(n.args[0])
        plain = set(layer._parameters) <= {"weight", "bias"}  # noqa: SLF001 - weight_norm adds parameters of its own
        if type(layer) in (*_CONVOLUTIONS, nn.Linear) and plain:
            return self._producer(name, layer, incoming, value)
        if type(layer) in _NORMS and incoming is not None and incoming.axis == 1:
            return self._norm(name, incoming)
        if incoming is None:
            return None
        if type(layer) in _POINTWISE_MODULES:
            return incoming
        if type(layer) in _SPATIAL_MODULES:
            return incoming if incoming.axis == 1 else None
        if type(layer) is nn.Flatten:
            return _reshaped(incoming, self._value(n.args[0]).shape, value.shape)
        return None

    def _producer(self, name: str, layer: Any, incoming: Tracked | None, value: torch.Tensor) -> Tracked:
        channels = self._channels
        is_linear = isinstance(layer, nn.Linear)
        axis = value.dim() - 1 if is_linear else value.dim() - len(layer.kernel_size) - 1
        n_in, n_out = (
            (layer.in_features, layer.out_features) if is_linear else (layer.in_channels, layer.out_channels)
        )
        if incoming is None or incoming.axis != axis:
            if incoming is not None:
                channels.lock(incoming.numbers, f"{name} reads them along another axis")
            incoming = Tracked(axis, channels.fresh(n_in))
            channels.lock(incoming.numbers, INPUT)
        if name not in channels.inputs:
            channels.inputs[name] = incoming.numbers
            channels.outputs[name] = channels.fresh(n_out)
            groups = 1 if is_linear else layer.groups
            if groups > 1:
                self._tie_groups(incoming.numbers, channels.outputs[name], groups)
        else:  # the layer is used more than once
            for a, b in zip(channels.inputs[name], incoming.numbers, strict=True):
                channels.tie(a, b)
        if name in self._shared:
            channels.lock(
                [*incoming.numbers, *channels.outputs[name]], "its weights are shared with another layer"
            )
        return Tracked(axis, channels.outputs[name])

    def _tie_groups(self, incoming: list[int], outgoing: list[int], groups: int) -> None:
        reads, writes = len(incoming) // groups, len(outgoing) // groups
        for g in range(groups):
            block = [*incoming[g * reads : (g + 1) * reads], *outgoing[g * writes : (g + 1) * writes]]
            for number in block[1:]:
                self._channels.tie(block[0], number)

    def _norm(self, name: str, incoming: Tracked) -> Tracked:
        for a, b in zip(
            self._channels.outputs.setdefault(name, incoming.numbers), incoming.numbers, strict=True
        ):
            self._channels.tie(a, b)
        if name in self._shared:
            self._channels.lock(incoming.numbers, "its scales are shared with another layer")
        return incoming

    def _binary(self, n: torch.fx.Node, value: torch.Tensor) -> Tracked | None:
        operands = [a for a in n.args if isinstance(self._value(a), torch.Tensor)]
        known = [(self._of(a), self._value(a)) for a in operands]
        wide = [(t, v) for t, v in known if t is not None and t.axis - v.dim() + value.dim() >= 0]
        if not wide:
            return None
        first, tensor = max(wide, key=lambda pair: len(pair[0].numbers))
        axis = first.axis - tensor.dim() + value.dim()
        for tracked, operand in known:
            here = axis - value.dim() + operand.dim()  # the same axis, counted from the right
            if tracked is None:
                if here >= 0 and operand.shape[here] > 1:
                    return None
            elif tracked.axis != here or len(tracked.numbers) != len(first.numbers):
                return None
            else:
                for a, b in zip(first.numbers, tracked.numbers, strict=True):
                    self._channels.tie(a, b)
        return Tracked(axis, first.numbers)

    def _concatenation(self, n: torch.fx.Node, value: torch.Tensor) -> Tracked | None:
        parts: Any = n.args[0] if n.args else n.kwargs["tensors"]
        dim: Any = n.args[1] if len(n.args) > 1 else n.kwargs.get("dim", n.kwargs.get("axis", 0))
        axis = dim % value.dim()
        numbers: list[int] = []
        for part in parts:
            tracked = self._of(part)
            if tracked is None:
                tracked = Tracked(axis, self._channels.fresh(self._value(part).shape[axis]))
                self._channels.lock(tracked.numbers, INPUT)
            if tracked.axis != axis:
                return None
            numbers += tracked.numbers
        return Tracked(axis, numbers)

    # Looking up nodes.

    def _of(self, argument: Any) -> Tracked | None:
        return self._tracked.get(argument) if isinstance(argument, torch.fx.Node) else None

    def _value(self, argument: Any) -> Any:
        return self.env.get(argument) if isinstance(argument, torch.fx.Node) else argument

    def _lock_inputs(self, n: torch.fx.Node, reason: str) -> None:
        for source in n.all_input_nodes:
            tracked = self._tracked.get(source)
            if tracked is not None:
                self._channels.lock(tracked.numbers, reason)


def _name(n: torch.fx.Node) -> str:
    return n.target if isinstance(n.target, str) else getattr(n.target, "__name__", str(n.target))


def _label(n: torch.fx.Node, submodules: dict[str, nn.Module]) -> str:
    """The operation, for a message."""
    if n.op == "call_module":
        return f"{type(submodules[str(n.target)]).__name__} ({n.target})"
    return _name(n)


def _reduced(incoming: Tracked, shape: torch.Size, n: torch.fx.Node) -> Tracked | None:
    dims: Any = n.args[1] if len(n.args) > 1 else n.kwargs.get("dim")
    if dims is None:
        return None
    reduced = {dim % len(shape) for dim in ([dims] if isinstance(dims, int) else dims)}
    keepdim = n.args[2] if len(n.args) > 2 else n.kwargs.get("keepdim", False)  # noqa: PLR2004 - (input, dim, keepdim)
    if incoming.axis in reduced:
        return None
    gone = 0 if keepdim else sum(dim < incoming.axis for dim in reduced)
    return Tracked(incoming.axis - gone, incoming.numbers)


def _reshaped(incoming: Tracked, old: torch.Size, new: torch.Size) -> Tracked | None:
    """The channel axis kept as it is, or merged with the axes after it: each channel is then repeated."""
    before, count = math.prod(old[: incoming.axis]), len(incoming.numbers)
    starts = [b for b in range(len(new)) if math.prod(new[:b]) == before]
    for b in starts:
        if new[b] == count:
            return Tracked(b, incoming.numbers)
    for b in starts:
        if new[b] > count and new[b] % count == 0:
            repeats = new[b] // count
            if math.prod(new[b + 1 :]) * repeats == math.prod(old[incoming.axis + 1 :]):
                return Tracked(b, [number for number in incoming.numbers for _ in range(repeats)])
    return None


def _names_channels(n: torch.fx.Node, incoming: Tracked, old: torch.Size, new: torch.Size) -> bool:
    """Whether a view fixes the size of the axis that the channels end in."""
    reshaped = _reshaped(incoming, old, new)
    sizes: Any = n.args[1] if isinstance(n.args[1], tuple | list) else n.args[1:]
    if reshaped is None or len(sizes) != len(new):
        return True
    size = sizes[reshaped.axis]
    if isinstance(size, int):
        return size != -1
    # x.size(1), x.shape[1] and the like follow the pruned channels; arithmetic on them may not.
    return not (isinstance(size, torch.fx.Node) and _name(size) in {"size", "getitem"})


def _moved(incoming: Tracked, n: torch.fx.Node, rank: int, name: str) -> Tracked | None:
    dims: Any = n.args[1:] if isinstance(n.args[1], int) else n.args[1]
    if not all(isinstance(dim, int) for dim in dims):
        return None
    order = [dim % rank for dim in dims]
    if name == "permute":
        return Tracked(order.index(incoming.axis), incoming.numbers)
    swap = {order[0]: order[1], order[1]: order[0]}
    return Tracked(swap.get(incoming.axis, incoming.axis), incoming.numbers)


def _indexed(incoming: Tracked, index: Any, rank: int) -> Tracked | None:
    """``x[:, :, None, None]`` and slices of the other axes."""
    entries = list(index) if isinstance(index, tuple) else [index]
    if Ellipsis in entries:
        at = entries.index(Ellipsis)
        taken = sum(entry is not None for entry in entries) - 1
        entries[at : at + 1] = [slice(None)] * (rank - taken)
    source, result = 0, 0
    for entry in entries:
        if entry is None:
            result += 1
        elif source == incoming.axis:
            return Tracked(result, incoming.numbers) if entry == slice(None) else None
        else:
            if not isinstance(entry, slice | int):
                return None
            source, result = source + 1, result + isinstance(entry, slice)
    return Tracked(result + incoming.axis - source, incoming.numbers)
