"""OneHot as a comparison with all positions, for every element type."""

from edgepack.lower.onnx.nodes import Node
from edgepack.lower.onnx.rewrites.patch import Patch


def rewrite_one_hot(node: Node, patch: Patch) -> list[str] | None:
    """OneHot of constant depth; None if the depth is not constant."""
    import numpy as np

    indices, depth, values = node.input_type(0), node.constant(1), node.input_type(2)
    if indices is None or depth is None or values is None:
        return None
    depth = int(depth.reshape(-1)[0])
    rank = len(indices[1])
    axis = node.attribute("axis", -1) % (rank + 1)
    at = node.input(0) if indices[0] == "int64" else patch.cast(node.input(0), "int64")
    if not indices[0].startswith(
        "u"
    ):  # negative ones count from the end; others are out of range, and match nothing
        below = patch.op("Less", at, patch.constant(0, "int64"))
        at = patch.op("Where", below, patch.op("Add", at, patch.constant(depth, "int64")), at)
    at = patch.reshape(at, [*indices[1][:axis], 1, *indices[1][axis:]])
    positions = np.arange(depth).reshape(-1, *[1] * (rank - axis))
    same = patch.op("Equal", at, patch.constant(positions, "int64"))
    constant = node.constant(2)
    off, on = (
        patch.scalar(constant[i], values[0])
        if constant is not None
        else patch.op("Gather", node.input(2), patch.constant(i, "int64"))
        for i in (0, 1)
    )
    return [patch.op("Where", same, on, off)]
