"""What of ONNX cannot be lowered, and what to do about it: the one place that knows.

Most of it is not written down but asked: TVM's importer has a table of operators, its converters read some
attributes and inputs and not others (``edgepack.lower.importer`` watches them), and ONNX's own inference tells
which type each value must have. What is left is here: advice by operator, and limits that only wrong results
show (found by ``make coverage``).
"""

from edgepack.errors import Obstacle

_RECURRENT = "recurrent layers are not compiled yet; export the loop unrolled, or use a convolutional model"
_CONTROL = "export the model without data-dependent control flow"
_QDQ = "quantize in Q/DQ form (QuantFormat.QDQ), which the compiler reads"

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
"""What to do about an operator that cannot be compiled, or not in this form."""

ELSEWHERE = "replace it by operators that can be compiled, or compute it outside the model"
OTHER_FORM = "export the model with another opset, or with static shapes and constants"


def missing(operator: str, node: str) -> Obstacle:
    """The importer does not have the operator at all."""
    why = "TVM's ONNX importer lacks it"
    return Obstacle(
        operator, node, f"operator {operator} cannot be compiled", why, ADVICE.get(operator, ELSEWHERE)
    )


def unusable(operator: str, opset: int, node: str, why: str) -> Obstacle:
    """The importer has the operator, and not in this form."""
    message = f"operator {operator} (opset {opset}) cannot be imported in this form"
    return Obstacle(operator, node, message, why, ADVICE.get(operator, OTHER_FORM))
