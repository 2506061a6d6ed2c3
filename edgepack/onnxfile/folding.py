"""Constant folding at export and at import, except for encoded constants.

onnxscript's optimiser folds shape arithmetic and batch normalisation, but not tensors above some thousand elements.
An LSTM's weights are therefore exported in torch's order of gates, followed by Slice and Concat nodes, where readers
of .onnx files expect the weights of an LSTM node to be constants: :func:`fold_weights` folds these.
"""

import math
from typing import TYPE_CHECKING

from edgepack.onnxfile.encodings import is_encoded
from edgepack.onnxfile.encodings.packing import pack_codes
from edgepack.onnxfile.integer_weights import narrow_weights

if TYPE_CHECKING:
    import onnx_ir
    from onnxscript.rewriter import RewriteRule

_ROUNDS = 2  # of folding and rewriting, as onnxscript's optimiser has

# Not folded: quantized weights stay small, and the output of a random operator is not constant.
_KEPT = {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "ConstantOfShape", "Expand", "Tile"}


def simplify(model: "onnx_ir.Model") -> None:
    """Fold constants in place, except encoded ones, and apply the rewrite rules that hold for every input."""
    from onnx_ir.passes import Sequential, common
    from onnxscript import optimizer, rewriter

    optimizer.inline(model)
    for _ in range(_ROUNDS):
        optimizer.fold_constants(model, should_fold=_simplifies)
        rewriter.rewrite(model, _rules())
    Sequential(
        common.RemoveUnusedNodesPass(),
        common.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        common.LiftSubgraphInitializersToMainGraphPass(),
    )(model)
    pack_codes(model)
    Sequential(
        common.DeduplicateInitializersPass(),
        common.CommonSubexpressionEliminationPass(),
        common.OutputFixPass(),
        common.NameFixPass(),
    )(model)


def _rules() -> "list[RewriteRule]":
    """Return onnxscript's default rules in their order, except those that take a small number for 0.

    Its rules for x + 0, x - 0, x * 1 and x / 1 match every constant within 1e-8 of 0 or 1e-5 of 1. The constant that
    keeps a logarithm, a root or a divisor away from 0 would be removed; typical inputs do not show that.
    """
    from onnxscript.rewriter.rules import common as rules

    return [
        rules.two_reshapes_matmul_reshape_rule,
        rules.one_reshape_matmul_reshape_rule,
        rules.cast_constant_of_shape_rule,
        rules.cast_constant_of_shape_without_value_rule,
        rules.collapse_slice_rule,
        rules.collapse_slice2_rule,
        rules.materialize_reshape_shape_rule,
        rules.min_min_rule,
        rules.max_max_rule,
        rules.min_max_rule,
        rules.max_min_rule,
        rules.successive_clip_relu_rule,
        rules.successive_relu_clip_rule,
        rules.successive_relu_rule,
        rules.successive_clip_rule,
        rules.cast_cast_rule,
        rules.no_op_cast_rule,
        rules.no_op_expand_rule,
        rules.flatten_to_reshape_rule,  # before reshape_reshape_rule
        rules.reshape_reshape_rule,
        rules.slice_split_rule,
        rules.no_op_transpose_rule,
        rules.transpose_transpose_rule,
        rules.unsqueeze_unsqueeze_rule,
        rules.squeeze_reshape_1d_rule,
        rules.no_op_dynamic_scatter_nd_rule,
        rules.no_op_static_scatter_nd_rule,
        rules.normalize_pad_format_conv_rule,
        rules.normalize_pad_format_conv_integer_rule,
        rules.fuse_pad_into_conv_rule,
        rules.fuse_pad_into_conv_integer_rule,
        rules.fuse_batchnorm_into_conv_rule,
        rules.fuse_batchnorm_into_conv_transpose_rule,
        rules.fuse_batchnorm_into_gemm_rule,
        rules.remove_optional_bias_from_conv_rule,
        rules.remove_optional_bias_from_conv_transpose_rule,
        rules.remove_optional_bias_from_qlinear_conv_rule,
        rules.remove_optional_bias_from_gemm_rule,
    ]


def fold_constants(model: "onnx_ir.Model") -> None:
    """As :func:`simplify`, without rewrite rules."""
    from onnxscript import optimizer

    optimizer.fold_constants(model, should_fold=_simplifies)
    pack_codes(model)


def fold_weights(model: "onnx_ir.Model") -> None:
    """Fold, in place, every node with constant inputs whose output is no larger than the constants it replaces.

    Integer weights that fit into 4 bits are stored so, if the model's opset has them.
    """
    from onnxscript.optimizer import fold_constants

    fold_constants(model, onnx_shape_inference=True, should_fold=_shrinks, output_size_limit=2**31)
    narrow_weights(model)


def _simplifies(node: "onnx_ir.Node") -> bool | None:
    """False for encoded constants, True for indices of any size, None for the optimiser's own rules."""
    if is_encoded(node):
        return False
    return True if _computes_indices(node) else None


def _computes_indices(node: "onnx_ir.Node") -> bool:
    """Whether a node's output is integers of its inputs' size: torch computes lookup codes in several steps."""
    if node.domain or node.op_type in _KEPT - {"Expand"} or len(node.outputs) != 1:
        return False
    output = node.outputs[0]
    inputs = [value for value in node.inputs if value is not None]
    integers = all(value.dtype is not None and value.dtype.is_integer() for value in (output, *inputs))
    after = _bytes(output)
    # A cast of narrow codes is larger than they are, until they are narrowed again.
    wider = _WIDENING if node.op_type == "Cast" else 1
    return integers and after is not None and after <= wider * sum(_bytes(value) or 0 for value in inputs)


_WIDENING = 8  # from one byte to int64


def _shrinks(node: "onnx_ir.Node") -> bool:
    if node.domain or node.op_type in _KEPT or len(node.outputs) != 1 or is_encoded(node):
        return False
    after = _bytes(node.outputs[0])
    inputs = [value for value in node.inputs if value is not None]
    # Slice extracts each part of a tensor that holds several weights; other nodes must be the only user.
    parts = node.op_type == "Slice"
    freed = inputs[:1] if parts else [value for value in inputs if len(value.uses()) == 1]
    return after is not None and after <= sum(_bytes(value) or 0 for value in freed)


def _bytes(value: "onnx_ir.Value") -> int | None:
    """Bytes of a tensor of known type and static shape; None for others."""
    if value.shape is None or not value.shape.is_static() or value.dtype is None:
        return None
    return math.ceil(math.prod(value.shape.numpy()) * value.dtype.itemsize)
