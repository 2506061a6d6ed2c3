"""How the integers of a graph's inputs and outputs stand for numbers, where the graph itself says so."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class LinearScale:
    """An integer *q* stands for ``scale * (q - zero_point)``."""

    scale: float
    zero_point: int


def linear_scales(model: "onnx.ModelProto") -> dict[str, LinearScale]:
    """Return the scale of each input that is dequantized first, and each output that is quantized last, by name.

    Those with a scale for each channel are left out, and so are other operators with quantized results.
    """
    import onnx

    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    inputs, outputs = {value.name for value in graph.input}, {value.name for value in graph.output}
    found: dict[str, LinearScale] = {}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in inputs:
            name = node.input[0]
        elif node.op_type == "QuantizeLinear" and node.output[0] in outputs:
            name = node.output[0]
        else:
            continue
        numbers = [
            onnx.numpy_helper.to_array(constants[each]).item()
            for each in node.input[1:]
            if each in constants and all(extent == 1 for extent in constants[each].dims)
        ]
        if len(numbers) == len(node.input) - 1:
            scale, *zero = numbers
            found[name] = LinearScale(float(scale), int(zero[0]) if zero else 0)
    return found
