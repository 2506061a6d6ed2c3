"""What a graph says about the values of its inputs: indices within their tables, masks, arguments of logarithms.

Nothing is run. Operators state what they expect of their inputs (a Gather: indices of the rows of its table), and each
expectation is followed from a node's outputs to its inputs, through operators that keep, move or scale values. The
analysis guides made-up samples (an input without an entry may have any value); :mod:`edgepack.onnxfile.ranges` says
which indices are errors.
"""

from typing import TYPE_CHECKING

from edgepack.onnxfile.expectations import ANY, Expected, demands
from edgepack.onnxfile.known_values import KnownValues

if TYPE_CHECKING:
    import onnx

__all__ = ["Expected", "input_uses", "value_uses"]


def input_uses(model: "onnx.ModelProto") -> dict[str, Expected]:
    """What the graph expects of each of its inputs, by name; those that may have any value are left out.

    Shapes and external data need not be complete: what is unknown says nothing.
    """
    found = value_uses(model)
    constants = {tensor.name for tensor in model.graph.initializer}
    return {
        value.name: found[value.name]
        for value in model.graph.input
        if value.name not in constants and found.get(value.name, ANY) != ANY
    }


def value_uses(model: "onnx.ModelProto") -> dict[str, Expected]:
    """What is expected of every value of the graph, by name; indices are counted from 0, without negative ones."""
    facts = KnownValues(_prepared(model))
    found: dict[str, Expected] = {}
    _follow(facts.model.graph, facts, found)
    return found


def _follow(graph: "onnx.GraphProto", facts: "KnownValues", found: dict[str, Expected]) -> None:
    from onnx import AttributeProto

    for node in reversed(graph.node):
        outputs = ANY
        for name in node.output:
            outputs = outputs.both(found.get(name, ANY))
        for attribute in node.attribute:
            if attribute.type == AttributeProto.GRAPH:
                if node.op_type == "If":
                    for inner, outer in zip(attribute.g.output, node.output, strict=False):
                        found[inner.name] = found.get(outer, ANY)
                _follow(attribute.g, facts, found)
        for index, use in demands(node, outputs, facts):
            name = node.input[index] if index < len(node.input) else ""
            if name and use != ANY:
                found[name] = found.get(name, ANY).both(use)


def _prepared(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """The model with its local functions inlined and its shapes inferred, as far as that is possible."""
    import onnx
    import onnx.inliner

    try:
        inlined = onnx.inliner.inline_local_functions(model) if model.functions else model
        return onnx.shape_inference.infer_shapes(inlined, data_prop=True)
    except Exception:  # noqa: BLE001 - of no common class
        return model  # an unusual file, or one of more than 2 GiB: only declared shapes are known
