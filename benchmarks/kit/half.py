"""An fp32 model as fp16: the same graph with float16 inputs, weights, activations and outputs."""

from pathlib import Path

_FLOAT_INPUTS = {"Resize", "Upsample"}  # their region of interest and scales stay float32


def to_half(model: Path, out: Path) -> Path:
    """Write ``model`` with every float32 tensor as float16 to ``out``; returns ``out``."""
    import onnx
    from onnx import TensorProto, numpy_helper

    proto = onnx.load(model)
    graph = proto.graph
    kept = {name for node in graph.node if node.op_type in _FLOAT_INPUTS for name in node.input[1:]}

    def convert(tensor: onnx.TensorProto) -> None:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            values = numpy_helper.to_array(tensor).astype("float16")
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))

    for tensor in graph.initializer:
        convert(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT and value.name not in kept:
            value.type.tensor_type.elem_type = TensorProto.FLOAT16
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and not kept.intersection(node.output):
                convert(attribute.t)
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, out)
    return out
