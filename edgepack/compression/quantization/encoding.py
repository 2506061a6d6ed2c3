"""Write quantized weights into an .onnx graph: an integer constant, and the node that decodes it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.compression.quantization.grids import Grid, grouped, ungrouped
from edgepack.compression.quantization.layers import WeightConstant
from edgepack.onnxfile.protos import replace_all

if TYPE_CHECKING:
    import numpy as np
    import onnx

BLOCK_OPSET = 21
"""The first opset whose DequantizeLinear has blocks, and elements of 4 and 16 bits."""


_PACKED = (2,)
"""Bits of elements for which there is no type in the opsets that all tools have: they are packed into bytes."""
_SMALLEST_BLOCK = 8


@dataclass(frozen=True)
class Form:
    """How a weight is divided into groups, each of which has a scale.

    Attributes:
        shape: in which the constant is stored; that of the weight, or ``[channels, elements]``.
        axis: of the channels; None for one scale.
        rows: axis along which blocks lie; None without blocks.
        block: elements in a block; 0 without blocks.
    """

    shape: tuple[int, ...]
    axis: int | None
    rows: int | None = None
    block: int = 0

    def groups(self, array: "np.ndarray") -> "np.ndarray":
        """Return an array of the weight's or the stored shape as ``[groups, elements]``."""
        return grouped(array.reshape(self.shape), self.axis, self.rows, self.block)

    def restored(self, groups: "np.ndarray") -> "np.ndarray":
        """Return ``[groups, elements]`` in the stored shape."""
        return ungrouped(groups, self.shape, self.axis, self.rows, self.block)

    def scales(self, values: "np.ndarray") -> "np.ndarray":
        """Return one value per group in the shape of DequantizeLinear's scale."""
        import numpy as np

        if self.axis is None:
            return values.reshape(())
        if not self.block or self.rows is None:
            return values
        others = self.shape[: self.rows] + self.shape[self.rows + 1 :]
        return np.ascontiguousarray(np.moveaxis(values.reshape(*others, -1), -1, self.rows))

    @property
    def spread(self) -> tuple[int, ...]:
        """The stored shape with an axis for the blocks, which divide the rows."""
        if not self.block or self.rows is None:
            return self.shape
        count = self.shape[self.rows] // self.block
        return (*self.shape[: self.rows], count, self.block, *self.shape[self.rows + 1 :])

    def scales_over(self, values: "np.ndarray") -> "np.ndarray":
        """Return one value per group in a shape that broadcasts to ``spread``."""
        scales = self.scales(values)
        if self.axis is None:
            return scales
        if not self.block or self.rows is None:
            return scales.reshape([-1 if axis == self.axis else 1 for axis in range(len(self.shape))])
        return scales.reshape(*self.shape[: self.rows], -1, 1, *self.shape[self.rows + 1 :])


def form_of(weight: WeightConstant, shape: tuple[int, ...], block: int = 0, *, bits: int = 8) -> Form:
    """Return the form with a scale per channel, or per ``block`` elements of a channel where that is possible.

    A convolution's weights are stored as a matrix, so that its blocks contain all elements of a filter; those of a
    transposed convolution, whose filters are not contiguous, have a scale per channel. Blocks of elements that are packed
    divide a channel, so they may be smaller.
    """
    import math

    if block and bits in _PACKED:
        length = shape[weight.rows] if weight.rows is not None else math.prod(shape[1:])
        block = next((each for each in range(block, _SMALLEST_BLOCK - 1, -1) if length % each == 0), 0)
    if block and weight.rows is not None and shape[weight.rows] > block:
        return Form(shape, weight.axis, weight.rows, block)
    if block and weight.operator == "Conv" and math.prod(shape[1:]) > block:
        return Form((shape[0], math.prod(shape[1:])), 0, 1, block)
    return Form(shape, weight.axis)


