"""Apply the rewrites to a model."""

from collections.abc import Callable, Mapping
from typing import Any

from edgepack.lower.onnx.nodes import Node, ValueType
from edgepack.lower.onnx.rewrites import (
    branches,
    elementwise,
    quantized,
    reductions,
    selecting,
    spectra,
    windows,
)
from edgepack.lower.onnx.rewrites.patch import Patch
from edgepack.lower.onnx.rewrites.resizing import rewrite_resize
from edgepack.lower.onnx.rewrites.types import INTEGERS, computed_in, rewrite_quantize_half
from edgepack.onnxfile import canonicalise, opset_of
from edgepack.onnxfile.inlining import STANDARD
from edgepack.onnxfile.reading import nodes as nodes_of

Rewrite = Callable[[Node, Patch], list[str] | None]
"""Builds the values that replace a node's outputs, in order; None if the node's form needs no rewrite, or has none."""

_HALF = ("float16", "bfloat16")
_in_float32 = computed_in("float32", _HALF, inputs=range(8))
"""No intrinsic of LLVM, and no polynomial, in 16 bits; or composed of operators that would each round, or sum, in them."""
_square = reductions.rewrite_without_axes(lambda patch, x: patch.op("Mul", x, x))
_log = reductions.rewrite_without_axes(lambda patch, x: patch.op("Log", x))
_in_uint8 = computed_in("uint8", ("bool",))

_IN_FLOAT32 = (
    *("Acos", "Acosh", "Asin", "Asinh", "Atan"),
    *("Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Softplus", "Softsign", "Swish"),
    *("GroupNormalization", "InstanceNormalization", "MeanVarianceNormalization"),
    *("Attention", "CumSum", "Einsum", "GlobalLpPool", "Mean", "ReduceL1", "ReduceL2", "Sum"),
    *("AffineGrid", "GridSample"),
)

REWRITES: Mapping[str, tuple[Rewrite, ...]] = {
    **dict.fromkeys(_IN_FLOAT32, (_in_float32,)),
    "AveragePool": (windows.rewrite_automatic_padding,),
    "Col2Im": (windows.rewrite_col2im,),
    "ConvInteger": (quantized.rewrite_conv_integer,),
    "ConvTranspose": (windows.rewrite_conv_transpose,),
    "DequantizeLinear": (quantized.rewrite_dequantize,),
    "Det": (reductions.rewrite_det,),
    "DFT": (spectra.rewrite_dft,),
    "DynamicQuantizeLinear": (quantized.rewrite_dynamic_quantize,),
    "Equal": (elementwise.rewrite_equal,),
    "EyeLike": (selecting.rewrite_eye_like,),
    "Gemm": (computed_in("float64", INTEGERS, inputs=(0, 1, 2)),),
    "If": (branches.rewrite_if,),
    "IsInf": (elementwise.rewrite_is_inf,),
    "LayerNormalization": (_in_float32, reductions.rewrite_layer_normalization),
    "LpNormalization": (
        _in_float32,
        reductions.rewrite_lp_normalization,
    ),
    "LpPool": (_in_float32, windows.rewrite_automatic_padding, windows.rewrite_lp_pool),
    "LRN": (reductions.rewrite_lrn,),
    "MaxPool": (windows.rewrite_automatic_padding, windows.rewrite_max_pool),
    "OneHot": (selecting.rewrite_one_hot,),
    "Pad": (selecting.rewrite_pad,),
    "Pow": (elementwise.rewrite_pow,),
    "QLinearConv": (quantized.rewrite_qlinear_conv,),
    "QLinearMatMul": (quantized.rewrite_qlinear_matmul,),
    "QuantizeLinear": (quantized.rewrite_quantize, rewrite_quantize_half),
    "ReduceLogSum": (_in_float32, _log, computed_in("float64", INTEGERS)),
    "ReduceLogSumExp": (_in_float32, reductions.rewrite_log_sum_exp),
    "ReduceMax": (_in_uint8,),
    "ReduceMean": (reductions.rewrite_mean_of_integers,),
    "ReduceMin": (_in_uint8,),
    "ReduceSumSquare": (_in_float32, _square, computed_in("int64", ("uint32",))),
    "Resize": (_in_float32, rewrite_resize),
    "ReverseSequence": (selecting.rewrite_reverse_sequence,),
    "RMSNormalization": (_in_float32, reductions.rewrite_rms),
    "RoiAlign": (_in_float32, windows.rewrite_roi_align),
    "Shrink": (computed_in("float64", INTEGERS),),
    "Sign": (elementwise.rewrite_sign,),
    "Squeeze": (selecting.rewrite_scalar_axes,),
    "STFT": (spectra.rewrite_stft,),
    "ThresholdedRelu": (elementwise.rewrite_thresholded_relu,),
    "TopK": (
        selecting.rewrite_top_k,
        computed_in("int32", ("int16", "uint16")),
        computed_in("int64", ("uint32",)),
    ),
    "Unsqueeze": (selecting.rewrite_scalar_axes,),
}
"""By operator; the first that applies is used. What it builds is rewritten in turn."""

