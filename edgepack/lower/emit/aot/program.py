"""What a graph does, as a list: buffers of known size, and the kernels that are called on them, in order."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from edgepack.lower.conditions import operator
from edgepack.lower.emit.aot.errors import NeedsMachineError
from edgepack.lower.emit.aot.sorting import SORT, SortCall

Kind = Literal["input", "weight", "output", "arena", "fetched", "none"]

COPY = ""
"""In place of a kernel's name: the second buffer gets what the first one holds."""


@dataclass(frozen=True)
class Buffer:
    """Memory that a program reads or writes.

    Attributes:
        kind: whose it is: the caller's inputs and outputs, the weights file's, or the program's own, which may be fetched
            from that file; ``none`` stands for an address that is not needed.
        number: of the buffer among those of its kind.
        size: in bytes.
    """

    kind: Kind
    number: int
    size: int


@dataclass(frozen=True)
class KernelCall:
    """A call of a kernel, or of a function of the runtime, with the addresses of buffers.

    Attributes:
        kernel: its name; that of a function of the runtime is given in ``function``.
        buffers: whose addresses are the arguments.
        function: of the runtime.
        numbers: its further arguments.
    """

    kernel: str
    buffers: tuple[Buffer, ...]
    function: str | None = None
    numbers: tuple[int, ...] = ()


@dataclass(frozen=True)
class Program:
    """A function of the graph.

    Attributes:
        calls: in order.
        inputs: sizes of the parameters that are inputs, in bytes.
        weights: sizes of the others.
        outputs: sizes of the results.
    """

    calls: tuple[KernelCall, ...]
    inputs: tuple[int, ...]
    weights: tuple[int, ...]
    outputs: tuple[int, ...]


def program_of(function: Any, inputs: int, sorts: Mapping[str, SortCall]) -> Program:
    """Read a sequential Relax function, of whose parameters the first ``inputs`` are inputs and the rest weights.

    Args:
        function: The function.
        inputs: How many of its parameters are inputs.
        sorts: By kernel: those that are a function of the runtime.

    Raises:
        NeedsMachineError: It calls a function by name, or a size is not known.
    """
    return _Reader(function, inputs, sorts).program()


@dataclass
class _Value:
    """A tensor: the buffer that holds its elements once that is known, and its size."""

    size: int
    buffer: Buffer | None = None


@dataclass
class _Call:
    """A call whose values may have no buffers yet."""

    kernel: str
    given: list[_Value]
    function: str | None = None
    numbers: tuple[int, ...] = ()

    def placed(self) -> KernelCall:
        """Return the call, once all values have buffers."""
        return KernelCall(self.kernel, tuple(map(_buffer, self.given)), self.function, self.numbers)


class _Reader:
    def __init__(self, function: Any, inputs: int, sorts: Mapping[str, SortCall]) -> None:
        self._function, self._count, self._sorts = function, inputs, sorts
        self._values: dict[Any, Any] = {}  # by variable: a value, or a tuple of them
        self._calls: list[_Call] = []

    def program(self) -> Program:
        """Return the program."""
        function = self._function
        for number, parameter in enumerate(function.params):
            kind: Kind = "input" if number < self._count else "weight"
            place = number if kind == "input" else number - self._count
            size = _size(parameter.ty)
            self._values[parameter] = _Value(size, Buffer(kind, place, size))
        for block in function.body.blocks:
            for binding in block.bindings:
                found = self._value(binding.value)
                if found is not None:
                    self._values[binding.var] = found
        results = _flat(self._value(function.body.body))
        self._place(results)
        sizes = [_size(parameter.ty) for parameter in function.params]
        return Program(
            calls=tuple(call.placed() for call in self._calls),
            inputs=tuple(sizes[: self._count]),
            weights=tuple(sizes[self._count :]),
            outputs=tuple(each.size for each in results),
        )

    def _value(self, expr: Any) -> Any:
        """Return what an expression is: a value, a tuple of values, or None for a call that writes its last argument."""
        from tvm import ir, relax

        if isinstance(expr, relax.Var):
            return self._values[expr]
        if isinstance(expr, relax.Tuple):
            return tuple(self._value(each) for each in expr.fields)
        if isinstance(expr, relax.TupleGetItem):
            return self._value(expr.tuple_value)[expr.index]
        if isinstance(expr, ir.Call):
            name = operator(expr)
            if name == "relax.builtin.alloc_tensor":
                return _Value(_elements(expr.args[0].values) * _bytes(str(expr.args[1].value)))
            if name == "relax.reshape":
                return self._value(expr.args[0])
            if isinstance(expr.op, ir.GlobalVar):
                self._calls.append(
                    self._call(str(expr.op.name_hint), _flat(tuple(map(self._value, expr.args))))
                )
                return None
            raise _unknown(str(getattr(expr.op, "global_symbol", name or expr.op)))
        raise _unknown(type(expr).__name__)

    def _call(self, kernel: str, given: list[_Value]) -> _Call:
        if (sort := self._sorts.get(kernel)) is None:
            return _Call(kernel, given)
        nothing = _Value(0, Buffer("none", 0, 0))
        results = (nothing if place is None else given[place] for place in (sort.values, sort.indices))
        return _Call(kernel, [given[0], *results, _Value(sort.scratch)], SORT, sort.numbers)

    def _place(self, results: Sequence[_Value]) -> None:
        """Give every value a buffer: results those of the caller, which are copied if that is not possible."""
        for number, result in enumerate(results):
            own = Buffer("output", number, result.size)
            if result.buffer is None:
                result.buffer = own
            else:
                self._calls.append(_Call(COPY, [result, _Value(result.size, own)]))
        number = 0
        for call in self._calls:
            for value in call.given:
                if value.buffer is None:
                    value.buffer = Buffer("arena", number, value.size)
                    number += 1


def _buffer(value: _Value) -> Buffer:
    if value.buffer is None:
        raise ValueError("a value without a buffer")
    return value.buffer


def _flat(value: Any) -> list[_Value]:
    return [leaf for each in value for leaf in _flat(each)] if isinstance(value, tuple) else [value]


def _unknown(what: str) -> NeedsMachineError:
    return NeedsMachineError(f"it has {what}")


def _size(ty: Any) -> int:
    return _elements(ty.shape) * _bytes(str(ty.dtype))


def _elements(shape: Any) -> int:
    from tvm import tirx

    if not all(isinstance(extent, tirx.IntImm) for extent in shape):
        raise _unknown(f"a tensor of shape {list(shape)}")
    return math.prod(int(extent) for extent in shape)


def _bytes(dtype: str) -> int:
    import tvm_ffi

    return max(1, int(tvm_ffi.dtype(dtype).itemsize))
