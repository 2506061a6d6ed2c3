"""Replace operators on sequences of known length by operators on the tensors in them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgepack.onnxfile.unrolling import Inlined

if TYPE_CHECKING:
    import onnx

OPERATORS = {
    "ConcatFromSequence",
    "SequenceAt",
    "SequenceConstruct",
    "SequenceEmpty",
    "SequenceErase",
    "SequenceInsert",
    "SequenceLength",
    "SplitToSequence",
}


class Sequences:
    """The sequences of a graph whose elements are known, by name: each a list of names of tensors."""

    def __init__(
        self, constants: "Mapping[str, onnx.TensorProto]", shapes: Mapping[str, tuple[int, ...]]
    ) -> None:
        self._constants, self._shapes = constants, shapes
        self._known: dict[str, list[str]] = {}

    def replace(self, node: "onnx.NodeProto") -> Inlined | None:
        """Return what replaces an operator on sequences; None if it depends on the data.

        Nodes that make sequences are replaced by nothing.
        """
        import numpy as np
        import onnx

        attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
        made = Inlined(node.name)
        output = node.output[0]
        if node.op_type == "SplitToSequence":
            parts = self._split(node, attributes, made)
            if parts is None:
                return None
            self._known[output] = parts
        elif node.op_type in {"SequenceConstruct", "SequenceEmpty"}:
            self._known[output] = list(node.input)
        elif node.input[0] not in self._known:
            return None
        elif node.op_type == "SequenceLength":
            length = made.constant("length", np.array(len(self._known[node.input[0]])))
            made.add("Identity", [length], output)
        elif node.op_type == "ConcatFromSequence":
            parts, axis = self._known[node.input[0]], int(attributes["axis"])
            if attributes.get("new_axis", 0):
                made.stack(parts, axis, output)
            else:
                made.add("Concat", parts, output, axis=axis)
        else:
            return self._at_position(node, made)
        return made

    def _at_position(self, node: "onnx.NodeProto", made: Inlined) -> Inlined | None:
        """SequenceAt, SequenceErase and SequenceInsert; None if the position is computed, or is none."""
        items = list(self._known[node.input[0]])
        index = 2 if node.op_type == "SequenceInsert" else 1
        given = node.input[index] if len(node.input) > index else ""
        places = len(items) + (node.op_type == "SequenceInsert")
        position = places - 1 if not given else self._scalar(given)
        if position is None or not -places <= position < places:
            return None
        position %= places
        if node.op_type == "SequenceAt":
            made.add("Identity", [items[position]], node.output[0])
        elif node.op_type == "SequenceErase":
            self._known[node.output[0]] = items[:position] + items[position + 1 :]
        else:
            self._known[node.output[0]] = [*items[:position], node.input[1], *items[position:]]
        return made

    def _split(
        self, node: "onnx.NodeProto", attributes: Mapping[str, Any], made: Inlined
    ) -> list[str] | None:
        import numpy as np
        import onnx

        shape = self._shapes.get(node.input[0])
        if shape is None or (len(node.input) > 1 and node.input[1] not in self._constants):
            return None
        axis = int(attributes.get("axis", 0)) % len(shape)
        size, step, sizes = shape[axis], 1, None
        if len(node.input) > 1:
            split = onnx.numpy_helper.to_array(self._constants[node.input[1]])
            if split.ndim:
                sizes = [int(each) for each in split]
            step = int(split.reshape(-1)[0])
        sizes = sizes or [min(step, size - start) for start in range(0, size, step)]
        parts = [f"{node.output[0]}/{number}" for number in range(len(sizes))]
        lengths = made.constant("sizes", np.array(sizes))
        made.nodes.append(
            onnx.helper.make_node(
                "Split", [node.input[0], lengths], parts, name=f"{node.name}/split", axis=axis
            )
        )
        if len(node.input) > 1 or attributes.get("keepdims", 1):
            return parts
        axes = made.constant("axes", np.array([axis]))
        return [made.add("Squeeze", [part, axes], f"{part}/squeezed") for part in parts]

    def _scalar(self, name: str) -> int | None:
        import onnx

        if name not in self._constants:
            return None
        return int(onnx.numpy_helper.to_array(self._constants[name]).reshape(-1)[0])
