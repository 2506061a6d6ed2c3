"""ONNX operators that cannot be lowered, with advice for each.

Most of it is determined at run time: TVM's importer has a table of operators, its converters read some attributes
and inputs and ignore others (see ``edgepack.lower.onnx.converters``), and ONNX's shape inference gives each value's
type. This module has the rest: advice per operator, and limits that show only as wrong results (detected by
``make coverage``).
"""

from collections.abc import Callable
from dataclasses import dataclass

from edgepack.errors import ModelProblem
from edgepack.lower.onnx.nodes import Node

_RECURRENT = "recurrent layers are not supported yet; export the loop unrolled, or use a convolutional model"
_CONTROL = "export the model without data-dependent control flow"
_QDQ = "quantize in Q/DQ form (QuantFormat.QDQ), which is supported"

ADVICE = {
    "LSTM": _RECURRENT,
    "GRU": _RECURRENT,
    "RNN": _RECURRENT,
    "If": _CONTROL,
    "Loop": _CONTROL,
    "Scan": _CONTROL,
    "QLinearConv": _QDQ,
    "QLinearMatMul": _QDQ,
    "ConvInteger": _QDQ,
}
"""Advice for operators that cannot be compiled, or not in this form."""

ELSEWHERE = "replace it with supported operators, or compute it outside the model"
OTHER_FORM = "export the model with another opset, or with static shapes and constants"


@dataclass(frozen=True)
class Limit:
    """A form of an operator that TVM imports but computes incorrectly or cannot compile."""

    operator: str
    applies: Callable[[Node], bool]
    why: str
    next: str


def _resized_by_fractions(node: Node) -> bool:
    """The output's size is rounded, and TVM uses the ratio of the sizes instead of the scale."""
    scales, data = node.constant(2), node.input_type(0)
    if scales is None or data is None or len(scales) != len(data[1]):
        return False
    if node.attribute("coordinate_transformation_mode") == "tf_crop_and_resize":
        return False  # the region determines the coordinates
    exact = [float(scale) * size for scale, size in zip(scales, data[1], strict=True)]
    return any(abs(size - round(size)) > _ROUNDING * size for size in exact)


def _of_integers(node: Node) -> bool:
    data = node.input_type(0)
    return data is not None and not data[0].startswith("float")


def _of_truth_values(node: Node) -> bool:
    data = node.input_type(0)
    return data is not None and data[0] == "bool"


def _over_all_axes(node: Node) -> bool:
    data = node.input_type(0)
    return data is not None and node.attribute("axis", -1) in {0, -len(data[1])} and len(data[1]) > 1


def _of_unsorted_types(node: Node) -> bool:
    data = node.input_type(0)
    return data is not None and data[0] in {"int16", "uint16", "uint32", "uint64"}


_ROUNDING = 1e-4  # of a size: scales are float32

LIMITS = (
    Limit(
        "Resize",
        _resized_by_fractions,
        "the scales do not give integer sizes, and TVM uses the ratio of the rounded sizes as the scale",
        "specify the sizes instead of the scales",
    ),
    Limit(
        "Resize",
        lambda node: node.attribute("coordinate_transformation_mode") == "half_pixel_symmetric",
        "TVM does not support the coordinate transformation half_pixel_symmetric",
        "export with half_pixel, align_corners or asymmetric",
    ),
    Limit(
        "RoiAlign",
        lambda node: node.attribute("mode", "avg") == "max",
        "TVM takes the maximum of the interpolated values, ONNX that of their weighted terms",
        "export with mode avg",
    ),
    Limit(
        "NonMaxSuppression",
        lambda _: True,
        "the number of selected boxes depends on the data, but shapes are static",
        "end the model with boxes and scores, and select boxes outside the model",
    ),
    Limit(
        "RMSNormalization",
        _over_all_axes,
        "TVM normalises over all axes only for one-dimensional inputs",
        "reshape to one dimension before it",
    ),
    *(
        Limit(operator, _of_truth_values, "TVM does not support it for booleans", "cast to uint8 before it")
        for operator in ("ReduceMax", "ReduceMin")
    ),
    Limit(
        "TopK",
        _of_unsorted_types,
        "TVM's runtime sorts only floating-point numbers, int8, uint8, int32 and int64",
        "cast to int32 or int64 before it",
    ),
    Limit(
        "Pow", _of_integers, "TVM computes powers only of floating-point numbers", "cast to float32 before it"
    ),
)
"""Found with `make coverage`: TVM's result differs from ONNX's, or compilation fails after the import."""


def limit(node: Node) -> ModelProblem | None:
    """Return the problem for the first limit that applies to the node, or None."""
    for each in LIMITS:
        if each.operator == node.proto.op_type and each.applies(node):
            message = f"operator {each.operator} cannot be compiled in this form"
            return ModelProblem(each.operator, node.proto.name, message, each.why, each.next)
    return None


def missing(operator: str, node: str) -> ModelProblem:
    """Return the problem for an operator that the importer lacks."""
    why = "it is not supported by TVM's ONNX importer"
    return ModelProblem(
        operator, node, f"operator {operator} cannot be compiled", why, ADVICE.get(operator, ELSEWHERE)
    )


def unusable(operator: str, opset: int, node: str, why: str) -> ModelProblem:
    """Return the problem for an operator that the importer supports, but not in this form."""
    message = f"operator {operator} (opset {opset}) cannot be imported in this form"
    return ModelProblem(operator, node, message, why, ADVICE.get(operator, OTHER_FORM))
