"""Resize and Upsample: normalised to the form that TVM's importer takes, or as gathers and weights along each axis."""

from collections.abc import Sequence
from typing import Any

from edgepack.lower.onnx.nodes import Node
from edgepack.lower.onnx.rewrites.filters import Interpolation, Resized, Taps, taps
from edgepack.lower.onnx.rewrites.patch import Patch

_FEW = 4  # taps that are summed one by one; more become a product with a matrix
_ROUNDING = 1e-4  # of a size: scales are float32
_TVMS = {"half_pixel", "align_corners", "asymmetric"}


def rewrite_resize(node: Node, patch: Patch) -> list[str] | None:
    """Resize with constant sizes or scales; None if it already has the form that TVM imports correctly."""
    data, output = node.input_type(0), node.output_type()
    if data is None or output is None:
        return None
    axes = _axes(node, data[1], output[1])
    if axes is None:
        return None
    how = Interpolation(
        node.attribute("mode", "nearest"),
        node.attribute("coordinate_transformation_mode", "half_pixel"),
        node.attribute("nearest_mode", "round_prefer_floor"),
        antialias=bool(node.attribute("antialias", 0)),
        exclude_outside=bool(node.attribute("exclude_outside", 0)),
        cubic=float(node.attribute("cubic_coeff_a", -0.75)),
    )
    if how.mode not in {"nearest", "linear", "cubic"}:
        return None
    if how.coordinates == "align_corners" and not _whole(axes):
        return None  # refused: ONNX and onnxruntime differ
    if _imports(axes, how):
        return _normal(node, patch, output[1])
    if how.antialias and how.mode != "nearest" and not data[0].startswith("float"):
        return None  # refused: onnxruntime computes it in fixed point
    return [_interpolate(node, patch, data, axes, how)]


def _axes(node: Node, before: Sequence[int], after: Sequence[int]) -> list[Resized] | None:
    """Return how each axis of the data is resized; None if that is only known at run time."""
    rank = len(before)
    at = [axis % rank for axis in node.attribute("axes", range(rank))]
    scales, sizes, roi = node.constant(2), node.constant(3), node.constant(1)
    if any(node.input(i) and node.constant(i) is None for i in (1, 2, 3)):
        return None
    ratios = [a / b for a, b in zip(after, before, strict=True)]
    if scales is not None and scales.size == len(at):
        for axis, scale in zip(at, scales, strict=True):
            ratios[axis] = float(scale)
    elif sizes is None or sizes.size != len(at):
        return None
    elif node.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        wanted = [float(size) / before[axis] for size, axis in zip(sizes, at, strict=True)]
        smaller = node.attribute("keep_aspect_ratio_policy") == "not_larger"
        for axis in at:
            ratios[axis] = min(wanted) if smaller else max(wanted)
    regions = [(0.0, 1.0)] * rank
    if roi is not None and roi.size == 2 * len(at):
        for i, axis in enumerate(at):
            regions[axis] = (float(roi[i]), float(roi[len(at) + i]))
    return [Resized(*each) for each in zip(before, after, ratios, regions, strict=True)]


def _imports(axes: Sequence[Resized], how: Interpolation) -> bool:
    """Whether TVM's own Resize is right: two-dimensional images, and scales that are the ratios of the sizes."""
    exact = _whole(axes)
    batch = all(axis.size == axis.resized for axis in axes[:2])
    plain = not (how.antialias or how.exclude_outside) and how.coordinates in _TVMS
    corners = how.coordinates == "align_corners" and any(axis.resized == 1 for axis in axes[2:])
    return len(axes) == 4 and exact and batch and plain and not corners  # noqa: PLR2004 - NCHW


def _whole(axes: Sequence[Resized]) -> bool:
    """Whether the scales give whole sizes."""
    return all(abs(axis.size * axis.scale - axis.resized) <= _ROUNDING * axis.size for axis in axes)


def _normal(node: Node, patch: Patch, after: Sequence[int]) -> list[str] | None:
    """Return Resize by all axes' sizes alone; None if the node is of this form."""
    given = {attribute.name for attribute in node.proto.attribute}
    left = {"mode", "coordinate_transformation_mode", "nearest_mode", "cubic_coeff_a"}
    if given <= left and not node.input(1) and not node.input(2) and node.input(3):
        return None
    attributes = {name: node.attribute(name) for name in sorted(given & left)}
    return [patch.op("Resize", node.input(0), "", "", patch.constant(list(after), "int64"), **attributes)]


def _interpolate(
    node: Node, patch: Patch, data: tuple[str, tuple[int, ...]], axes: Sequence[Resized], how: Interpolation
) -> str:
    """Resize one axis after the other: the axes are independent of each other."""
    import numpy as np

    value, dtype, rank = node.input(0), data[0], len(axes)
    wide = "float64" if dtype == "float64" else "float32"
    if how.mode != "nearest" and wide != dtype:
        value = patch.cast(value, wide)
    outside: Any = np.zeros((1,) * rank, bool)
    for number, axis in enumerate(axes):
        if axis.size == axis.resized and axis.scale == 1 and axis.region == (0.0, 1.0):
            continue
        found = taps(axis, how)
        if how.mode == "nearest":
            value = patch.op("Gather", value, patch.constant(found.at[0]), axis=number)
        else:
            value = _weighted(patch, value, found, (axis.size, number, rank), wide)
        outside = outside | found.outside.reshape([-1 if i == number else 1 for i in range(rank)])
    if outside.any():
        beyond = patch.scalar(
            node.attribute("extrapolation_value", 0.0), wide if how.mode != "nearest" else dtype
        )
        value = patch.op("Where", patch.constant(outside), beyond, value)
    if how.mode != "nearest" and wide != dtype:
        if how.mode == "cubic" and not dtype.startswith("float"):
            value = _rounded(patch, value, dtype, wide)
        value = patch.cast(value, dtype)
    return value if value != node.input(0) else patch.op("Identity", value)


def _rounded(patch: Patch, value: str, dtype: str, wide: str) -> str:
    """Round to integers within the range of ``dtype``; linear interpolation without antialiasing cuts instead."""
    import numpy as np

    limits = np.iinfo(np.dtype(dtype))
    bounds = (patch.scalar(limits.min, wide), patch.scalar(limits.max, wide))
    return patch.op("Clip", patch.op("Round", value), *bounds)


def _weighted(patch: Patch, value: str, found: Taps, axis: tuple[int, int, int], dtype: str) -> str:
    """Return the weighted sum of an axis's taps; ``axis`` is its size and number, and the number of axes."""
    import numpy as np

    size, number, rank = axis
    if len(found.at) > _FEW:
        matrix = np.zeros((size, found.at.shape[1]))
        for at, weights in zip(found.at, found.weights, strict=True):
            np.add.at(matrix, (at, np.arange(found.at.shape[1])), weights)
        perm = [i for i in range(rank) if i != number] + [number]
        product = patch.op("MatMul", patch.transpose(value, perm), patch.constant(matrix, dtype))
        return patch.transpose(product, [perm.index(i) for i in range(rank)])
    total = ""
    shape = [-1 if i == number else 1 for i in range(rank)]
    for at, weights in zip(found.at, found.weights, strict=True):
        taken = patch.op("Gather", value, patch.constant(at), axis=number)
        term = patch.op("Mul", taken, patch.constant(weights.reshape(shape), dtype))
        total = patch.op("Add", total, term) if total else term
    return total
