"""Apply the rules to a model."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from edgepack.errors import ModelProblem, UnsupportedError
from edgepack.onnxfile.contrib.advice import advice
from edgepack.onnxfile.contrib.emitter import Emitter, infer
from edgepack.onnxfile.contrib.table import rule_for
from edgepack.onnxfile.opset.site import Known, RefusedError, known_of
from edgepack.onnxfile.protos import copy_of, graphs, replace_all

if TYPE_CHECKING:
    import onnx


def require_rules(model: "onnx.ModelProto", where: str) -> None:
    """Check that every operator that is not standard has a rule.

    Raises:
        UnsupportedError: with every node that has none.
    """
    problems = [
        _unknown(node)
        for graph in graphs(model.graph)
        for node in graph.node
        if node.domain and rule_for(node) is None
    ]
    if problems:
        raise UnsupportedError(where, problems)


def convert_contrib(model: "onnx.ModelProto", opset: int, where: str) -> "onnx.ModelProto":
    """Return the model with the nodes of onnxruntime's own operators replaced by standard ones.

    ``opset`` is that of the model's standard operators. More forms can be replaced if the inputs' shapes are fixed.

    Raises:
        UnsupportedError: with every node whose form cannot be expressed by standard operators.
    """
    if not any(node.domain for graph in graphs(model.graph) for node in graph.node):
        return model
    model = copy_of(model)
    known = known_of(model)
    problems: list[ModelProblem] = []
    for graph in reversed(list(graphs(model.graph))):
        _convert(graph, known, opset, problems)
    if problems:
        raise UnsupportedError(where, problems)
    return model


def _convert(graph: "onnx.GraphProto", known: Known, opset: int, problems: list[ModelProblem]) -> None:
    made: list[onnx.NodeProto] = []
    for node in graph.node:
        rule = rule_for(node)
        if rule is None:
            problems += [_unknown(node)] if node.domain else []
            made.append(node)
            infer(node, known, opset)
            continue
        emitter = Emitter(node, known, opset)
        try:
            _name_outputs(emitter, rule(emitter))
        except RefusedError as refused:
            message = f"operator {_named(node)} cannot be compiled in this form"
            problems.append(ModelProblem(_named(node), _place(node), message, refused.why, refused.next_step))
            continue
        made += emitter.nodes
    replace_all(graph.node, made)


def _unknown(node: "onnx.NodeProto") -> ModelProblem:
    why = "it is not a standard operator, and edgepack has no definition of it by standard ones"
    message = f"operator {_named(node)} cannot be compiled"
    return ModelProblem(_named(node), _place(node), message, why, advice(node.domain, node.op_type))


def _named(node: "onnx.NodeProto") -> str:
    return f"{node.domain}.{node.op_type}"


def _place(node: "onnx.NodeProto") -> str:
    return node.name or f"that computes {next(filter(None, node.output), '')}"


def _name_outputs(emitter: Emitter, values: Sequence[str]) -> None:
    """Copy the values to the outputs of the node that is replaced."""
    for index, output in enumerate(emitter.node.output):
        value = values[index] if index < len(values) else ""
        if value and output:
            made = emitter.op("Identity", value)
            emitter.nodes[-1].output[0] = output
            emitter.known.types[output] = emitter.known.types.get(made, (0, None))
        elif emitter.wants(index):
            raise RefusedError(
                f"its output {output!r} cannot be computed", "save the model without this output"
            )
