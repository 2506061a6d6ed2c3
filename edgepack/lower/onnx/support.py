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
from edgepack.lower.onnx.recurrent import RECURRENT
from edgepack.onnxfile.sequences import OPERATORS as SEQUENCE_OPERATORS
from edgepack.schedules.recurrent.activations import read_activations

_CONTROL = "export the model without data-dependent control flow"
_QDQ = "quantize in Q/DQ form (QuantFormat.QDQ), which is supported"

ADVICE = {
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


def _corners_of_fractions(node: Node) -> bool:
    """Resize by scales that do not give whole sizes, with corners aligned."""
    scales, data = node.constant(2), node.input_type(0)
    if scales is None or not scales.size or data is None:
        return False
    axes = node.attribute("axes", range(len(data[1])))
    sizes = [float(scale) * data[1][axis] for scale, axis in zip(scales, axes, strict=True)]
    aligned = node.attribute("coordinate_transformation_mode") == "align_corners"
    return aligned and any(abs(size - round(size)) > _ROUNDING * size for size in sizes)


_ROUNDING = 1e-4  # of a size: scales are float32


def _of_integers(node: Node) -> bool:
    data = node.input_type(0)
    return data is not None and not data[0].startswith(("float", "bfloat"))


def _of_unsorted_types(node: Node) -> bool:
    data = node.input_type(0)
    return data is not None and data[0] == "uint64"


def _without_parameters(node: Node) -> bool:
    """A recurrent layer with an activation whose parameters are not given, and have no agreed value."""
    names = [name.decode() for name in node.attribute("activations", ())]
    try:
        list(
            read_activations(
                names, node.attribute("activation_alpha", ()), node.attribute("activation_beta", ())
            )
        )
    except LookupError:
        return True
    return False


LIMITS = (
    *(
        Limit(
            operator,
            _without_parameters,
            "it does not give a parameter of its activations, for which ONNX and onnxruntime have different values",
            "set activation_alpha and activation_beta",
        )
        for operator in RECURRENT
    ),
    *(
        Limit(
            operator,
            lambda _: True,
            "the sequence's length depends on the data",
            "export the model with tensors instead of lists",
        )
        for operator in sorted(SEQUENCE_OPERATORS)
    ),
    Limit(
        "Resize",
        lambda node: bool(node.attribute("antialias", 0)) and _of_integers(node),
        "with antialias, integers are rounded in fixed point, in a way that ONNX does not define",
        "cast to float32 before it",
    ),
    Limit(
        "Resize",
        _corners_of_fractions,
        "with align_corners, ONNX and onnxruntime differ where the scales do not give whole sizes",
        "specify the sizes instead of the scales",
    ),
    Limit(
        "MaxUnpool",
        lambda node: bool(node.input(2)),
        "ONNX and onnxruntime differ in what the indices mean for another output shape",
        "export without output_shape, and pad the result",
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
        "TopK",
        _of_unsorted_types,
        "TVM's runtime sorts only floating-point numbers, int8, uint8, int32 and int64",
        "cast to int64 before it",
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
