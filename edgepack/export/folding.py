"""Work on weights alone is done once, at export, and not by whoever reads the file.

The exporter's own folding leaves tensors of more than some thousand elements as they are. So an LSTM's weights
arrive in torch's order of gates, with Slice and Concat nodes after them, where readers of .onnx files expect
the weights of an LSTM node to be constants.
"""

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_ir

# Kept: quantized weights stay small, and what a random operator gives is not a constant.
_KEPT = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConstantOfShape", "Expand", "Tile"}


def fold_weights(model: "onnx_ir.Model") -> None:
    """Fold, in place, every node of constant inputs whose output is no larger than the constants it replaces."""
    from onnxscript.optimizer import fold_constants

    fold_constants(model, should_fold=_shrinks, output_size_limit=2**31)


def _shrinks(node: "onnx_ir.Node") -> bool:
    if node.domain or node.op_type in _KEPT or len(node.outputs) != 1:
        return False
    after = _elements(node.outputs[0])
    inputs = [value for value in node.inputs if value is not None]
    # Slice cuts each part of a tensor that holds several weights out once; others must be all that uses it.
    parts = node.op_type == "Slice"
    freed = inputs[:1] if parts else [value for value in inputs if len(value.uses()) == 1]
    return after is not None and after <= sum(_elements(value) or 0 for value in freed)


def _elements(value: "onnx_ir.Value") -> int | None:
    """Elements of a tensor of static shape."""
    if value.shape is None or not value.shape.is_static():
        return None
    return math.prod(value.shape.numpy())
