"""Build the kernel of a recurrent layer."""

from typing import Any

from edgepack.schedules.recurrent.cells import RecurrentCell
from edgepack.schedules.recurrent.layer import RecurrentLayer
from edgepack.schedules.recurrent.loops import Loops, Vectors

LAYER = "edgepack.recurrent"
"""Attribute of a recurrent kernel: its layer, as JSON."""

_OPAQUE = 8  # TVM's pattern of kernels that are not fused with others


_SERIAL = Vectors()


def build_kernel(layer: RecurrentLayer, loops: Loops = _SERIAL) -> Any:
    """Return a PrimFunc with the layer's operands and results as parameters."""
    from tvm.script.ir_builder import IRBuilder, tirx

    with IRBuilder() as builder, tirx.prim_func(is_private=True):
        tirx.func_name(layer.kind.lower())
        tirx.func_attr({LAYER: layer.model_dump_json(), "op_pattern": _OPAQUE, "tirx.noalias": True})
        buffers = {
            name: tirx.arg(name, tirx.buffer(shape, dtype))
            for name, (shape, dtype) in {**layer.inputs(), **layer.outputs()}.items()
        }
        loops.sequences(
            layer, lambda way, number: _sequence(RecurrentCell(layer, loops, buffers, way, number))
        )
    return builder.get()


def layer_of(function: Any) -> RecurrentLayer | None:
    """Return the layer of a recurrent kernel; None if the function is another kernel."""
    text = (function.attrs or {}).get(LAYER)
    return None if text is None else RecurrentLayer.model_validate_json(str(text))


def schedule_recurrent(function: Any, loops: Loops) -> Any:
    """Write a recurrent kernel again with these loops; None if the function is another kernel."""
    layer = layer_of(function)
    if layer is None:
        return None
    written = build_kernel(layer, loops)
    for name, value in function.attrs.items():
        written = written.with_attr(name, value)
    return written.with_attr("tirx.is_scheduled", True)


def _sequence(cell: RecurrentCell) -> None:
    from tvm import tirx as tir
    from tvm.script.ir_builder import tirx

    layer = cell.layer
    length: Any = layer.steps
    if "lengths" in layer.given:
        given = cell.buffers["lengths"][cell.sequence]
        length = tirx.bind(tir.max(tir.min(given, tir.const(layer.steps, "int32")), tir.const(0, "int32")))
    cell.begin()
    with tirx.serial(layer.steps) as number:
        time = length - 1 - number if layer.directions[cell.way].backward else number
        if "lengths" not in layer.given:
            cell.step(time, number % 2, (number + 1) % 2)
        else:
            with tirx.If(number < length):
                with tirx.Then():
                    cell.step(time, number % 2, (number + 1) % 2)
                with tirx.Else():
                    cell.skip(number)
    cell.end(length)
