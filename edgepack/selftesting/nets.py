"""Nets of cases as ONNX files, with their inputs, and how outputs are compared."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.export.reference import relative_error
from edgepack.selftesting.cases import INDICES, CaseNet, Fill, KernelCase

if TYPE_CHECKING:
    import numpy as np

_TYPES = {"float32": "float", "float16": "float16", "int8": "int8"}
_OPSET, _IR_VERSION = 18, 10
_SMALLEST = 1e-30  # scale of a value that is 0


def write(net: CaseNet, path: Path) -> "dict[str, np.ndarray]":
    """Write a net as an .onnx file; returns its inputs by name, the same each time."""
    import numpy as np
    import onnx
    from onnx import helper

    parts = [_part(case, np.random.default_rng(list(case.name.encode()))) for case in net.cases]
    graph = helper.make_graph(
        [node for graph, _ in parts for node in graph.node],
        net.name,
        [value for graph, _ in parts for value in graph.input],
        [value for graph, _ in parts for value in graph.output],
        [value for graph, _ in parts for value in graph.initializer],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR_VERSION)
    _add_output_types(model)
    onnx.save(model, path)
    return {f"{case.name}.x": x for case, (_, x) in zip(net.cases, parts, strict=True)}


def _part(case: KernelCase, rng: "np.random.Generator") -> "tuple[Any, np.ndarray]":
    """A case as a graph whose names start with that of the case, and its input."""
    import onnx.parser
    from onnx import numpy_helper

    shape = ", ".join(map(str, case.x.shape))
    kind = _TYPES[case.x.dtype]
    graph = onnx.parser.parse_graph(f"g ({kind}[{shape}] x) => (float y) {{ {case.body} }}")
    x = _array(case.x, rng)
    graph.initializer.extend(
        numpy_helper.from_array(_constant(case, name, fill, rng), name)
        for name, fill in case.constants.items()
    )
    for node in graph.node:
        node.name = f"{case.name}.{node.output[0]}"
        node.input[:] = [f"{case.name}.{name}" for name in node.input]
        node.output[:] = [f"{case.name}.{name}" for name in node.output]
    for value in (*graph.input, *graph.output, *graph.initializer):
        value.name = f"{case.name}.{value.name}"
    return graph, x


def _constant(case: KernelCase, name: str, fill: Fill, rng: "np.random.Generator") -> "np.ndarray":
    import numpy as np

    if name in {"axes", "shape"}:
        return np.array(INDICES[case.name], "int64")
    return _array(fill, rng)


def _array(fill: Fill, rng: "np.random.Generator") -> "np.ndarray":
    values = rng.uniform(fill.low, fill.high, fill.shape)
    if fill.dtype == "int8":
        values = values.round()
    array: np.ndarray = values.astype(fill.dtype) if fill.shape else _scalar(fill)
    return array


def _scalar(fill: Fill) -> "np.ndarray":
    import numpy as np

    return np.array(fill.low, fill.dtype)


def _add_output_types(model: Any) -> None:
    """Complete the types of the outputs, which the bodies leave open."""
    from onnx import ModelProto, shape_inference

    bare = ModelProto()
    bare.CopyFrom(model)
    del bare.graph.output[:]
    inferred = shape_inference.infer_shapes(bare, data_prop=True)
    found = {value.name: value for value in inferred.graph.value_info}
    for output in model.graph.output:
        output.CopyFrom(found[output.name])


def difference(case: KernelCase, ours: "np.ndarray", reference: "np.ndarray") -> float:
    """The largest difference in the measure of the case; infinite for NaN, infinities, another shape or type."""
    import numpy as np

    if ours.dtype != reference.dtype:
        return float("inf")
    error = relative_error(ours, reference)
    if not case.each or not np.isfinite(error):
        return error
    a, b = ours.astype(np.float64), reference.astype(np.float64)
    return float((np.abs(a - b) / np.maximum(np.abs(b), _SMALLEST)).max(initial=0.0))
