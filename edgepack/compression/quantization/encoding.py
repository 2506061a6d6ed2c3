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


def form_of(weight: WeightConstant, shape: tuple[int, ...], block: int = 0) -> Form:
    """Return the form with a scale per channel, or per ``block`` elements of a channel where that is possible.

    A convolution's weights are stored as a matrix, so that its blocks contain all elements of a filter; those of a
    transposed convolution, whose filters are not contiguous, have a scale per channel.
    """
    import math

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


def stored_bytes(grid: Grid, form: Form) -> int:
    """Return the bytes of the integers, scales and zero points."""
    import math

    elements = math.ceil(math.prod(form.shape) * grid.bits / 8)
    zeros = math.ceil(len(grid.zero) * grid.bits / 8) if grid.zero.any() else 0
    return elements + grid.scale.nbytes + zeros
