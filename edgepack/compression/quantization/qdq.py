"""Q/DQ around operators, by onnxruntime's quantizer, with ranges and grids determined before."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgepack.compression.quantization.grids import short_scales
from edgepack.compression.quantization.ranges import Ranges
from edgepack.compression.quantization.rounded import RoundedWeight

if TYPE_CHECKING:
    import onnx

ActivationType = Literal["uint8", "int8", "uint16", "int16"]
_WIDE = {"uint8": "uint16", "int8": "int16", "uint16": "uint16", "int16": "int16"}


@dataclass(frozen=True)
class Layout:
    """Which nodes are quantized, and how.

    Attributes:
        activations: type of the activations.
        excluded: names of nodes that stay as they are.
        wide: names of activations in 16 bits.
        tables: names of embeddings' tables, which have 8 bits even if activations have 16.
    """

    activations: ActivationType
    excluded: Collection[str] = ()
    wide: Collection[str] = ()
    tables: Collection[str] = ()

    @property
    def sixteen(self) -> bool:
        """Whether any activation has 16 bits, which needs opset 21."""
        return self.activations.endswith("16") or bool(self.wide)


def operators() -> list[str]:
    """Return the types of operators that onnxruntime's quantizer knows, as it does by default."""
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    return sorted({*QLinearOpsRegistry, *QDQRegistry})


def write_qdq(
    prepared: Path, ranges: Ranges, rounded: Mapping[str, RoundedWeight], layout: Layout
) -> "onnx.ModelProto":
    """Return the model at ``prepared`` in Q/DQ form; it has shapes inferred, and an opset that has the types of ``layout``.

    Weights get the grids and integers of ``rounded``; other constants that the quantizer finds, as those that are added,
    have one scale, with as few significant bits. Where the bias would
    not fit into int32, the quantizer raises a weight's scale, and rounds to the nearest.
    """
    import numpy as np
    import onnx
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.quant_utils import load_model_with_shape_infer

    types = {
        "uint8": QuantType.QUInt8,
        "int8": QuantType.QInt8,
        "uint16": QuantType.QUInt16,
        "int16": QuantType.QInt16,
    }
    symmetric = layout.activations.startswith("int")
    model = load_model_with_shape_infer(prepared)
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    overrides: dict[str, list[dict[str, Any]]] = {
        name: [{"quant_type": types[_WIDE[layout.activations]], "symmetric": symmetric}]
        for name in layout.wide
        if name in data
    }
    narrow = types[layout.activations.replace("16", "8")]
    overrides |= {name: [{"quant_type": narrow, "symmetric": symmetric}] for name in layout.tables}
    overrides |= {name: _override(each, types[each.grid.dtype]) for name, each in rounded.items()}
    quantizer = QDQQuantizer(
        model,
        True,
        False,
        QuantType.QInt8,
        types[layout.activations],
        TensorsData(CalibrationMethod.MinMax, data),
        [],
        list(layout.excluded),
        operators(),
        {"ActivationSymmetric": symmetric, "WeightSymmetric": True, "TensorQuantOverrides": overrides},
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    written: onnx.ModelProto = quantizer.model.model
    _set_integers(written.graph, rounded)
    _shorten_scales(written.graph, onnx.load(prepared).graph)
    return written


def _override(rounded: RoundedWeight, kind: Any) -> list[dict[str, Any]]:
    """Return the grid as onnxruntime takes it: one entry, or one per channel."""
    grid = rounded.grid
    entries: list[dict[str, Any]] = [
        {"quant_type": kind, "scale": scale, "zero_point": int(zero)}
        for scale, zero in zip(grid.scale, grid.zero, strict=True)
    ]
    if grid.axis is not None:
        entries = [{**entry, "axis": grid.axis} for entry in entries]
    return entries


def _set_integers(graph: "onnx.GraphProto", rounded: Mapping[str, RoundedWeight]) -> None:
    """Put the integers into the graph, in place, where its scales are those that they were rounded for."""
    import numpy as np
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    for name, each in rounded.items():
        integers, scale = tensors.get(f"{name}_quantized"), tensors.get(f"{name}_scale")
        if integers is None or scale is None:
            continue
        if np.array_equal(numpy_helper.to_array(scale).ravel(), each.grid.scale.ravel()):
            stored = each.form.restored(each.integers).reshape(tuple(integers.dims))
            kind = numpy_helper.to_array(integers).dtype
            integers.CopyFrom(numpy_helper.from_array(stored.astype(kind), integers.name))


def _shorten_scales(graph: "onnx.GraphProto", before: "onnx.GraphProto") -> None:
    """Give constants of 8 bits with one scale one with few significant bits, in place, and round their values anew."""
    import numpy as np
    from onnx import numpy_helper

    tensors = {tensor.name: tensor for tensor in graph.initializer}
    values = {tensor.name: tensor for tensor in before.initializer}
    for node in graph.node:
        name = node.input[0].removesuffix("_quantized") if node.op_type == "DequantizeLinear" else ""
        if name not in values or node.input[0] not in tensors:
            continue
        integers, scale = (numpy_helper.to_array(tensors[each]) for each in node.input[:2])
        if integers.dtype.itemsize > 1 or scale.ndim or (short := short_scales(scale)) == scale:
            continue
        zero = numpy_helper.to_array(tensors[node.input[2]])
        limits = np.iinfo(integers.dtype)
        steps = np.rint(numpy_helper.to_array(values[name]) / short) + zero
        rounded = np.clip(steps, limits.min, limits.max).astype(integers.dtype)
        for each, array in ((node.input[0], rounded), (node.input[1], np.asarray(short))):
            tensors[each].CopyFrom(numpy_helper.from_array(array, each))


def weighted_nodes(graph: "onnx.GraphProto", kinds: Sequence[str]) -> tuple[int, int]:
    """Count nodes of these types with dequantized weights, and those with float weights."""
    constants = {tensor.name for tensor in graph.initializer}
    dequantized = {
        n.output[0] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0] in constants
    }
    weighted = [n for n in graph.node if n.op_type in kinds]
    quantized = sum(n.input[1] in dequantized for n in weighted)
    return quantized, sum(n.input[1] in constants for n in weighted)
