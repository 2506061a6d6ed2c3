"""Phase 0: an ONNX file becomes a Relax module with static shapes, parameters bound as constants."""

import contextlib
import io
import warnings
from typing import Any

from edgepack.errors import InputError
from edgepack.onnxfile import load_onnx

HINTS = {
    "LSTM": "recurrent layers are not compiled yet; export the loop unrolled, or use a convolutional model",
    "GRU": "recurrent layers are not compiled yet; export the loop unrolled, or use a convolutional model",
    "RNN": "recurrent layers are not compiled yet; export the loop unrolled, or use a convolutional model",
    "Loop": "export the model without data-dependent control flow",
    "Scan": "export the model without data-dependent control flow",
    "QLinearConv": "quantize in Q/DQ form (QuantFormat.QDQ), which the compiler reads",
    "QLinearMatMul": "quantize in Q/DQ form (QuantFormat.QDQ), which the compiler reads",
    "ConvInteger": "quantize in Q/DQ form (QuantFormat.QDQ), which the compiler reads",
}


def import_onnx(mod: Any, context: Any) -> Any:
    """Import ``context.model``; ``mod`` is None.

    Raises:
        InputError: A broken file, an operator TVM cannot import (with its node), or an input shape that is
            not static.
    """
    del mod
    model = load_onnx(context.model)
    where = str(context.model)
    importer = _importer(where)(static_shapes(model.graph, where), "float32", sanitize=False)
    opset = next((op.version for op in model.opset_import if op.domain in ("", "ai.onnx")), 1)
    # TVM warns about what load_onnx has checked, and prints the operands of a failing node to stdout.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return importer.from_onnx(model.graph, opset)


def static_shapes(graph: Any, where: str) -> dict[str, list[int]]:
    """Shapes of the graph's inputs, a symbolic first axis (the batch) bound to 1.

    Raises:
        InputError: Another axis has no fixed size.
    """
    constants = {tensor.name for tensor in graph.initializer}
    shapes = {}
    for value in graph.input:
        if value.name in constants:
            continue
        shape = []
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                shape.append(dim.dim_value)
            elif axis == 0:
                shape.append(1)
            else:
                raise InputError(
                    f"axis {axis} of input {value.name!r} has no fixed size ({dim.dim_param or '?'})",
                    where=where,
                    why="kernels are compiled and tuned for fixed shapes; only the first axis may be open (batch 1)",
                    next="give the input's shape in the recipe, or export the model with fixed shapes",
                )
        shapes[value.name] = shape
    return shapes


def _importer(where: str) -> Any:
    """TVM's importer, with errors that name the node."""
    from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter

    class Importer(ONNXGraphImporter):  # type: ignore[misc]  # TVM is untyped
        def _check_for_unsupported_ops(self, graph: Any) -> None:
            from tvm.relax.frontend.onnx.onnx_frontend import _get_convert_map

            known = {*_get_convert_map(), "If", "Constant"}
            missing = {node.op_type: node for node in reversed(graph.node) if node.op_type not in known}
            for operator, node in missing.items():
                raise InputError(
                    f"operator {operator} cannot be compiled",
                    where=f"{where}, node {_name(node)}",
                    why=f"TVM's ONNX importer lacks it; unsupported in this model: {', '.join(sorted(missing))}",
                    next=HINTS.get(
                        operator, "replace it by operators that can be, or export with another opset"
                    ),
                )

        def _convert_operator(self, op_name: str, inputs: Any, attrs: Any, opset: int) -> Any:
            try:
                return super()._convert_operator(op_name, inputs, attrs, opset)
            except Exception as error:
                name = attrs["tvm_custom"]["name"]
                raise InputError(
                    f"operator {op_name} (opset {opset}) cannot be imported in this form",
                    where=f"{where}, node {name or op_name}",
                    why=_reason(error),
                    next=HINTS.get(
                        op_name, "export the model with another opset, or with static shapes and constants"
                    ),
                ) from error

    return Importer


def _name(node: Any) -> str:
    return node.name or f"that computes {node.output[0]}"


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[-1] if lines else 'no message'}"