_ROUNDS = 8  # what a rewrite builds needs another rewrite, at most as often


def rewrite(model: Any, types_of: Callable[[Any], Mapping[str, ValueType]]) -> Any:
    """Return a model in canonical form with all rewrites applied; ``types_of`` returns the types of a graph's values."""
    model = _without_empty_attributes(model)
    for _ in range(_ROUNDS):
        changed = _rewrite_once(model, types_of(model.graph))
        if changed is None:
            return model
        model = canonicalise(changed)
    return model


def _without_empty_attributes(model: Any) -> Any:
    """Return the model without attributes that are empty lists: they mean the default, and TVM cannot read them."""
    import onnx

    lists = {kind: kind.lower() for kind in ("FLOATS", "INTS", "STRINGS", "TENSORS", "GRAPHS")}

    def is_empty(attribute: Any) -> bool:
        name = lists.get(onnx.AttributeProto.AttributeType.Name(attribute.type))
        return name is not None and not getattr(attribute, name)

    if not any(is_empty(each) for node in nodes_of(model) for each in node.attribute):
        return model
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for node in nodes_of(changed):
        kept = [each for each in node.attribute if not is_empty(each)]
        del node.attribute[:]
        node.attribute.extend(kept)
    return changed


def _rewrite_once(model: Any, types: Mapping[str, ValueType]) -> Any:
    """Return the model with each node rewritten at most once; None if there was nothing to rewrite."""
    import onnx

    opset = opset_of(model)
    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes, added = [], []
    for proto in model.graph.node:
        patch = None
        if proto.domain in STANDARD and proto.op_type in REWRITES:
            patch = _apply(Node(proto, types, constants), opset)
        if patch is None:
            nodes.append(proto)
        else:
            nodes.extend(patch.nodes)
            added.extend(patch.constants)
    if len(nodes) == len(model.graph.node) and all(
        a is b for a, b in zip(nodes, model.graph.node, strict=True)
    ):
        return None
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    changed.graph.initializer.extend(added)
    for value in changed.graph.output:  # inferred again: ONNX's inference is wrong for some forms of STFT
        value.type.tensor_type.ClearField("shape")
    return changed


def _apply(node: Node, opset: int) -> Patch | None:
    """Return the patch of the first rewrite that applies, its results named as the node's outputs."""
    for each in REWRITES[node.proto.op_type]:
        patch = Patch(node.proto.name, opset)
        results = each(node, patch)
        if results is None:
            continue
        made = {name for built in patch.nodes for name in built.output}
        names: dict[str, str] = {}
        for result, output in zip(results, node.proto.output, strict=False):
            if not output:
                continue
            if result in made and result not in names:
                names[result] = output
            else:
                patch.nodes.append(_identity(names.get(result, result), output))
        for built in patch.nodes:
            for field in (built.input, built.output):
                field[:] = [names.get(name, name) for name in field]
        return patch
    return None


def _identity(value: str, output: str) -> Any:
    import onnx

    return onnx.helper.make_node("Identity", [value], [output], name=output)
