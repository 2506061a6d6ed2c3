"""What each operator expects of its inputs: indices within a table, an argument for which it is defined, a mask."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING

from edgepack.onnxfile.known_values import SAME_VALUES, KnownValues, attributes_of

if TYPE_CHECKING:
    import numpy as np
    import onnx

_TINY = 1e-6  # the smallest argument of a logarithm
_LARGEST_EXPONENT = 10.0  # exp of it is still finite in float16
_DEAD = 1e3  # a score lowered by more than this is masked
_PIXEL = 50.0  # constants from here on scale or shift pixels of 0..255


@dataclass(frozen=True)
class Expected:
    """What the operators that read a tensor expect of its values.

    Attributes:
        low: the smallest value for which all of them are defined.
        high: the largest one.
        index: whether the values are indices or counts, with ``high`` known.
        kept: the values of a mask: 1 if ones mark what is used, -1 if zeros do; 0 if it is no mask.
        padding: the value that marks padding, as the id of a padding token.
        pixels: the value of a white pixel, where constants scale or normalise the tensor: 255 or 1.
    """

    low: float = -inf
    high: float = inf
    index: bool = False
    kept: int = 0
    padding: float | None = None
    pixels: float | None = None

    def both(self, other: "Expected") -> "Expected":
        """The expectations of two readers; where ranges exclude each other, that of indices, else the first."""
        low, high = max(self.low, other.low), min(self.high, other.high)
        if low > high:
            chosen = other if other.index and not self.index else self
            low, high = chosen.low, chosen.high
        return Expected(
            low,
            high,
            self.index or other.index,
            self.kept or other.kept,
            self.padding if self.padding is not None else other.padding,
            self.pixels if self.pixels is not None else other.pixels,
        )

    @property
    def bounded(self) -> bool:
        """Whether both ends are known."""
        return self.low > -inf and self.high < inf


ANY = Expected()
Demand = tuple[int, Expected]  # of the input with this number


_FIRST_INPUT = SAME_VALUES | {
    "AveragePool", "Ceil", "CenterCropPad", "Compress", "DepthToSpace", "Dropout", "Floor", "Gather",
    "GatherElements", "GatherND", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Pad", "ReduceMax", "ReduceMean",
    "ReduceMin", "Resize", "ReverseSequence", "Round", "Slice", "SpaceToDepth", "Split", "Trilu", "Upsample",
}  # fmt: skip
_EVERY_INPUT = {"And", "Concat", "Or"}
_SOME_INPUTS = {"Where": (1, 2), "Scatter": (0, 2), "ScatterElements": (0, 2), "ScatterND": (0, 2)}


def demands(node: "onnx.NodeProto", outputs: Expected, facts: KnownValues) -> Iterator[Demand]:
    """What a node expects of its inputs, given what is expected of its outputs."""
    operator = node.op_type
    if operator in _FIRST_INPUT:
        yield 0, outputs
    elif operator in _EVERY_INPUT:
        yield from ((index, outputs) for index in range(len(node.input)))
    yield from ((index, outputs) for index in _SOME_INPUTS.get(operator, ()))
    if node.domain in {"", "ai.onnx"}:
        yield from _positions(node, facts)
        yield from _lengths(node, facts)
        yield from _domains(node, facts)
        yield from _masks(node, outputs, facts)
        yield from _scaled(node, outputs, facts)
        if outputs.low >= 0 and not outputs.index:
            yield from _sums(node, facts)
    elif node.domain == "com.microsoft":
        yield from _transformer(node, facts)


def _positions(node: "onnx.NodeProto", facts: KnownValues) -> Iterator[Demand]:
    """Operators that read or write at given positions."""
    attributes = attributes_of(node)
    shapes = [facts.shape(name) for name in node.input]
    data, axis = (shapes[0] if shapes else []), int(attributes.get("axis", 0) or 0)
    match node.op_type:
        case "Gather" | "GatherElements" | "Scatter" | "ScatterElements":
            yield from _below(1, data, axis)
        case "GatherND" | "ScatterND":
            depth = shapes[1][-1] if shapes[1] else None
            first = int(attributes.get("batch_dims", 0))
            for each in range(first, first + depth) if depth else ():
                yield from _below(1, data, each)
        case "OneHot":
            depths = facts.constant(node.input[1])
            if depths is not None:
                yield 0, Expected(0, float(depths.max()) - 1, index=True)
        case "NegativeLogLikelihoodLoss" | "SoftmaxCrossEntropyLoss":
            yield from _below(1, data, 1)
        case "RoiAlign":
            yield from _below(2, data, 0)


def _lengths(node: "onnx.NodeProto", facts: KnownValues) -> Iterator[Demand]:
    """Operators that take the number of valid steps, or of bits."""
    attributes = attributes_of(node)
    match node.op_type:
        case "ReverseSequence":
            yield from _counts(1, facts.shape(node.input[0]), int(attributes.get("time_axis", 0)))
        case "LSTM" | "GRU" | "RNN":
            yield from _counts(4, facts.shape(node.input[0]), int(attributes.get("layout", 0)))
        case "BitShift":
            yield 1, Expected(0, 7, index=True)
    for index in _SIZES.get(node.op_type, ()):
        yield index, _SMALL


def _below(index: int, shape: list[int | None], axis: int) -> Iterator[Demand]:
    size = shape[axis] if -len(shape) <= axis < len(shape) else None
    if size:
        yield index, Expected(0, size - 1, index=True)


# Inputs that say how large an output is: kept small.
_SIZES: Mapping[str, tuple[int, ...]] = {
    "AffineGrid": (1,), "BlackmanWindow": (0,), "ConstantOfShape": (0,), "Expand": (1,), "HammingWindow": (0,),
    "HannWindow": (0,), "OneHot": (1,), "Pad": (1,), "Range": (0, 1, 2), "Reshape": (1,), "Resize": (3,), "Tile": (1,),
    "TopK": (1,),
}  # fmt: skip
_SMALL = Expected(1, 4, index=True)


def _counts(index: int, shape: list[int | None], axis: int) -> Iterator[Demand]:
    size = shape[axis] if axis < len(shape) else None
    if size:
        yield index, Expected(1, size, index=True)


def _domains(node: "onnx.NodeProto", facts: KnownValues) -> Iterator[Demand]:
    """Functions that are not defined, or not finite, for every number."""
    match node.op_type:
        case "Log":
            yield 0, Expected(low=_TINY)
        case "Sqrt":
            yield 0, Expected(low=0)
        case "Exp":
            yield 0, Expected(high=_LARGEST_EXPONENT)
        case "Acos" | "Asin":
            yield 0, Expected(-1, 1)
        case "Atanh":
            yield 0, Expected(-0.99, 0.99)
        case "Acosh":
            yield 0, Expected(low=1)
        case "Pow":
            exponent = facts.constant(node.input[1])
            if exponent is not None and (exponent % 1 != 0).any():
                yield 0, Expected(low=_TINY if (exponent < 0).any() else 0)
        case "Div" | "Mod" if facts.integer(node.input[1]):
            yield 1, Expected(low=1)  # division by 0


def _masks(node: "onnx.NodeProto", outputs: Expected, facts: KnownValues) -> Iterator[Demand]:
    """Values that select others: conditions, comparisons with constants, factors and terms that remove scores."""
    match node.op_type:
        case "Where":
            kept = _kept(facts.constant(node.input[1]), facts.constant(node.input[2]))
            if kept:
                yield 0, Expected(kept=kept)
        case "Not":
            yield 0, Expected(kept=-outputs.kept)
        case "Equal" | "Greater" | "GreaterOrEqual" | "Less" | "LessOrEqual":
            yield from _compared(node, outputs, facts)
        case "Mul":
            for index in (0, 1):
                factor = facts.constant(node.input[1 - index])
                if factor is not None and abs(factor).min() >= _DEAD:
                    yield index, Expected(kept=-1 if factor.max() < 0 else 1)  # (1 - mask) * -10000
                if factor is None and facts.constant(node.input[index]) is None:
                    yield (
                        index,
                        Expected(kept=outputs.kept or 1),
                    )  # only integers and booleans count as masks by this


def _kept(true: "np.ndarray | None", false: "np.ndarray | None") -> int:
    """Whether a Where with these constants keeps what its condition selects (1), or removes it (-1)."""
    if true is not None and false is not None:
        return 1 if true.min() > false.max() else -1 if true.max() < false.min() else 0
    if false is not None:
        return 1 if _removes(false) else 0
    return -1 if true is not None and _removes(true) else 0


def _removes(branch: "np.ndarray") -> bool:
    return bool((branch == 0).all() or (branch <= -_DEAD).all())


def _compared(node: "onnx.NodeProto", outputs: Expected, facts: KnownValues) -> Iterator[Demand]:
    """A comparison with constants: of a mask with 0 or 1, of an id with that of padding, of a length with positions."""
    for index in (0, 1):
        constant = facts.constant(node.input[1 - index])
        if constant is None or constant.dtype.kind == "b":
            continue
        low, high = float(constant.min()), float(constant.max())
        if node.op_type == "Equal" and low == high:
            kept = -outputs.kept if low == 0 else outputs.kept if low == 1 else 0
            yield index, Expected(kept=kept, padding=low if outputs.kept < 0 else None)
        elif node.op_type != "Equal" and low == high:
            larger = node.op_type.startswith("Greater") == (index == 0)
            if 0 <= low <= 1:
                yield index, Expected(kept=outputs.kept if larger else -outputs.kept)
        elif facts.integer(node.input[index]) and constant.size > 1:
            yield (
                index,
                Expected(max(low, 1), max(high + 1, 1), index=True),
            )  # lengths, compared with positions


def _scaled(node: "onnx.NodeProto", outputs: Expected, facts: KnownValues) -> Iterator[Demand]:
    """Arithmetic with constants: the range of the other operand, and whether it normalises pixels."""
    match node.op_type:
        case "Neg":
            yield 0, _divided(outputs, -1, -1)
        case "Clip" | "Max" | "Min":
            yield from _clipped(node, outputs, facts)
        case "QuantizeLinear" | "DequantizeLinear":
            yield from _requantized(node, outputs, facts)
        case "Add" | "Sub" | "Mul" | "Div":
            for index in (0, 1):
                constant = facts.constant(node.input[1 - index])
                if constant is not None:
                    low, high = float(constant.min()), float(constant.max())
                    yield index, _pixels(node.op_type, index, low, high)
                    yield index, _operand(node.op_type, index, (low, high), replace(outputs, pixels=None))


def _operand(operator: str, index: int, constant: tuple[float, float], result: Expected) -> Expected:
    """What is expected of one operand, from what is expected of the result and the constants in the other."""
    low, high = constant
    if operator == "Sub" and index == 1:
        return replace(result, low=high - result.high, high=low - result.low, kept=-result.kept, padding=None)
    if operator in {"Add", "Sub"}:
        shift = (low, high) if operator == "Add" else (-high, -low)
        return replace(result, low=result.low - shift[0], high=result.high - shift[1], padding=None)
    if (operator == "Div" and index == 1) or low <= 0 <= high:
        return ANY
    factors = (low, high) if operator == "Mul" else (1 / low, 1 / high)
    return _divided(result, min(factors), max(factors))


def _divided(use: Expected, low: float, high: float) -> Expected:
    """What is expected of x, if ``use`` is of x times factors from ``low`` to ``high``, all of one sign."""
    if high < 0:
        use, low, high = replace(use, low=-use.high, high=-use.low, kept=-use.kept), -high, -low
    return replace(
        use,
        low=max(use.low / low, use.low / high),
        high=min(use.high / low, use.high / high),
        padding=None,
    )


def _pixels(operator: str, index: int, low: float, high: float) -> Expected:
    """What the constants that an input is scaled or shifted by say of its pixels."""
    if operator == "Mul" and low > 0 and high <= 1 / _PIXEL:
        return Expected(pixels=255.0)
    if operator == "Div" and index == 0 and low >= _PIXEL:
        return Expected(pixels=255.0)
    if operator in {"Add", "Sub"} and index == 0:
        shift = (low, high) if operator == "Sub" else (-high, -low)
        if shift[0] >= _PIXEL and shift[1] <= 255:  # noqa: PLR2004 - the value of a white pixel
            return Expected(pixels=255.0)
        if shift[0] > 0 and shift[1] < 1:
            return Expected(pixels=1.0)
    return ANY


def _clipped(node: "onnx.NodeProto", outputs: Expected, facts: KnownValues) -> Iterator[Demand]:
    """An operator that keeps the expected range by itself expects nothing."""
    attributes = attributes_of(node)
    low, high = float(attributes.get("min", -inf)), float(attributes.get("max", inf))
    constants = [facts.constant(name) if name else None for name in node.input]
    values = [value for value in constants if value is not None]
    if node.op_type == "Clip":
        low = float(constants[1].min()) if constants[1:] and constants[1] is not None else low
        high = float(constants[2].max()) if constants[2:] and constants[2] is not None else high
    elif node.op_type == "Max":
        low = max((float(value.min()) for value in values), default=low)
    else:
        high = min((float(value.max()) for value in values), default=high)
    use = replace(
        outputs,
        low=-inf if low >= outputs.low else outputs.low,
        high=inf if high <= outputs.high else outputs.high,
    )
    yield from ((index, use) for index in range(1 if node.op_type == "Clip" else len(node.input)))


def _requantized(node: "onnx.NodeProto", outputs: Expected, facts: KnownValues) -> Iterator[Demand]:
    """The range on the other side of a scale and a zero point."""
    scales = facts.constant(node.input[1])
    zeros = facts.constant(node.input[2]) if len(node.input) > 2 else None  # noqa: PLR2004 - it may be omitted
    if scales is None or scales.size != 1 or scales.min() <= 0:
        return
    scale, zero = float(scales.min()), 0.0 if zeros is None else float(zeros.min())
    if node.op_type == "DequantizeLinear":
        yield 0, Expected(outputs.low / scale + zero, outputs.high / scale + zero)
    else:
        yield 0, Expected((outputs.low - zero) * scale, (outputs.high - zero) * scale)


def _sums(node: "onnx.NodeProto", facts: KnownValues) -> Iterator[Demand]:
    """Sums that must not be negative: their terms, if the weights are not negative."""
    if node.op_type in {"ReduceSum", "ReduceL1", "CumSum"}:
        yield 0, Expected(low=0)
    if node.op_type in {"MatMul", "Gemm", "Conv"}:
        for index in (0, 1):
            weights = facts.constant(node.input[1 - index])
            if weights is not None and weights.min() >= 0:
                yield index, Expected(low=0)


_EMBEDDED = ((0, 2), (1, 4), (8, 3))  # inputs of EmbedLayerNormalization: indices, and their table
_KEY_MASKS: Mapping[str, int] = {
    "Attention": 3,
    "QAttention": 5,
    "MultiHeadAttention": 4,
    "EmbedLayerNormalization": 7,
}
_RANK = 2  # of a mask of tokens; with one axis, it holds lengths


def _transformer(node: "onnx.NodeProto", facts: KnownValues) -> Iterator[Demand]:
    """Operators of onnxruntime's transformer optimizer."""
    if node.op_type == "EmbedLayerNormalization":
        for index, table in _EMBEDDED:
            if table < len(node.input):
                yield from _below(index, facts.shape(node.input[table]), 0)
    index = _KEY_MASKS.get(node.op_type, -1)
    if 0 <= index < len(node.input):
        if len(facts.shape(node.input[index])) == _RANK:
            yield index, Expected(kept=1)
        elif node.op_type != "EmbedLayerNormalization":
            shape = facts.shape(node.input[0])
            yield from _counts(index, shape, 1) if len(shape) > 1 else ()
