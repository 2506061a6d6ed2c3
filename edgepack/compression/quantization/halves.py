"""Weights in 16 bits: constants of float16 or bfloat16, with a Cast to float32 where the graph reads them."""

import graphlib
import math
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from edgepack.compression.method import Metrics
from edgepack.compression.quantization.layers import RECURRENT, WeightConstant, selected, weights
from edgepack.compression.quantization.rounded import decibels
from edgepack.errors import InputError
from edgepack.onnxfile.protos import reads, replace_all

if TYPE_CHECKING:
    import numpy as np
    import onnx

Half = Literal["float16", "bfloat16"]
SMALLEST = 32
"""Elements of the smallest constant that is stored in 16 bits; smaller ones save less than their Cast takes."""
_SKIPPED = "skipped by the recipe"
_SCALES = {"DequantizeLinear", "QuantizeLinear"}


@dataclass(frozen=True)
class Stored:
    """What was stored in 16 bits.

    Attributes:
        layers: name of a constant to its bytes ``[before, after]``.
        sqnr_db: name to its signal-to-noise ratio in dB; None if nothing is lost.
        kept_whole: name to the reason why it stays float32.
    """

    layers: dict[str, list[int]] = field(default_factory=dict)
    sqnr_db: dict[str, float | None] = field(default_factory=dict)
    kept_whole: dict[str, str] = field(default_factory=dict)


def store_halves(
    model: "onnx.ModelProto",
    half: Half,
    kept: Mapping[str, WeightConstant],
    only: Collection[str] | None = None,
) -> Stored:
    """Store, in place, the float32 constants of the graph in 16 bits, except those of the layers of ``kept``.

    If ``only`` is given, other constants are left out.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    kind = helper.tensor_dtype_to_np_dtype(TensorProto.DataType.Value(half.upper()))
    scales = {name for node in graph.node if node.op_type in _SCALES for name in node.input[1:]}
    outputs = {value.name for value in graph.output}
    layers = {weight.layer for weight in kept.values()} - {""}
    stored = Stored(kept_whole=dict.fromkeys(kept, _SKIPPED))
    nodes: list[onnx.NodeProto] = []
    for tensor in graph.initializer:
        name = tensor.name
        if tensor.data_type != TensorProto.FLOAT or math.prod(tensor.dims) < SMALLEST:
            continue
        if only is not None and name not in only:
            continue
        if name in kept or name.rpartition(".")[0] in layers or name in scales or name in outputs:
            continue
        array = numpy_helper.to_array(tensor)
        narrow = _narrowed(array, kind)
        if narrow is None:
            stored.kept_whole[name] = f"it has values beyond the range of {half}"
            continue
        stored.layers[name] = [array.nbytes, narrow.nbytes]
        stored.sqnr_db[name] = _ratio(array, narrow.astype(array.dtype))
        tensor.CopyFrom(numpy_helper.from_array(narrow, f"{name}_{half}"))
        nodes.append(
            helper.make_node("Cast", [tensor.name], [name], name=f"{name}_cast", to=TensorProto.FLOAT)
        )
    replace_all(graph.node, [*nodes, *graph.node])
    return stored


def _narrowed(array: "np.ndarray", kind: "np.dtype[np.generic]") -> "np.ndarray | None":
    import numpy as np

    with np.errstate(over="ignore"):
        narrow = array.astype(kind)
    return narrow if np.array_equal(np.isfinite(narrow.astype(np.float32)), np.isfinite(array)) else None


def _ratio(array: "np.ndarray", narrow: "np.ndarray") -> float | None:
    import numpy as np

    finite = np.isfinite(array)
    wide = array[finite].astype(np.float64)
    return decibels(float(np.square(wide).sum()), float(np.square(wide - narrow[finite]).sum()))


def store_file(model: Path, out: Path, half: Half, skip: tuple[str, ...], method: str) -> Metrics:
    """Store the weights of the file ``model`` in 16 bits, in ``out``; it computes in float32.

    Raises:
        InputError: no weight is float32, or a ``skip`` name is unknown.
    """
    from edgepack.onnxfile import canonicalise, load_onnx, save_onnx

    proto = load_onnx(model)
    found = weights(proto.graph)
    stored = store_halves(proto, half, {name: found[name] for name in selected(found, skip, method)})
    _require(stored, model, method)
    save_onnx(canonicalise(proto), out)
    return {**asdict(stored), "size": [model.stat().st_size, out.stat().st_size]}


def convert_file(model: Path, out: Path, skip: tuple[str, ...], method: str) -> Metrics:
    """Convert the file ``model`` to compute in float16, in ``out``; inputs and outputs keep their types.

    Raises:
        InputError: no weight is float32, or a ``skip`` name is unknown.
    """
    from onnx import TensorProto, numpy_helper
    from onnxruntime.transformers.float16 import DEFAULT_OP_BLOCK_LIST, convert_float_to_float16

    from edgepack.onnxfile import canonicalise, load_onnx, save_onnx
    from edgepack.onnxfile.quiet import quiet

    proto = load_onnx(model)
    found = weights(proto.graph)
    kept = selected(found, skip, method)
    before = {
        tensor.name: numpy_helper.to_array(tensor)
        for tensor in proto.graph.initializer
        if tensor.data_type == TensorProto.FLOAT
    }
    blocked = [node for name in kept for node in found[name].users]
    with quiet():
        converted = convert_float_to_float16(
            proto,
            keep_io_types=True,
            op_block_list=[*DEFAULT_OP_BLOCK_LIST, *RECURRENT, *sorted(_SCALES)],
            node_block_list=blocked,
        )
    _sort_nodes(converted.graph)
    result = canonicalise(converted)
    stored = Stored(kept_whole=dict.fromkeys(kept, _SKIPPED))
    for tensor in result.graph.initializer:
        if tensor.name not in before or tensor.data_type != TensorProto.FLOAT16:
            continue
        array, narrow = before[tensor.name], numpy_helper.to_array(tensor)
        if array.size >= SMALLEST:
            stored.layers[tensor.name] = [array.nbytes, narrow.nbytes]
            stored.sqnr_db[tensor.name] = _ratio(array, narrow.astype(array.dtype))
    _require(stored, model, method)
    save_onnx(result, out)
    return {**asdict(stored), "size": [model.stat().st_size, out.stat().st_size]}


def _require(stored: Stored, model: Path, method: str) -> None:
    if not stored.layers:
        raise InputError(
            f"there is no constant of {SMALLEST} elements or more to store in 16 bits",
            where=str(model),
            why="; ".join(f"{name}: {why}" for name, why in list(stored.kept_whole.items())[:4]) or None,
            next=f"remove {method}, or skip fewer layers",
        )


def _sort_nodes(graph: "onnx.GraphProto") -> None:
    """Put the nodes in topological order, in place; the converter appends its casts at the end."""
    makers = {name: number for number, node in enumerate(graph.node) for name in node.output}
    above = {
        number: {makers[name] for name in reads(node) if name in makers}
        for number, node in enumerate(graph.node)
    }
    replace_all(
        graph.node, [graph.node[number] for number in graphlib.TopologicalSorter(above).static_order()]
    )
