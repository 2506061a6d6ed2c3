"""Unroll loops whose number of steps is known: Loop with a constant trip count, and Scan.

A loop that may end earlier depends on the data, and stays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgepack.onnxfile.protos import inner_graphs

if TYPE_CHECKING:
    import numpy as np
    import onnx

MOST_NODES = 4096  # of one unrolled loop: each becomes code of its own


def rename(node: "onnx.NodeProto", names: Mapping[str, str]) -> None:
    """Rename values in a node and in its subgraphs, in place; a name that a subgraph defines anew is left alone."""
    for place in (node.input, node.output):
        for i, name in enumerate(place):
            place[i] = names.get(name, name)
    for graph in inner_graphs(node):
        own = {value.name for value in (*graph.input, *graph.initializer)}
        own |= {name for each in graph.node for name in each.output}
        outer = {name: new for name, new in names.items() if name not in own}
        for each in graph.node:
            rename(each, outer)
        for value in graph.output:
            value.name = outer.get(value.name, value.name)


@dataclass
class Inlined:
    """Nodes and constants that replace a node with a subgraph."""

    name: str
    nodes: "list[onnx.NodeProto]" = field(default_factory=list)
    constants: "list[onnx.TensorProto]" = field(default_factory=list)

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: Any) -> str:
        """Add a node; returns its output."""
        import onnx

        self.nodes.append(onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: "np.ndarray") -> str:
        """Add a constant; returns its name, which begins with the node's."""
        import onnx

        name = f"{self.name}/{name}"
        self.constants.append(onnx.numpy_helper.from_array(value, name))
        return name

    def body(self, graph: "onnx.GraphProto", step: str, given: Mapping[str, str]) -> list[str]:
        """Add a copy of a subgraph whose inputs are ``given``, with names of its own; returns its outputs."""
        import onnx

        own = {tensor.name for tensor in graph.initializer} | {o for each in graph.node for o in each.output}
        names = {each: f"{self.name}/{step}{each}" for each in own if each} | dict(given)
        for tensor in graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = names[tensor.name]
            self.constants.append(copy)
        for node in graph.node:
            copied = onnx.NodeProto()
            copied.CopyFrom(node)
            rename(copied, names)
            self.nodes.append(copied)
        return [names.get(value.name, value.name) for value in graph.output]

    def stack(self, parts: Sequence[str], axis: int, output: str) -> None:
        """Add nodes that join the parts of every step along a new axis."""
        import numpy as np

        at = self.constant(f"axis_{output}", np.array([axis]))
        rows = [
            self.add("Unsqueeze", [part, at], f"{self.name}/{number}/{output}")
            for number, part in enumerate(parts)
        ]
        self.add("Concat", rows, output, axis=axis)


def unroll_loop(node: "onnx.NodeProto", constants: "Mapping[str, onnx.TensorProto]") -> Inlined | None:
    """Unroll a Loop of constant trip count whose condition stays true; None if it is another."""
    import numpy as np
    import onnx

    (body,) = inner_graphs(node)
    trips, condition = node.input[0], node.input[1] if len(node.input) > 1 else ""
    if trips not in constants or (condition and not _true(constants.get(condition))) or not _goes_on(body):
        return None
    count = int(onnx.numpy_helper.to_array(constants[trips]).reshape(-1)[0])
    if not 0 < count * len(body.node) <= MOST_NODES:
        return None
    made = Inlined(node.name)
    go = made.constant("go", np.array(True))
    values = list(node.input[2:])
    steps = []
    for step in range(count):
        at = made.constant(f"step_{step}", np.array(step))
        given = dict(zip([each.name for each in body.input], [at, go, *values], strict=True))
        results = made.body(body, f"{step}/", given)
        values = results[1 : 1 + len(values)]
        steps.append(results[1 + len(values) :])
    for value, output in zip(values, node.output, strict=False):
        if output:
            made.add("Identity", [value], output)
    for i, output in enumerate(node.output[len(values) :]):
        if output:
            made.stack([each[i] for each in steps], 0, output)
    return made


def unroll_scan(node: "onnx.NodeProto", shapes: Mapping[str, tuple[int, ...]]) -> Inlined | None:
    """Unroll a Scan over inputs of known shape; None if it is not known or there are too many steps."""
    import numpy as np
    import onnx

    (body,) = inner_graphs(node)
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    scanned = int(attributes["num_scan_inputs"])
    kept = len(node.input) - scanned
    values, inputs = list(node.input[:kept]), list(node.input[kept:])
    axes = attributes.get("scan_input_axes", [0] * scanned)
    backward = attributes.get("scan_input_directions", [0] * scanned)
    results_count = len(node.output) - kept
    output_axes = attributes.get("scan_output_axes", [0] * results_count)
    reversed_outputs = attributes.get("scan_output_directions", [0] * results_count)
    if any(name not in shapes for name in inputs):
        return None
    count = shapes[inputs[0]][axes[0]]
    if not 0 < count * len(body.node) <= MOST_NODES:
        return None
    made = Inlined(node.name)
    steps = []
    for step in range(count):
        parts: list[str] = []
        for name, axis, back in zip(inputs, axes, backward, strict=True):
            at = made.constant(f"{step}/at_{len(parts)}", np.array(count - 1 - step if back else step))
            part = f"{node.name}/{step}/part_{len(parts)}"
            parts.append(made.add("Gather", [name, at], part, axis=int(axis)))
        given = dict(zip([each.name for each in body.input], [*values, *parts], strict=True))
        results = made.body(body, f"{step}/", given)
        values = results[:kept]
        steps.append(results[kept:])
    for value, output in zip(values, node.output, strict=False):
        if output:
            made.add("Identity", [value], output)
    for i, output in enumerate(node.output[kept:]):
        rows = [each[i] for each in steps]
        if output:
            made.stack(rows[::-1] if reversed_outputs[i] else rows, int(output_axes[i]), output)
    return made


def take_branch(node: "onnx.NodeProto", constants: "Mapping[str, onnx.TensorProto]") -> Inlined | None:
    """Return the branch of an If whose condition is known; None if it is not."""
    import onnx

    if node.input[0] not in constants:
        return None
    condition = bool(onnx.numpy_helper.to_array(constants[node.input[0]]).all())
    name = "then_branch" if condition else "else_branch"
    made = Inlined(node.name)
    results = made.body(next(each.g for each in node.attribute if each.name == name), "", {})
    for result, output in zip(results, node.output, strict=True):
        if output:
            made.add("Identity", [result], output)
    return made


def _goes_on(body: "onnx.GraphProto") -> bool:
    """Whether a loop's condition after each step is the one before it, or always true."""
    import onnx

    name, before = body.output[0].name, body.input[1].name
    makers = {output: node for node in body.node for output in node.output}
    while name in makers and makers[name].op_type == "Identity":
        name = makers[name].input[0]
    if name == before:
        return True
    constants = {tensor.name: tensor for tensor in body.initializer}
    if name in makers and makers[name].op_type == "Constant":
        value = next((each.t for each in makers[name].attribute if each.name == "value"), None)
        return value is not None and bool(onnx.numpy_helper.to_array(value).all())
    return _true(constants.get(name))


def _true(tensor: "onnx.TensorProto | None") -> bool:
    import onnx

    return tensor is not None and bool(onnx.numpy_helper.to_array(tensor).all())
