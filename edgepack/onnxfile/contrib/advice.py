"""What to do about operators that have no rule."""

_NCHWC = "save the optimised model with at most ORT_ENABLE_EXTENDED: the layouts of ORT_ENABLE_ALL fit one machine only"
_LANGUAGE = "export the model without key-value caches and generation loops, for a fixed number of tokens"
_GPU = "save the model without optimisations for GPUs: onnxruntime cannot run it on a CPU either"
_ANY = "export or save the model without this runtime's optimisations"

_BY_OPERATOR = {
    "DynamicQuantizeLSTM": "quantize the weights of the LSTM alone, with DequantizeLinear before them",
    "AttnLSTM": "export the LSTM and the attention as standard operators",
    "Tokenizer": "compute text outside the model, for example into token ids",
    **dict.fromkeys(
        (
            "BeamSearch",
            "DecoderMaskedMultiHeadAttention",
            "DecoderMaskedSelfAttention",
            "GreedySearch",
            "GroupQueryAttention",
            "PagedAttention",
            "Sampling",
            "SparseAttention",
            "WhisperBeamSearch",
        ),
        _LANGUAGE,
    ),
    **dict.fromkeys(
        (
            "BiasAdd",
            "BiasSplitGelu",
            "GatedRelativePositionBias",
            "GemmFastGelu",
            "GemmFloat8",
            "GroupNorm",
            "LongformerAttention",
            "NhwcConv",
            "NhwcFusedConv",
            "PackedAttention",
            "PackedMultiHeadAttention",
            "QOrderedAttention",
            "QOrderedGelu",
            "QOrderedLayerNormalization",
            "QOrderedLongformerAttention",
            "QOrderedMatMul",
            "RelativePositionBias",
            "SkipGroupNorm",
        ),
        _GPU,
    ),
}


def advice(domain: str, operator: str) -> str:
    """Return the next step for an operator without a rule."""
    if domain in ("com.microsoft.nchwc", "com.ms.internal.nhwc"):
        return _NCHWC
    if domain == "com.microsoft" and operator in _BY_OPERATOR:
        return _BY_OPERATOR[operator]
    if domain == "ai.onnx.ml":
        return "compute classical machine learning outside the model, or export it as a neural network"
    if domain.startswith("com.microsoft"):
        return _ANY
    return "replace it with standard ONNX operators, or add its definition to the file as a local function"
