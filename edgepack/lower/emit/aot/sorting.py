"""Kernels that TVM leaves to functions of its runtime, as calls of functions of ours: sort, argsort, top-k."""

import math
from dataclasses import dataclass
from typing import Any

from edgepack.lower.conditions import operator
from edgepack.lower.emit.aot.dtypes import dlpack_type
from edgepack.lower.emit.aot.errors import NeedsMachineError

SORT = "edgepack_sort"
"""The function of the runtime (``edgepack_net.h``)."""

_PAIR = 16  # bytes of a key and its index


@dataclass(frozen=True)
class SortCall:
    """A sort along an axis.

    Attributes:
        values: number of the kernel's parameter that gets sorted values; None if it has none.
        indices: number of the one that gets the indices of the values.
        numbers: further arguments: elements before the axis, along it, behind it, of the result along it; type of the values
            and bits of the indices; 1 for ascending order.
        scratch: bytes that the function needs while it runs.
    """

    values: int | None
    indices: int | None
    numbers: tuple[int, ...]
    scratch: int


def sort_call(function: Any) -> SortCall | None:
    """Return the sort that a kernel consists of; None if it calls nothing by name.

    Raises:
        NeedsMachineError: It calls another function by name.
    """
    import tvm_ffi
    from tvm import ir

    calls: list[Any] = []
    tvm_ffi.structural_walk(function.body, (ir.Call, calls.append))
    packed = [call for call in calls if operator(call) == "tirx.tvm_call_packed"]
    if not packed:
        return None
    name = str(packed[0].args[0].value)
    if len(packed) > 1 or name not in _PLACES:
        raise NeedsMachineError(f"it calls {name}")
    arrays = [arg for arg in packed[0].args[1:] if isinstance(arg, ir.Call)]
    others = list(packed[0].args[1 + len(arrays) :])
    parameters = [_parameter(function, array) for array in arrays]
    if parameters != list(range(len(function.params))):
        raise NeedsMachineError(f"it calls {name} on parts")
    values, indices, axis = _PLACES[name](others)
    shapes = [tuple(int(extent) for extent in parameter.ty.shape) for parameter in function.params]
    along = int(axis) % len(shapes[0])
    data, last = shapes[0], function.params[-1].ty.dtype if indices is not None else "int64"
    numbers = (
        math.prod(data[:along]),
        data[along],
        math.prod(data[along + 1 :]),
        shapes[-1][along],
        *dlpack_type(str(function.params[0].ty.dtype)),
        *dlpack_type(str(last)),
        int(others[-1]),
    )
    return SortCall(values, indices, numbers, 2 * _PAIR * data[along])


def _of_topk(others: list[Any]) -> tuple[int | None, int | None, Any]:
    returned = str(others[2].value)
    if returned == "both":
        return 1, 2, others[1]
    return (1, None, others[1]) if returned == "values" else (None, 1, others[1])


_PLACES = {
    "tvm.contrib.sort.sort": lambda others: (1, None, others[0]),
    "tvm.contrib.sort.argsort": lambda others: (None, 1, others[0]),
    "tvm.contrib.sort.topk": _of_topk,
}
"""Where the results of a function are, and its axis, by its arguments that are not tensors."""


def _parameter(function: Any, array: Any) -> int:
    (data, *_) = array.args
    (found,) = (n for n, each in enumerate(function.params) if each.same_as(data.args[0]))
    return found
