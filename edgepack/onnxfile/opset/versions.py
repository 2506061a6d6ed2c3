"""The table of operators whose definition changed, with the rule for each version.

A model of an opset below ``LOWEST`` is converted to ``LOWEST``, one of a newer opset than ``HIGHEST`` to ``HIGHEST``;
those in between stay as they are, unless a method stores elements of a type that only a newer opset has: ``BETWEEN``.
"""

from edgepack.onnxfile.opset import resizing, rules
from edgepack.onnxfile.opset.rules import same
from edgepack.onnxfile.opset.site import Rule

LOWEST, HIGHEST = 18, 23
"""The opsets of imported models: 18 is torch's own, 23 the newest that all tools support."""

Versions = dict[int, Rule]

_REDUCE: Versions = {11: same, 13: same, 18: rules.as_inputs("axes")}
_OLD_AXIS: Versions = {11: same, 13: rules.over_flattened}

_CHANGED: dict[str, Versions] = {
    "BatchNormalization": {9: rules.per_element, 14: rules.with_statistics},
    "Clip": {11: rules.limits_as_inputs},
    "Dropout": {10: rules.no_dropout, 12: rules.no_dropout},
    "Hardmax": _OLD_AXIS,
    "LogSoftmax": _OLD_AXIS,
    "Pad": {11: rules.pads_as_inputs},
    "ReduceL1": _REDUCE,
    "ReduceL2": _REDUCE,
    "ReduceLogSum": _REDUCE,
    "ReduceLogSumExp": _REDUCE,
    "ReduceMax": _REDUCE,
    "ReduceMean": _REDUCE,
    "ReduceMin": _REDUCE,
    "ReduceProd": _REDUCE,
    "ReduceSum": {11: same, 13: rules.as_inputs("axes")},
    "ReduceSumSquare": _REDUCE,
    "Resize": {11: resizing.asymmetric, 13: resizing.half_pixel_rounded},
    "RoiAlign": {16: rules.with_default(coordinate_transformation_mode="output_half_pixel")},
    "Scan": {9: rules.refused("it has a batch axis and sequence lengths, which later opsets lack")},
    "Scatter": {11: rules.renamed("ScatterElements")},
    "Slice": {10: rules.as_inputs("starts", "ends", "axes")},
    "Softmax": _OLD_AXIS,
    "Split": {13: rules.as_inputs("split"), 18: rules.counted_outputs},
    "Squeeze": {13: rules.as_inputs("axes")},
    "TopK": {10: rules.count_as_input},
    "Unsqueeze": {13: rules.as_inputs("axes")},
    "Upsample": {9: resizing.scales_as_input, 10: rules.renamed("Resize")},
}

_AS_BEFORE: dict[int, str] = {
    8: "Max MaxPool Mean Min Sum",
    9: "Cast Constant Flatten Gemm Greater Less MatMul PRelu",
    10: "AveragePool MaxPool",
    11: """
        ArgMax ArgMin AveragePool Compress Concat Constant Conv ConvTranspose DepthToSpace Equal Flatten Gather
        Gemm If Loop LpPool MaxPool MaxUnpool NonMaxSuppression OneHot Scan Slice Split Squeeze TopK Unsqueeze
    """,
    12: "ArgMax ArgMin Clip Constant GatherND Max MaxPool Min Pow ReduceMax ReduceMin",
    13: """
        Abs Add ArgMax ArgMin Cast Ceil Clip Concat Constant DepthToSpace DequantizeLinear Div Dropout Equal Erf Exp
        Expand Flatten Floor Gather GatherElements GatherND Gemm Greater Identity If IsNaN LRN Less Log Loop MatMul Max
        Mean MeanVarianceNormalization Min Mod Mul Neg NegativeLogLikelihoodLoss NonZero Pad Pow QuantizeLinear
        Reciprocal Relu Reshape ScatterElements ScatterND Shape Sigmoid Sign Size Slice SoftmaxCrossEntropyLoss
        SpaceToDepth Sqrt Sub Sum Tanh Tile Transpose
    """,
    14: "Add CumSum Div GRU Identity LSTM Mul RNN Relu Reshape Sub",
    15: "BatchNormalization Pow Shape",
    16: """
        GreaterOrEqual Identity If LeakyRelu LessOrEqual Loop PRelu Scan ScatterElements ScatterND Where
    """,
    18: "LpPool OptionalGetElement OptionalHasElement Pad Resize ScatterElements ScatterND",
}
"""Operators of each version that only adds element types, or inputs and attributes whose default is the old meaning.

ConvTranspose 1 and 11 differ in the text for ``auto_pad``, but not in onnxruntime.
"""

_NEWER_AS_BEFORE: dict[int, str] = {
    24: """
        Attention Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QuantizeLinear
        Reshape Scan Shape Size SplitToSequence Squeeze TopK Transpose Unsqueeze
    """,
    25: """
        Attention Cast CastLike Constant ConstantOfShape DequantizeLinear Flatten Identity If Loop Pad QuantizeLinear
        Reshape Scan Shape Size Squeeze Transpose Unsqueeze
    """,
    27: "Range",
    28: """
        BitShift Cast Celu Compress DepthToSpace DequantizeLinear Einsum OneHot Optional OptionalGetElement
        OptionalHasElement QuantizeLinear ReduceLogSum ReduceLogSumExp ReverseSequence SpaceToDepth Unique
    """,
}
"""Operators of each version after ``HIGHEST`` which, without their new attributes, inputs and element types, compute
what the version before did."""


def _table(changed: dict[str, Versions], as_before: dict[int, str]) -> dict[str, Versions]:
    table = {operator: dict(versions) for operator, versions in changed.items()}
    for version, operators in as_before.items():
        for operator in operators.split():
            table.setdefault(operator, {})[version] = same
    return table


VERSIONS: dict[str, Versions] = _table(_CHANGED, _AS_BEFORE)
"""Each operator's versions up to ``LOWEST`` that follow one which opset 7 or later has, with the rule that converts to
it from the one before."""

NEWER: dict[str, Versions] = _table({"Mod": {28: rules.integer_modulo}}, _NEWER_AS_BEFORE)
"""Each operator's versions after ``HIGHEST``, with the rule that converts from it to the one before."""

BETWEEN: dict[str, Versions] = {
    "AveragePool": {19: rules.kept_unless("ceil_mode")},
    "DFT": {20: rules.refused("its axis became an input, with another default")},
    "GridSample": {20: rules.renamed_modes(bilinear="linear", bicubic="cubic")},
    "GroupNormalization": {21: rules.refused("its scales became those of channels")},
}
"""Versions between ``LOWEST`` and ``HIGHEST`` that compute something else than the one before."""
