"""The least time that a net's inference can take on this machine (Williams, Waterman and Patterson, 2009).

Two limits, the larger counts: multiply-adds at the arithmetic peak of the precision, and bytes at the measured
read bandwidth of memory. Bytes are those of weights, inputs and outputs, each moved once; activations in between
are taken to stay in the caches. Of these bytes, as many as the last-level cache holds may be there
from the inference before, so only what exceeds it counts.
"""

import math
from pathlib import Path

from benchmarks.peers.results import Roofline
from edgepack.onnxfile import load_onnx

_BYTES = {"fp32": 4, "int8": 1}  # of a weight


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
    import onnx as library

    model = library.shape_inference.infer_shapes(load_onnx(onnx), data_prop=True)
    graph = model.graph
    floats = {library.TensorProto.FLOAT, library.TensorProto.FLOAT16, library.TensorProto.DOUBLE}
    weights = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer if tensor.data_type in floats}
    values = {
        value.name: (
            tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim),
            library.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type).itemsize,
        )
        for value in (*graph.input, *graph.value_info, *graph.output)
    }
    total = sum(
        math.prod(values[value.name][0]) * values[value.name][1] for value in (*graph.input, *graph.output)
    )
    readers: dict[str, list[library.NodeProto]] = {}
    for node in graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for name, shape in weights.items():
        elements = math.prod(shape)
        if all(node.op_type == "Gather" and node.input[0] == name for node in readers.get(name, ())):
            read = sum(math.prod(values[node.output[0]][0]) for node in readers.get(name, ()))
            elements = min(elements, read)
        total += elements * (_BYTES[precision] if len(shape) > 1 else 4)
    return total
