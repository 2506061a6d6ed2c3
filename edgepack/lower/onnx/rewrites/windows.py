"""Pools and convolutions in forms that TVM's converters lack or compute incorrectly."""

from collections.abc import Sequence
from math import prod
from typing import Any

from edgepack.lower.onnx.nodes import Node
from edgepack.lower.onnx.rewrites.patch import Patch, set_attributes


class Window:
    """The window of a pool or a convolution over ``rank`` axes, its padding resolved by the sizes before and after."""

    def __init__(
        self, node: Node, before: Sequence[int], after: Sequence[int], kernel: Sequence[int]
    ) -> None:
        rank = len(before)
        self.kernel = list(kernel)
        self.strides = list(node.attribute("strides", [1] * rank))
        self.dilations = list(node.attribute("dilations", [1] * rank))
        self.extents = [(k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True)]
        same = node.attribute("auto_pad", "NOTSET")
        pads = list(node.attribute("pads", [0] * 2 * rank)) if same == "NOTSET" else [0] * 2 * rank
        self.begin = pads[:rank]
        reach = [(n - 1) * s + e for n, s, e in zip(after, self.strides, self.extents, strict=True)]
        if same.startswith("SAME"):
            missing = [max(r - n, 0) for r, n in zip(reach, before, strict=True)]
            self.begin = [each // 2 if same == "SAME_UPPER" else each - each // 2 for each in missing]
        # Up to the end of the last window, which may be beyond the declared padding if sizes are rounded up.
        self.end = [r - n - b for r, n, b in zip(reach, before, self.begin, strict=True)]

    @property
    def pads(self) -> list[int]:
        """Padding as in ONNX: all beginnings, then all ends; negative ends are elements that no window reads."""
        return [*self.begin, *(max(each, 0) for each in self.end)]


def window_of(node: Node) -> Window | None:
    """Return the window of a pool; None if a shape is not known."""
    data, output = node.input_type(0), node.output_type()
    if data is None or output is None:
        return None
    return Window(node, data[1][2:], output[1][2:], node.attribute("kernel_shape"))


def rewrite_automatic_padding(node: Node, patch: Patch) -> list[str] | None:
    """Pools with SAME_UPPER or SAME_LOWER: the same padding as numbers."""
    window = window_of(node)
    if window is None or not node.attribute("auto_pad", "NOTSET").startswith("SAME"):
        return None
    results = patch.again(node.proto, node.input(0))
    set_attributes(patch.nodes[-1], auto_pad=None, ceil_mode=None, pads=window.pads)
    return results


def rewrite_max_pool(node: Node, patch: Patch) -> list[str] | None:
    """MaxPool with indices: the maximum of the elements that a constant table lists for each window."""
    import numpy as np

    data, window = node.input_type(0), window_of(node)
    indexed = len(node.proto.output) > 1 and bool(node.proto.output[1])
    if not indexed:
        if node.attribute("storage_order") is None and len(node.proto.output) == 1:
            return None
        results = patch.again(node.proto, node.input(0))  # the order is that of the indices
        set_attributes(patch.nodes[-1], storage_order=None)
        del patch.nodes[-1].output[1:]
        return results[:1]
    output = node.output_type()
    if data is None or output is None or window is None:
        return None
    dtype, shape = data
    sizes, outer = shape[2:], prod(shape[:2])
    at = _positions(window, sizes, output[1][2:])  # [outputs, kernel], -1 for padding
    lowest = -np.inf if dtype.startswith("float") else np.iinfo(dtype).min
    flat = patch.reshape(node.input(0), [outer, prod(sizes)])
    padded = patch.op("Concat", flat, patch.constant(np.full((outer, 1), lowest), dtype), axis=1)
    taken = patch.op("Gather", padded, patch.constant(np.where(at < 0, prod(sizes), at)), axis=1)
    best = patch.op("ArgMax", taken, axis=2, keepdims=1)  # [outer, outputs, 1]
    highest = patch.op("GatherElements", taken, best, axis=2)
    if node.attribute("storage_order", 0):
        column = np.arange(prod(sizes)).reshape(sizes, order="F").reshape(-1)
        at = np.where(at < 0, 0, column[at])
    table = patch.constant(np.broadcast_to(at, (outer, *at.shape)), "int64")
    local = patch.op("GatherElements", table, best, axis=2)
    start = patch.constant((np.arange(outer) * prod(sizes)).reshape(outer, 1, 1))
    return [
        patch.reshape(highest, output[1]),
        patch.reshape(patch.op("Add", local, start), output[1]),
    ]


def _positions(window: Window, sizes: Sequence[int], outputs: Sequence[int]) -> Any:
    """Return for each output the flat positions that its window covers, ``[outputs, kernel]``; -1 for padding."""
    import numpy as np

    rank = len(sizes)
    flat: Any = np.zeros((1,) * 2 * rank, np.int64)
    inside: Any = np.ones((1,) * 2 * rank, bool)
    for axis, size in enumerate(sizes):
        starts = np.arange(outputs[axis]) * window.strides[axis] - window.begin[axis]
        at = starts[:, None] + np.arange(window.kernel[axis]) * window.dilations[axis]
        at = at.reshape([{axis: len(at), rank + axis: at.shape[1]}.get(each, 1) for each in range(2 * rank)])
        flat = flat * size + at
        inside = inside & (at >= 0) & (at < size)
    table = np.where(inside, flat, -1)
    return table.reshape(prod(outputs), prod(window.kernel))


def rewrite_lp_pool(node: Node, patch: Patch) -> list[str] | None:
    """LpPool of rounded-up sizes: a sum of powers, as a convolution of each channel with ones."""
    import numpy as np

    data, window, p = node.input_type(0), window_of(node), node.attribute("p", 2)
    if data is None or window is None or not node.attribute("ceil_mode", 0):
        return None
    dtype, shape = data
    power = patch.op("Pow", patch.op("Abs", node.input(0)), patch.scalar(p, dtype))
    ones = patch.constant(np.ones((shape[1], 1, *window.kernel)), dtype)
    total = patch.op(
        "Conv",
        power,
        ones,
        group=shape[1],
        strides=window.strides,
        dilations=window.dilations,
        pads=window.pads,
    )
    return [patch.op("Pow", total, patch.scalar(1 / p, dtype))]


def rewrite_conv_transpose(node: Node, patch: Patch) -> list[str] | None:
    """ConvTranspose with ``output_shape``: the padding that gives it."""
    wanted, data, kernel = node.attribute("output_shape"), node.input_type(0), node.input_type(1)
    if wanted is None or data is None or kernel is None:
        return None
    rank = len(data[1]) - 2
    strides = node.attribute("strides", [1] * rank)
    dilations = node.attribute("dilations", [1] * rank)
    extra = node.attribute("output_padding", [0] * rank)
    begin, end, padding = [], [], []
    for axis, size in enumerate(list(wanted)[-rank:]):
        full = strides[axis] * (data[1][2 + axis] - 1) + (kernel[1][2 + axis] - 1) * dilations[axis] + 1
        total = full + extra[axis] - size
        padding.append(extra[axis] + max(-total, 0))
        total = max(total, 0)
        first = total // 2 if node.attribute("auto_pad", "NOTSET") == "SAME_UPPER" else total - total // 2
        begin.append(first)
        end.append(total - first)
    results = patch.again(node.proto, *node.proto.input)
    pads = [*begin, *end]
    set_attributes(patch.nodes[-1], output_shape=None, auto_pad=None, pads=pads, output_padding=padding)
    return results


def rewrite_col2im(node: Node, patch: Patch) -> list[str] | None:
    """Col2Im: a transposed convolution that puts each row of a column at its place in the block."""
    import numpy as np

    data, image, block = node.input_type(0), node.constant(1), node.constant(2)
    if data is None or image is None or block is None:
        return None
    rank = len(image)
    window = [int(each) for each in block]
    strides, dilations = node.attribute("strides", [1] * rank), node.attribute("dilations", [1] * rank)
    pads = node.attribute("pads", [0] * 2 * rank)
    extents = [(k - 1) * d + 1 for k, d in zip(window, dilations, strict=True)]
    blocks = [
        (int(size) + pads[i] + pads[rank + i] - extents[i]) // strides[i] + 1 for i, size in enumerate(image)
    ]
    batch, rows, _ = data[1]
    channels = rows // prod(window)
    left = [
        int(size) + pads[i] + pads[rank + i] - (strides[i] * (blocks[i] - 1) + extents[i])
        for i, size in enumerate(image)
    ]
    columns = patch.reshape(node.input(0), [batch, rows, *blocks])
    places = np.tile(np.eye(prod(window)), (channels, 1)).reshape(rows, 1, *window)
    return [
        patch.op(
            "ConvTranspose",
            columns,
            patch.constant(places, data[0]),
            group=channels,
            strides=list(strides),
            dilations=list(dilations),
            pads=list(pads),
            output_padding=left if any(left) else None,
        )
    ]


def rewrite_roi_align(node: Node, patch: Patch) -> list[str] | None:
    """RoiAlign by half pixels with a scale: the half pixel is that of the scaled image."""
    rois, scale = node.input_type(1), node.attribute("spatial_scale", 1.0)
    how = node.attribute("coordinate_transformation_mode", "half_pixel")
    if rois is None or scale == 1 or how != "half_pixel":
        return None
    scaled = patch.op("Mul", node.input(1), patch.scalar(scale, rois[0]))
    results = patch.again(node.proto, node.input(0), scaled, node.input(2))
    set_attributes(patch.nodes[-1], spatial_scale=1.0)
    return results
