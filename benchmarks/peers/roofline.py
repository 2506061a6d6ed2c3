"""The minimum time of a net's inference on this machine (Williams, Waterman and Patterson, 2009).

It is the larger of two limits: multiply-adds at the arithmetic peak of the precision, and bytes at the measured
memory read bandwidth. Bytes are those of weights, inputs and outputs, each moved once; intermediate activations
are assumed to stay in the caches. As many of these bytes as fit into the last-level cache may remain there
from the previous inference, so only the excess counts.
"""

import math
from pathlib import Path

from onnx import TensorProto, helper, shape_inference

from benchmarks.peers.results import Roofline
from edgepack.onnxfile import load_onnx

_BYTES = {"fp32": 4, "int8": 1}  # per weight
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def roofline(
    onnx: Path, macs: int, precision: str, *, peak_gops: float, bandwidth_gbs: float, cache_bytes: int
) -> Roofline:
    """Return the roofline of the fp32 model ``onnx`` at ``precision``."""
    moved = model_bytes(onnx, precision)
    compute = 2 * macs / peak_gops
    memory = max(0, moved - cache_bytes) / bandwidth_gbs
    return Roofline(
        macs=macs,
        bytes=moved,
        peak_gops=peak_gops,
        bandwidth_gbs=bandwidth_gbs,
        cache_bytes=cache_bytes,
        ns=max(compute, memory),
        bound="compute" if compute >= memory else "memory",
    )


def model_bytes(onnx: Path, precision: str) -> int:
    """Return bytes of weights, inputs and outputs. Of a table read by Gather, only the rows read count.

    In int8, tensors of two or more dimensions have one byte per element and all others (biases) four;
    inputs and outputs keep the model's types.
    """
    graph = shape_inference.infer_shapes(load_onnx(onnx), data_prop=True).graph
    types = {value.name: value.type.tensor_type for value in (*graph.input, *graph.value_info, *graph.output)}

    def elements(name: str) -> int:
        return math.prod(dim.dim_value for dim in types[name].shape.dim)

    total = sum(
        elements(value.name) * helper.tensor_dtype_to_np_dtype(types[value.name].elem_type).itemsize
        for value in (*graph.input, *graph.output)
    )
    for tensor in graph.initializer:
        if tensor.data_type not in _FLOATS:
            continue
        count = math.prod(tensor.dims)
        readers = [node for node in graph.node if tensor.name in node.input]
        if all(node.op_type == "Gather" and node.input[0] == tensor.name for node in readers):
            count = min(count, sum(elements(node.output[0]) for node in readers))
        total += count * (_BYTES[precision] if len(tensor.dims) > 1 else 4)
    return total
