"""Element types that a target's CPU has no arithmetic for."""

from pathlib import Path
from typing import Literal

from edgepack.config.target import Target

_TYPES: tuple[Literal["float16", "bfloat16"], ...] = ("float16", "bfloat16")


def slow_types(model: Path, target: Target) -> tuple[str, ...]:
    """Warnings about element types of an .onnx file that the target converts for every operation."""
    import onnx

    graph = onnx.load_model(model, load_external_data=False).graph
    used = {tensor.data_type for tensor in graph.initializer}
    used |= {value.type.tensor_type.elem_type for value in (*graph.input, *graph.value_info)}
    names = [
        name
        for name in _TYPES
        if getattr(onnx.TensorProto, name.upper()) in used and not target.computes_in(name)
    ]
    return tuple(
        f"the model computes in {name}, for which the CPU of {target.name} has no arithmetic: every value is converted "
        "to float32 and back, which is slower than the same model in float32"
        for name in names
    )