def encode(model: "onnx.ModelProto", name: str, integers: "np.ndarray", grid: Grid, form: Form) -> None:
    """Replace, in place, the initializer ``name`` by ``integers``, ``[groups, elements]``, and nodes that decode it.

    The decoded tensor has the initializer's name, so that its users do not change. The model's opset must be at least
    ``BLOCK_OPSET`` for blocks and for elements of less than 8 bits.
    """
    import numpy as np
    import onnx
    from onnx import helper, numpy_helper

    if grid.bits in _PACKED:
        _encode_packed(model.graph, name, integers, grid, form)
        return
    graph = model.graph
    (index,) = [number for number, tensor in enumerate(graph.initializer) if tensor.name == name]
    shape = tuple(graph.initializer[index].dims)
    del graph.initializer[index]
    kind = helper.tensor_dtype_to_np_dtype(onnx.TensorProto.DataType.Value(grid.dtype.upper()))
    constants = {
        f"{name}_quantized": form.restored(integers).astype(kind),
        f"{name}_scale": form.scales(grid.scale),
    }
    if grid.zero.any():
        constants[f"{name}_zero_point"] = form.scales(grid.zero).astype(kind)
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()
    )
    attributes: dict[str, int] = {} if form.axis is None else {"axis": form.axis}
    if form.block and form.rows is not None:
        attributes = {"axis": form.rows, "block_size": form.block}
    reshaped = form.shape != shape
    decoded = f"{name}_decoded" if reshaped else name
    nodes = [
        helper.make_node(
            "DequantizeLinear", list(constants), [decoded], name=f"{name}_dequantize", **attributes
        )
    ]
    if reshaped:
        graph.initializer.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name}_shape"))
        nodes.append(helper.make_node("Reshape", [decoded, f"{name}_shape"], [name], name=f"{name}_reshape"))
    replace_all(graph.node, [*nodes, *graph.node])


def _encode_packed(
    graph: "onnx.GraphProto", name: str, integers: "np.ndarray", grid: Grid, form: Form
) -> None:
    """As :func:`encode`, with the elements packed into bytes: the form of :mod:`edgepack.onnxfile.encodings.integers`."""
    import math

    import numpy as np
    from onnx import TensorProto, helper, numpy_helper

    from edgepack.onnxfile.encodings.integers import pack

    (index,) = [number for number, tensor in enumerate(graph.initializer) if tensor.name == name]
    shape = tuple(graph.initializer[index].dims)
    del graph.initializer[index]
    codes = (form.restored(integers) - grid.low).astype(np.uint8)
    spread = form.spread
    each = 8 // grid.bits
    constants = {
        f"{name}_codes": pack(codes, grid.bits),
        f"{name}_shifts": grid.bits * np.arange(each, dtype=np.uint8)[None],
        f"{name}_mask": np.uint8((1 << grid.bits) - 1),
        f"{name}_flat": np.array([-1], np.int64),
        f"{name}_start": np.array([0], np.int64),
        f"{name}_length": np.array([codes.size], np.int64),
        f"{name}_spread": np.array(spread, np.int64),
        f"{name}_zero_point": form.scales_over(grid.zero - grid.low).astype(np.uint8),
        f"{name}_scale": form.scales_over(grid.scale),
        f"{name}_shape": np.array(shape, np.int64),
    }
    if not grid.zero.any():
        constants[f"{name}_zero_point"] = np.uint8(-grid.low)
    nodes: list[onnx.NodeProto] = []

    def op(operator: str, *inputs: str, **attributes: int | str) -> str:
        output = f"{name}_{operator.lower()}{len(nodes)}"
        nodes.append(helper.make_node(operator, list(inputs), [output], name=output, **attributes))
        return output

    value = op("BitShift", f"{name}_codes", f"{name}_shifts", direction="RIGHT")
    value = op("BitwiseAnd", value, f"{name}_mask")
    if math.ceil(codes.size / each) * each != codes.size:
        value = op("Reshape", value, f"{name}_flat")
        value = op("Slice", value, f"{name}_start", f"{name}_length")
    value = op("Cast", op("Reshape", value, f"{name}_spread"), to=TensorProto.FLOAT)
    value = op("Sub", value, op("Cast", f"{name}_zero_point", to=TensorProto.FLOAT))
    value = op("Mul", value, f"{name}_scale")
    if spread != shape:
        op("Reshape", value, f"{name}_shape")
    nodes[-1].output[0] = name
    used = {each for node in nodes for each in node.input}
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(array), key) for key, array in constants.items() if key in used
    )
    replace_all(graph.node, [*nodes, *graph.node])


def stored_bytes(grid: Grid, form: Form) -> int:
    """Return the bytes of the integers, scales and zero points."""
    import math

    elements = math.ceil(math.prod(form.shape) * grid.bits / 8)
    width = 8 if grid.bits in _PACKED else grid.bits
    zeros = math.ceil(len(grid.zero) * width / 8) if grid.zero.any() else 0
    return elements + grid.scale.nbytes + zeros
