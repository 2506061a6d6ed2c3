"""How many numbers a kernel multiplies and adds, read from its loops before they are scheduled."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgepack.schedules.kernel import find


@dataclass(frozen=True)
class Macs:
    """Multiply-accumulates of a call, and the type of the numbers; None if there are none."""

    count: int = 0
    arithmetic: str | None = None


def macs_of(function: Any) -> Macs:
    """Count the sums of products in a kernel: ``c[i] = c[i] + a[j] * b[k]``, with ``a`` and ``b`` different tensors.

    Sums of squares, as in normalisations, do not count, nor does what is added without a product, as for ONNX models
    (:func:`edgepack.onnxfile.counting.count`).
    """
    total, types = 0, dict[str, int]()
    for store, times in _stores(function.body, 1):
        kind = _product(store)
        if kind is not None:
            count = times * _lanes(store.value)
            total += count
            types[kind] = types.get(kind, 0) + count
    return Macs(total, max(types, key=lambda kind: types[kind]) if types else None)


def _stores(statement: Any, times: int) -> Iterator[tuple[Any, int]]:
    """Yield each store with the iterations of the loops around it."""
    from tvm import s_tir, tirx

    if isinstance(statement, tirx.BufferStore):
        yield statement, times
    elif isinstance(statement, tirx.For):
        extent = statement.extent
        yield from _stores(statement.body, times * (int(extent) if isinstance(extent, tirx.IntImm) else 0))
    elif isinstance(statement, tirx.SeqStmt):
        for each in statement.seq:
            yield from _stores(each, times)
    elif isinstance(statement, tirx.IfThenElse):
        for branch in (statement.then_case, statement.else_case):
            if branch is not None:
                yield from _stores(branch, times)
    elif isinstance(statement, s_tir.SBlockRealize):
        yield from _stores(statement.block.body, times)
    elif (body := getattr(statement, "body", None)) is not None:
        yield from _stores(body, times)


def _product(store: Any) -> str | None:
    """Return the type of the numbers in the product that a statement adds to what it stores; None if it adds none."""
    from tvm import ir, tirx

    value = store.value
    if not isinstance(value, tirx.Add):
        return None
    for old, added in ((value.a, value.b), (value.b, value.a)):
        if not (isinstance(old, ir.TensorLoad) and old.source.same_as(store.buffer)):
            continue
        product = added
        while isinstance(product, tirx.Cast):
            product = product.value
        if isinstance(product, tirx.Mul):
            factors = [find(each, ir.TensorLoad) for each in (product.a, product.b)]
            if all(factors) and not _of_same(*factors):
                return _arithmetic(store, [load for each in factors for load in each])
    return None


def _of_same(first: list[Any], second: list[Any]) -> bool:
    """Whether both read the same tensors, as a square does."""

    def among(load: Any, others: list[Any]) -> bool:
        return any(load.source.same_as(other.source) for other in others)

    return all(among(each, second) for each in first) and all(among(each, first) for each in second)


def _arithmetic(store: Any, loads: list[Any]) -> str:
    """Return int8 if both factors are of 8 bits or fewer and the sum is of integers; else the sum's type."""
    total = _element(store.buffer.dtype)
    narrow = all(_element(load.source.dtype) in {"int8", "uint8", "int4", "uint4"} for load in loads)
    return "int8" if total.startswith(("int", "uint")) and narrow else total


def _element(dtype: Any) -> str:
    return str(dtype).partition("x")[0]


def _lanes(value: Any) -> int:
    return int(str(value.ty.dtype).partition("x")[2] or 1)
