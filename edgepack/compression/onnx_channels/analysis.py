"""Walk an ONNX graph and number its channels."""

from collections import Counter
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from edgepack.compression.onnx_channels.graph import ChannelAxis, Cut, Dimension, OnnxChannels
from edgepack.compression.onnx_channels.rules import ELEMENTWISE, RULES, NodePlace

if TYPE_CHECKING:
    import onnx

INPUT = "its channels are the model's input"
OUTPUT = "its channels are the model's output"
SHARED = "its weights are shared with another layer"
_STANDARD = ("", "ai.onnx")


def analyse(model: "onnx.ModelProto") -> OnnxChannels:
    """Determine the channels of a model in canonical form, with static shapes."""
    channels = OnnxChannels(model)
    walk = _Walk(channels)
    for number, node in enumerate(model.graph.node):
        walk.visit(NodePlace(node, number, channels))
    walk.lock((value.name for value in model.graph.output), OUTPUT)
    walk.lock_shared()
    return channels


class _Walk:
    def __init__(self, channels: OnnxChannels) -> None:
        self._channels = channels
        self._sets = channels.sets
        self._tracked: dict[str, ChannelAxis] = {}

    def visit(self, place: NodePlace) -> None:
        """Track the node's first output, or lock what it reads."""
        node = place.node
        result = None
        if node.domain in _STANDARD and len(node.output) >= 1:
            if node.op_type == "Split":
                if self._split(place):
                    return
            else:
                result = self._result(place)
        if result is None or (place.new and len(result.numbers) != place.new[result.axis]):
            self.lock(_read_by(node), f"{node.op_type} ({node.name}) needs all of them")
        else:
            self._tracked[node.output[0]] = result

    def lock(self, names: Iterable[str], reason: str) -> None:
        """Keep all channels of these values."""
        for name in names:
            if name in self._tracked:
                self._sets.lock(self._tracked[name].numbers, reason)

    def lock_shared(self) -> None:
        """Keep all channels of layers whose weights are read by something that is no layer of the same kind."""
        channels = self._channels
        readers = Counter(channels.runs.values())
        for layer in channels.inputs:
            weights = channels.node(layer).input[channels.weights[layer][0]]
            if channels.uses[weights] != readers[layer]:
                self._sets.lock([*channels.inputs[layer], *channels.outputs[layer]], SHARED)

    def _result(self, place: NodePlace) -> ChannelAxis | None:
        node = place.node
        special: dict[str, Callable[[NodePlace], ChannelAxis | None]] = {
            "Conv": self._convolution,
            "ConvTranspose": self._convolution,
            "Gemm": self._gemm,
            "MatMul": self._matmul,
            "BatchNormalization": self._norm,
            "InstanceNormalization": self._norm,
            "Concat": self._concat,
        }
        if node.op_type in special:
            return special[node.op_type](place)
        if node.op_type in ELEMENTWISE:
            return self._elementwise(place)
        incoming = self._tracked.get(node.input[0]) if node.input else None
        rule = RULES.get(node.op_type)
        return None if rule is None or incoming is None else rule(place, incoming)

    def _convolution(self, place: NodePlace) -> ChannelAxis | None:
        node, channels = place.node, self._channels
        if node.input[1] not in channels.constants:
            return None
        transposed = node.op_type == "ConvTranspose"
        groups = place.attribute("group", 1)
        weights = channels.shapes[node.input[1]]
        n_in, n_out = (weights[0], weights[1] * groups) if transposed else (weights[1] * groups, weights[0])
        return self._layer(place, 1, (n_in, n_out), across=0 if transposed else 1, axis=1, groups=groups)

    def _gemm(self, place: NodePlace) -> ChannelAxis | None:
        node, channels = place.node, self._channels
        if node.input[1] not in channels.constants or place.attribute("transA", 0):
            return None
        across = 1 if place.attribute("transB", 0) else 0
        shape = channels.shapes[node.input[1]]
        return self._layer(place, 1, (shape[across], shape[1 - across]), across=across, axis=1)

    def _matmul(self, place: NodePlace) -> ChannelAxis | None:
        node, channels = place.node, self._channels
        if node.input[1] not in channels.constants:
            return self._product(place)
        shape = channels.shapes[node.input[1]]
        if len(shape) != 2 or node.input[0] in channels.constants:  # noqa: PLR2004 - a matrix
            return None
        return self._layer(place, 1, (shape[0], shape[1]), across=0, axis=len(place.old) - 1)

    def _product(self, place: NodePlace) -> ChannelAxis | None:
        """A product of two computed tensors: the channels are one of the axes that both have, as attention heads are."""
        rank = len(place.new)
        found: ChannelAxis | None = None
        for name in place.node.input:
            tracked, shape = self._tracked.get(name), place.shape(name)
            if tracked is None:
                continue
            axis = tracked.axis + rank - len(shape)
            if tracked.axis >= len(shape) - 2 or (found is not None and axis != found.axis):
                return None
            if found is not None:
                if len(tracked.numbers) != len(found.numbers):
                    return None
                self._channels.tie(found.numbers, tracked.numbers)
            found = found or ChannelAxis(axis, tracked.numbers)
        if found is None:
            return None
        from_right = rank - found.axis
        untracked = [place.shape(name) for name in place.node.input if name not in self._tracked]
        if any(len(shape) >= from_right and shape[-from_right] > 1 for shape in untracked):
            return None
        return found

    def _layer(
        self,
        place: NodePlace,
        index: int,
        widths: tuple[int, int],
        *,
        across: int,
        axis: int,
        groups: int = 1,
    ) -> ChannelAxis | None:
        """A node with weights: new output channels."""
        node, channels = place.node, self._channels
        incoming = self._tracked.get(node.input[0])
        if incoming is not None and (incoming.axis != axis or len(incoming.numbers) != widths[0]):
            self._sets.lock(incoming.numbers, f"{node.name} reads them along another axis")
            incoming = None
        if incoming is None:
            incoming = ChannelAxis(axis, self._sets.fresh(widths[0]))
            self._sets.lock(incoming.numbers, INPUT)
        again = self._same_layer(place, index, across, groups)
        if again is not None:
            outputs = channels.outputs[again]
            channels.tie(channels.inputs[again], incoming.numbers)
            channels.runs[place.number] = again
        else:
            name = self._name(place, index)
            outputs = self._sets.fresh(widths[1])
            channels.nodes[name], channels.weights[name] = place.number, (index, across)
            channels.inputs[name], channels.outputs[name] = incoming.numbers, outputs
            channels.runs[place.number] = name
        if groups > 1:
            channels.tie_groups(incoming.numbers, outputs, groups)
            kept = incoming.numbers if across == 0 else outputs
            channels.cuts.append(Cut(place.number, index, 0, kept))
        else:
            channels.cuts.append(Cut(place.number, index, across, incoming.numbers))
            channels.cuts.append(Cut(place.number, index, 1 - across, outputs))
        if len(node.input) > index + 1 and node.input[index + 1] and not self._cut(place, index + 1, outputs):
            self._sets.lock(outputs, f"the bias of {node.name} is computed")
        return ChannelAxis(axis, outputs)

    def _same_layer(self, place: NodePlace, index: int, across: int, groups: int) -> str | None:
        """The layer that has the same weights and uses them in the same way; None if there is none yet."""
        channels = self._channels
        for layer in channels.inputs:
            other = channels.node(layer)
            if (other.op_type, channels.weights[layer], channels.groups_of(layer)) != (
                place.node.op_type,
                (index, across),
                groups,
            ):
                continue
            if other.input[index] == place.node.input[index]:
                return layer
        return None

    def _cut(self, place: NodePlace, index: int, numbers: list[int], from_right: int = 1) -> bool:
        """Cut a constant that may be broadcast; False if it is computed."""
        name = place.node.input[index]
        if name not in self._channels.constants:
            return False
        shape = self._channels.shapes[name]
        if len(shape) >= from_right and shape[-from_right] == len(numbers) > 1:
            self._channels.cuts.append(Cut(place.number, index, len(shape) - from_right, numbers))
        return True

    def _name(self, place: NodePlace, index: int) -> str:
        layer: str = place.node.input[index].rpartition(".")[0]
        return layer if layer and layer not in self._channels.outputs else str(place.node.name)

    def _norm(self, place: NodePlace) -> ChannelAxis | None:
        incoming = self._tracked.get(place.node.input[0])
        parameters = range(1, len(place.node.input))
        if incoming is None or incoming.axis != 1 or place.attribute("training_mode", 0):
            return None
        if any(place.node.input[index] not in self._channels.constants for index in parameters):
            return None
        for index in parameters:
            self._cut(place, index, incoming.numbers)
        if place.node.op_type == "BatchNormalization":
            name = self._name(place, 1)
            self._channels.nodes[name] = place.number
            self._channels.outputs[name] = incoming.numbers
        return incoming

    def _elementwise(self, place: NodePlace) -> ChannelAxis | None:
        """Equal channels, or a broadcast along other axes; constants with one element per channel are cut."""
        rank = len(place.new)
        known = [
            (self._tracked[name], len(place.shape(name)))
            for name in place.node.input
            if name in self._tracked
        ]
        if not known:
            return None
        first, own = known[0]
        from_right = own - first.axis
        size = len(first.numbers)
        for index, name in enumerate(place.node.input):
            tracked, shape = self._tracked.get(name), place.shape(name)
            if name in self._channels.constants:
                if len(shape) >= from_right and shape[-from_right] not in (1, size):
                    return None
                self._cut(place, index, first.numbers, from_right)
            elif tracked is None:
                if len(shape) >= from_right and shape[-from_right] > 1:
                    return None
            elif len(shape) - tracked.axis != from_right or len(tracked.numbers) != size:
                return None
            else:
                self._channels.tie(first.numbers, tracked.numbers)
        return ChannelAxis(rank - from_right, first.numbers)

    def _concat(self, place: NodePlace) -> ChannelAxis | None:
        axis = place.attribute("axis", 0) % len(place.new)
        parts: list[ChannelAxis | None] = [self._tracked.get(name) for name in place.node.input]
        known = [part for part in parts if part is not None]
        if not known:
            return None
        if all(part.axis != axis for part in known):  # along another axis: equal channels
            if len(known) < len(parts) or any(part.axis != known[0].axis for part in known):
                return None
            for other in known[1:]:
                self._channels.tie(known[0].numbers, other.numbers)
            return known[0]
        numbers: list[int] = []
        for name, part in zip(place.node.input, parts, strict=True):
            if part is None:
                mine = self._sets.fresh(place.shape(name)[axis])
                self._sets.lock(mine, INPUT)
                numbers += mine
            elif part.axis != axis:
                return None
            else:
                numbers += part.numbers
        return ChannelAxis(axis, numbers)

    def _split(self, place: NodePlace) -> bool:
        """Parts of the channels, or all channels in every part; False if they cannot be tracked."""
        incoming = self._tracked.get(place.node.input[0])
        if incoming is None:
            return False
        outputs = list(place.node.output)
        if place.attribute("axis", 0) % len(place.old) != incoming.axis:
            self._tracked.update(dict.fromkeys(outputs, incoming))
            return True
        if place.constant(1) is None:
            return False
        start = 0
        for position, name in enumerate(outputs):
            size = place.shape(name)[incoming.axis]
            part = incoming.numbers[start : start + size]
            start += size
            self._tracked[name] = ChannelAxis(incoming.axis, part)
            self._channels.dimensions.append(Dimension(place.number, 1, position, part))
        return True


def _read_by(node: "onnx.NodeProto") -> set[str]:
    """The values that a node reads, also inside its graphs."""
    names = set(node.input)
    for attribute in node.attribute:
        for graph in (attribute.g, *attribute.graphs):
            for inner in graph.node:
                names |= _read_by(inner)
            names |= {value.name for value in graph.output}
    return names
