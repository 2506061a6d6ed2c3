"""How operators without weights move the channel axis of a tensor: one rule per operator.

A rule takes a :class:`NodePlace` and the channels of its first input; it returns those of the first output, or None if they
cannot be tracked, in which case the channels are locked.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.compression.onnx_channels.graph import ChannelAxis, Dimension, OnnxChannels

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class NodePlace:
    """A node, its position, and the graph's channels."""

    node: "onnx.NodeProto"
    number: int
    channels: OnnxChannels

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a value."""
        return self.channels.shapes.get(name, ())

    @property
    def old(self) -> tuple[int, ...]:
        """The shape of the first input."""
        return self.shape(self.node.input[0])

    @property
    def new(self) -> tuple[int, ...]:
        """The shape of the first output."""
        return self.shape(self.node.output[0])

    def attribute(self, name: str, default: Any = None) -> Any:
        """The value of an attribute."""
        from onnx import helper

        found = next((a for a in self.node.attribute if a.name == name), None)
        return default if found is None else helper.get_attribute_value(found)

    def constant(self, index: int) -> list[int] | None:
        """The elements of a constant input; None if there is no such input, or if it is computed."""
        name = self.node.input[index] if index < len(self.node.input) else ""
        return (
            [int(v) for v in self.channels.value(name).ravel()] if name in self.channels.constants else None
        )


Rule = Callable[[NodePlace, ChannelAxis], ChannelAxis | None]


def same(_place: NodePlace, incoming: ChannelAxis) -> ChannelAxis:
    """Element-wise operators."""
    return incoming


def spatial(_place: NodePlace, incoming: ChannelAxis) -> ChannelAxis | None:
    """Operators on the axes after ``[N, C]`` only."""
    return incoming if incoming.axis == 1 else None


def along_others(place: NodePlace, incoming: ChannelAxis) -> ChannelAxis | None:
    """Operators that keep the rank, and change or mix the elements of one axis: not along the channels."""
    axis = place.attribute("axis", -1) % len(place.old)
    return None if axis == incoming.axis else incoming


def pad(place: NodePlace, incoming: ChannelAxis) -> ChannelAxis | None:
    """Padding along other axes."""
    axes = place.constant(3)
    pads = place.constant(1)
    rank = len(place.old)
    if pads is None or (axes is None and len(place.node.input) > 3 and place.node.input[3]):  # noqa: PLR2004 - axes
        return None
    where = [axis % rank for axis in axes] if axes is not None else list(range(rank))
    at = where.index(incoming.axis) if incoming.axis in where else None
    return incoming if at is None or pads[at] == pads[at + len(where)] == 0 else None


def resize(place: NodePlace, incoming: ChannelAxis) -> ChannelAxis | None:
    """Resizing along other axes; sizes that include the channels follow them."""
    axis = incoming.axis
    scales, sizes = place.constant(2), place.constant(3)
    if place.attribute("axes") is not None or place.old[axis] != place.new[axis]:
        return None
    if sizes:
        place.channels.dimensions.append(Dimension(place.number, 3, axis, incoming.numbers))
        return incoming
    return incoming if scales and scales[axis] == 1 else None


def reduce_axes(place: NodePlace, incoming: ChannelAxis) -> ChannelAxis | None:
    """A reduction over axes other than the channels."""
    rank = len(place.old)
    axes = place.constant(1) if len(place.node.input) > 1 else place.attribute("axes")
    if not axes:
        return None
    gone = {axis % rank for axis in axes}
    if incoming.axis in gone:
        return None
    lost = 0 if place.attribute("keepdims", 1) else sum(axis < incoming.axis for axis in gone)
    return ChannelAxis(incoming.axis - lost, incoming.numbers)


def transpose(place: NodePlace, incoming: ChannelAxis) -> ChannelAxis:
    """A permutation of the axes."""
    perm = place.attribute("perm") or list(range(len(place.old)))[::-1]
    return ChannelAxis(list(perm).index(incoming.axis), incoming.numbers)


def reshape(place: NodePlace, incoming: ChannelAxis) -> ChannelAxis | None:
    """A new shape; a constant shape that names the size of the channel axis follows the channels."""
    result = reshaped(place, incoming)
    if result is None or place.node.op_type != "Reshape":
        return result
    wanted = place.constant(1)
    if wanted is None or len(wanted) != len(place.new):
        return None
    if wanted[result.axis] > 0:
        place.channels.dimensions.append(Dimension(place.number, 1, result.axis, result.numbers))
    elif wanted[result.axis] == 0 and result.axis != incoming.axis:
        return None
    return result


def reshaped(place: NodePlace, incoming: ChannelAxis) -> ChannelAxis | None:
    """The channel axis is kept, merged with the axes after it, or split in two, of which the first is pruned."""
    old, new, count = place.old, place.new, len(incoming.numbers)
    before, after = math.prod(old[: incoming.axis]), math.prod(old[incoming.axis + 1 :])
    starts = [b for b in range(len(new)) if math.prod(new[:b]) == before]
    for b in starts:
        if new[b] == count and math.prod(new[b + 1 :]) == after:
            return ChannelAxis(b, incoming.numbers)
    for b in starts:
        repeats = new[b] // count
        if repeats and repeats * count == new[b] and math.prod(new[b + 1 :]) * repeats == after:
            return ChannelAxis(b, [number for number in incoming.numbers for _ in range(repeats)])
    for b in starts:  # [heads, channels of a head]
        if b + 1 < len(new) and new[b] * new[b + 1] == count and math.prod(new[b + 2 :]) == after:
            return ChannelAxis(b, joined(place.channels, incoming.numbers, new[b + 1]))
    return None


def joined(channels: OnnxChannels, numbers: Sequence[int], size: int) -> list[int]:
    """Tie every ``size`` numbers in a row, and return the first of each."""
    heads = [list(numbers[i : i + size]) for i in range(0, len(numbers), size)]
    for head in heads:
        channels.tie([head[0]] * (size - 1), head[1:])
    return [head[0] for head in heads]


_POINTWISE = (
    "Abs", "Cast", "Ceil", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish",
    "Identity", "LeakyRelu", "Log", "Mish", "Neg", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Cos", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu", "Not",
)  # fmt: skip
_POOLS = ("AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool")
_REDUCTIONS = (
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd",
    "ReduceSum", "ReduceSumSquare",
)  # fmt: skip

RULES: dict[str, Rule] = {
    **dict.fromkeys(_POINTWISE, same),
    **dict.fromkeys(_POOLS, spatial),
    **dict.fromkeys(_REDUCTIONS, reduce_axes),
    **dict.fromkeys(("Flatten", "Reshape", "Squeeze", "Unsqueeze"), reshape),
    **dict.fromkeys(("Hardmax", "LogSoftmax", "LpNormalization", "Softmax"), along_others),
    "Pad": pad,
    "Resize": resize,
    "Transpose": transpose,
}
"""Rules by operator."""

ELEMENTWISE = frozenset(
    (
        "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod",
        "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
    )
)  # fmt: skip
"""Operators on several operands of equal or broadcast shapes."""
