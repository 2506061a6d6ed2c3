"""Operators that cannot be compiled whatever the sizes of the inputs are: named before a user fixes these."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Any

from edgepack.errors import ModelProblem
from edgepack.lower.onnx.recurrent import RECURRENT
from edgepack.lower.onnx.rewrites.passes import REWRITES
from edgepack.lower.onnx.support import missing
from edgepack.onnxfile import opset_of
from edgepack.onnxfile.inlining import STANDARD, is_function
from edgepack.onnxfile.protos import reads

_OF_SHAPES = {"Shape", "Size"}  # what is computed from these alone becomes constant when the sizes are fixed


def unavoidable(model: Any) -> list[ModelProblem]:
    """Return the problems of a model with open axes that no choice of sizes avoids.

    A node in a branch counts if each branch of its ``If`` has one with that operator: the condition may become known.
    """
    graph = model.graph
    given = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    lacking = _lacking({each.domain for each in model.opset_import}, opset_of(model))
    return [missing(node.op_type, node.name) for node in _certain(graph.node, given, lacking)]


def _lacking(domains: set[str], opset: int) -> set[str]:
    """The standard operators for which there is no converter, no rewrite and no definition by others."""
    import onnx
    from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map

    if domains.isdisjoint(STANDARD):
        return set()
    names = {schema.name for schema in onnx.defs.get_all_schemas() if not schema.domain}
    names -= {"If", *RECURRENT, *_get_convert_map(), *REWRITES}
    return {name for name in names if onnx.defs.has(name, opset) and not is_function(name, opset)}


def _certain(nodes: Any, given: AbstractSet[str], lacking: AbstractSet[str]) -> Iterator[Any]:
    """Yield the nodes with such an operator that are computed from the model's inputs, not only from their sizes."""
    computed = set(given)
    for node in nodes:
        if node.op_type in _OF_SHAPES or computed.isdisjoint(reads(node)):
            continue
        computed.update(node.output)
        if node.domain not in STANDARD:
            continue
        if node.op_type in lacking:
            yield node
        elif node.op_type == "If":
            branches = [list(_certain(each.g.node, computed, lacking)) for each in node.attribute]
            kinds = set.intersection(*({each.op_type for each in branch} for branch in branches))
            yield from (each for branch in branches for each in branch if each.op_type in kinds)
