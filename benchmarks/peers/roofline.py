"""The least time that a net's inference can take on this machine (Williams, Waterman and Patterson, 2009).

Two limits, the larger counts: multiply-adds at the arithmetic peak of the precision, and bytes at the measured
read bandwidth of memory. Bytes are those of weights, inputs and outputs, each moved once; activations in between
are taken to stay in the caches. Of these bytes, as many as the last-level cache holds may be there
from the inference before, so only what exceeds it counts.
"""

import math
from pathlib import Path

from onnx import TensorProto, helper, shape_inference

from benchmarks.peers.results import Roofline
from edgepack.onnxfile import load_onnx

_BYTES = {"fp32": 4, "int8": 1}  # of a weight
_FLOATS = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE)


def roofline(
    onnx: Path, macs: int, precision: str, *, peak_gops: float, bandwidth_gbs: float, cache_bytes: int
) -> Roofline:
    """Of the fp32 model ``onnx`` at ``precision``."""
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
    """Weights, inputs and outputs. Of a table that Gather reads, only the rows it reads.

    In int8, tensors of two and more dimensions have one byte an element and all others (biases) four;
    inputs and outputs stay as the model has them.
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
