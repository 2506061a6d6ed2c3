"""Apply rules to the nodes of a model."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from edgepack.errors import ModelProblem
from edgepack.onnxfile.opset.site import Known, RefusedError, Rule, Site
from edgepack.onnxfile.protos import inner_graphs

if TYPE_CHECKING:
    import onnx

RuleOf = Callable[["onnx.NodeProto"], "Rule | None"]
"""Returns the rule for a node, or None if it stays as it is."""


def apply_rules(
    place: "onnx.GraphProto | onnx.FunctionProto", rule_of: RuleOf, known: Known, opset: int
) -> list[ModelProblem]:
    """Apply rules, in place, to the nodes of a graph or function and of the graphs inside its nodes.

    Returns the problem of each node that a rule refuses; such nodes stay as they are.
    """
    problems: list[ModelProblem] = []
    made: list[onnx.NodeProto] = []
    for node in place.node:
        for inner in inner_graphs(node):
            problems += apply_rules(inner, rule_of, known, opset)
        rule = rule_of(node)
        made += [_copy(node)] if rule is None else _replaced(node, rule, known, opset, problems)
    del place.node[:]
    place.node.extend(made)
    return problems


def _replaced(
    node: "onnx.NodeProto", rule: Rule, known: Known, opset: int, problems: list[ModelProblem]
) -> "list[onnx.NodeProto]":
    site = Site(_copy(node), known)
    try:
        rule(site)
    except RefusedError as refused:
        name = node.name or f"that computes {node.output[0]!r}"
        message = f"operator {node.op_type} (opset {opset}) cannot be imported in this form"
        problems.append(ModelProblem(node.op_type, name, message, refused.why, refused.next_step))
        return [_copy(node)]
    return [*site.before, site.node, *site.after]


def _copy(node: "onnx.NodeProto") -> "onnx.NodeProto":
    copy = type(node)()
    copy.CopyFrom(node)
    return copy
