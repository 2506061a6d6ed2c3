"""If on a computed condition: both branches are computed, and the results of one are selected.

TVM's importer would leave a graph with a branch unfused as a whole, and its converters see no types inside of one.
"""

from edgepack.lower.onnx.nodes import Node
from edgepack.lower.onnx.rewrites.patch import Patch
from edgepack.onnxfile.unrolling import Inlined


def rewrite_if(node: Node, patch: Patch) -> list[str] | None:
    """If whose branches give tensors of the same known types."""
    if any(name and node.types.get(name) is None for name in node.proto.output):
        return None
    results = []
    for name in ("then_branch", "else_branch"):
        branch = next(each.g for each in node.proto.attribute if each.name == name)
        if not all(value.type.tensor_type.elem_type for value in branch.output):
            return None
        inlined = Inlined(f"{node.proto.name}/{name}")
        results.append(inlined.body(branch, "", {}))
        patch.nodes.extend(inlined.nodes)
        patch.constants.extend(inlined.constants)
    scalar = patch.op("Reshape", node.input(0), patch.constant([], "int64"))
    return [patch.op("Where", scalar, one, other) for one, other in zip(*results, strict=True)]
