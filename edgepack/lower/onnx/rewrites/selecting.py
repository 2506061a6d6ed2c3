"""Operators that select or generate elements, as comparisons and gathers of constant positions."""

from edgepack.lower.onnx.nodes import Node
from edgepack.lower.onnx.rewrites.patch import Patch, set_attributes


def rewrite_one_hot(node: Node, patch: Patch) -> list[str] | None:
    """OneHot of constant depth, for every element type; None if the depth is not constant."""
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


def rewrite_reverse_sequence(node: Node, patch: Patch) -> list[str] | None:
    """ReverseSequence: the position ``length - 1 - t`` while ``t`` is below the length, else ``t``."""
    import numpy as np

    data, lengths = node.input_type(0), node.input_type(1)
    time, batch = node.attribute("time_axis", 0), node.attribute("batch_axis", 1)
    if data is None or lengths is None or {time, batch} != {0, 1}:
        return None
    shape = data[1]

    def along(axis: int) -> list[int]:
        return [shape[axis] if each == axis else 1 for each in range(len(shape))]

    length = node.input(1) if lengths[0] == "int64" else patch.cast(node.input(1), "int64")
    length = patch.reshape(length, along(batch))
    steps = patch.constant(np.arange(shape[time]).reshape(along(time)))
    last = patch.op("Sub", length, patch.constant(1, "int64"))
    at = patch.op("Where", patch.op("Less", steps, length), patch.op("Sub", last, steps), steps)
    everywhere = patch.op("Expand", at, patch.constant(list(shape), "int64"))
    return [patch.op("GatherElements", node.input(0), everywhere, axis=time)]


def rewrite_eye_like(node: Node, patch: Patch) -> list[str] | None:
    """EyeLike: a constant, because the shape is known."""
    import numpy as np

    data, output = node.input_type(0), node.output_type()
    if data is None or output is None:
        return None
    rows, columns = data[1]
    eye = np.eye(rows, columns, node.attribute("k", 0))
    return [patch.op("Identity", patch.constant(eye.astype(output[0])))]


def rewrite_scalar_axes(node: Node, patch: Patch) -> list[str] | None:
    """Squeeze and Unsqueeze with the axes as a scalar or an empty constant."""
    axes = node.constant(1)
    if axes is None or (axes.ndim == 1 and axes.size):
        return None
    if axes.size:
        return patch.again(node.proto, node.input(0), patch.constant(axes.reshape(-1), "int64"))
    if node.proto.op_type == "Unsqueeze":
        return [patch.op("Identity", node.input(0))]
    return patch.again(node.proto, node.input(0))  # onnxruntime removes all axes of size 1


def rewrite_top_k(node: Node, patch: Patch) -> list[str] | None:
    """TopK in any order: sorted is one of them."""
    if node.attribute("sorted", 1):
        return None
    results = patch.again(node.proto, *node.proto.input)
    set_attributes(patch.nodes[-1], sorted=None)
    return results


def rewrite_pad(node: Node, patch: Patch) -> list[str] | None:
    """Pad with a value that is computed at run time: with zeros, then with the value where a padded mask is 0."""
    kind = node.input_type(0)
    computed = node.input(2) and node.constant(2) is None
    if kind is None or not computed or node.attribute("mode", b"constant") not in (b"constant", "constant"):
        return None
    inside = patch.op("Expand", patch.constant([1.0], "float32"), patch.constant(list(kind[1]), "int64"))
    rest = node.proto.input[3:]
    padded = patch.op("Pad", node.input(0), node.input(1), "", *rest)
    mask = patch.cast(patch.op("Pad", inside, node.input(1), "", *rest), "bool")
    return [patch.op("Where", mask, padded, node.input(2))]
