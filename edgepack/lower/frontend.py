"""Phase 0: an ONNX file becomes a Relax module with static shapes, parameters bound as constants."""

import contextlib
import io
import warnings
from typing import Any

from edgepack.errors import InputError


def import_onnx(mod: Any, context: Any) -> Any:
    """Import ``context.model``; ``mod`` is None.

    Raises:
        InputError: An operator TVM cannot import (with its node), or an input shape that is not static.
    """
    del mod
    import onnx
    from tvm.relax.frontend.onnx import from_onnx

    model = onnx.load(context.model)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return from_onnx(
            model, shape_dict=static_shapes(model.graph, str(context.model)), sanitize_input_names=False
        )


def static_shapes(graph: Any, where: str) -> dict[str, list[int]]:
    """Shapes of the graph's inputs, a symbolic first axis (the batch) bound to 1."""
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
                    next="export the model with fixed shapes",
                )
        shapes[value.name] = shape
    return shapes
