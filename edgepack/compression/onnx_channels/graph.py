"""The channel numbers of an ONNX graph, and where they occur in its constants."""

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.torchnet.channels.table import ChannelTable, Volume

if TYPE_CHECKING:
    import numpy as np
    import onnx


@dataclass(frozen=True)
class ChannelAxis:
    """The channel axis of a tensor and the channel number of each index along it."""

    axis: int
    numbers: list[int]


@dataclass(frozen=True)
class Cut:
    """An axis of a constant, as one node reads it, along which channels are removed."""

    node: int  # its position in the graph
    index: int  # of the node's input
    axis: int
    numbers: list[int]


@dataclass(frozen=True)
class Dimension:
    """An element of a constant that is a number of channels: of a shape, or a part of a Split."""

    node: int
    index: int
    position: int
    numbers: list[int]


class OnnxChannels(ChannelTable):
    """Channel numbers of the layers of an ONNX graph in canonical form.

    Layers are named after their weights (``stem.0`` for ``stem.0.weight``), or as their node.

    Attributes:
        model: the analysed model.
        constants: its initializers, by name.
        shapes: the static shape of every value, by name.
        nodes: the position of each layer's node; of its first, if several nodes have its weights.
        runs: the layer of every node that has weights, by the node's position.
        weights: position of the weights among its inputs, and the axis with the input channels.
        cuts: axes of constants that have channels.
        dimensions: elements of constants that are numbers of channels.
    """

    def __init__(self, model: "onnx.ModelProto") -> None:
        from onnx import numpy_helper

        from edgepack.onnxfile.protos import graphs

        super().__init__()
        self.model = model
        self.constants = {tensor.name: tensor for tensor in model.graph.initializer}
        self.shapes = {name: tuple(tensor.dims) for name, tensor in self.constants.items()}
        for value in (*model.graph.input, *model.graph.value_info, *model.graph.output):
            self.shapes[value.name] = tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
        self.nodes: dict[str, int] = {}
        self.runs: dict[int, str] = {}
        self.weights: dict[str, tuple[int, int]] = {}
        self.cuts: list[Cut] = []
        self.dimensions: list[Dimension] = []
        self.uses = Counter(
            name for graph in graphs(model.graph) for node in graph.node for name in node.input
        )
        self._array = numpy_helper.to_array

    def value(self, name: str) -> "np.ndarray":
        """Return the elements of an initializer."""
        array: np.ndarray = self._array(self.constants[name])
        return array

    def node(self, layer: str) -> "onnx.NodeProto":
        """Return the node of a layer."""
        return self.model.graph.node[self.nodes[layer]]

    def filters(self, layer: str) -> "np.ndarray":
        """Return the weights of a layer with one row per output channel; of a layer that is not grouped."""
        import numpy as np

        index, across = self.weights[layer]
        weights = self.value(self.node(layer).input[index])
        return np.moveaxis(weights, 1 - across, 0).reshape(len(self.outputs[layer]), -1)

    def groups_of(self, layer: str) -> int:
        """Return the groups of a convolution; 1 for other layers."""
        return next((int(a.i) for a in self.node(layer).attribute if a.name == "group"), 1)

    def axes(self, layer: str) -> tuple[list[int], ...]:
        """The numbers along the axes of a layer's weights: outputs and inputs, or outputs alone if it is grouped."""
        if self.groups_of(layer) > 1:
            return (self.outputs[layer],)
        return (self.outputs[layer], self.inputs[layer])

    def elements(self) -> list[Volume]:
        """The bytes of all constants."""
        axes: dict[str, tuple[list[int], ...]] = {}
        counted: set[tuple[str, int]] = set()
        for cut in self.cuts:
            name = self.model.graph.node[cut.node].input[cut.index]
            if (name, cut.axis) not in counted:
                counted.add((name, cut.axis))
                axes[name] = (*axes.get(name, ()), cut.numbers)
        return [Volume(len(tensor.raw_data), axes.get(name, ())) for name, tensor in self.constants.items()]

    def macs(self, by_node: dict[str, int]) -> list[Volume]:
        """The multiply-accumulates of all nodes, given those with all channels by the node's name."""
        of_layer = {
            self.model.graph.node[number].name: self.axes(layer) for number, layer in self.runs.items()
        }
        return [Volume(macs, of_layer.get(name, ())) for name, macs in by_node.items()]
