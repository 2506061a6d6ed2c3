"""The table of operators with the rule that replaces each."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgepack.onnxfile.contrib import attention, elementwise, normalization, quantized
from edgepack.onnxfile.contrib.elementwise import as_standard
from edgepack.onnxfile.contrib.emitter import Rule
from edgepack.onnxfile.protos import graphs

if TYPE_CHECKING:
    import onnx

MICROSOFT = "com.microsoft"

_RULES: Mapping[str, Rule] = {
    "Attention": attention.attention,
    "BiasGelu": elementwise.gelu,
    "CDist": elementwise.c_dist,
    "DequantizeLinear": quantized.linear("DequantizeLinear"),
    "DynamicQuantizeMatMul": quantized.dynamic_matmul,
    "EmbedLayerNormalization": normalization.embed_layer,
    "ExpandDims": elementwise.expand_dims,
    "FastGelu": elementwise.fast_gelu,
    "FusedConv": elementwise.fused_conv,
    "FusedGemm": elementwise.fused_gemm,
    "FusedMatMul": elementwise.fused_matmul,
    "GatherND": as_standard("GatherND", 11),
    "Gelu": elementwise.gelu,
    "GridSample": as_standard("GridSample", 16),
    "LayerNormalization": normalization.layer_normalization,
    "MatMulIntegerToFloat": quantized.matmul_to_float,
    "MatMulNBits": quantized.matmul_n_bits,
    "MultiHeadAttention": attention.multi_head_attention,
    "NhwcMaxPool": elementwise.nhwc_max_pool,
    "Pad": as_standard("Pad", 11),
    "QAttention": attention.quantized_attention,
    "QEmbedLayerNormalization": normalization.quantized_embed_layer,
    "QGemm": quantized.gemm,
    "QLinearAdd": quantized.binary("Add"),
    "QLinearAveragePool": quantized.unary(quantized.average_pool_of),
    "QLinearConcat": quantized.concat,
    "QLinearConv": quantized.conv_of_last_channels,
    "QLinearGlobalAveragePool": quantized.unary(quantized.global_average_pool_of),
    "QLinearLeakyRelu": quantized.unary(quantized.leaky_relu_of),
    "QLinearMul": quantized.binary("Mul"),
    "QLinearReduceMean": quantized.unary(quantized.reduce_mean_of),
    "QLinearSigmoid": quantized.unary(quantized.sigmoid_of),
    "QLinearSoftmax": quantized.unary(quantized.softmax_of),
    "QLinearWhere": quantized.where,
    "QuantizeLinear": quantized.linear("QuantizeLinear"),
    "QuickGelu": elementwise.quick_gelu,
    "Range": elementwise.range_of,
    "RotaryEmbedding": attention.rotary_embedding,
    "SimplifiedLayerNormalization": normalization.simplified,
    "SkipLayerNormalization": normalization.skip_layer,
    "SkipSimplifiedLayerNormalization": normalization.skip_simplified,
    "TransposeMatMul": elementwise.fused_matmul,
    "Trilu": as_standard("Trilu", 14),
}

RULES: Mapping[tuple[str, str], Rule] = {(MICROSOFT, name): rule for name, rule in _RULES.items()}
"""Domain and name of each operator that is replaced, with its rule."""

_LAYER_NORMALIZATION = 17  # the opset that has it; onnxruntime has it in every opset


def name_domains(model: "onnx.ModelProto", opset: int) -> None:
    """Move, in place, the operators that onnxruntime has in the standard domain, and ONNX has not, to its own."""
    only_there = {"SimplifiedLayerNormalization"}
    if opset < _LAYER_NORMALIZATION:
        only_there.add("LayerNormalization")
    nodes = [node for graph in graphs(model.graph) for node in graph.node]
    moved = [node for node in nodes if not node.domain and node.op_type in only_there]
    for node in moved:
        node.domain = MICROSOFT
    if moved and MICROSOFT not in {each.domain for each in model.opset_import}:
        model.opset_import.add(domain=MICROSOFT, version=1)


def rule_for(node: "onnx.NodeProto") -> Rule | None:
    """Return the rule for a node; None for a standard operator, and for one without a rule."""
    return RULES.get((node.domain, node.op_type))


def has_own_rounding(model: "onnx.ModelProto") -> bool:
    """Whether a model has operators whose quantized result onnxruntime rounds in its own way."""
    nodes = (node for graph in graphs(model.graph) for node in graph.node)
    return any(node.domain == MICROSOFT and node.op_type.startswith(("QLinear", "QGemm")) for node in nodes)
