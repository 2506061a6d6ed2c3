"""Write encoded constants in their smallest form: codes in the narrowest type, 1, 2 and 4 bits packed into bytes."""

from typing import TYPE_CHECKING, Any

from edgepack.onnxfile.encodings import decoding
from edgepack.onnxfile.encodings.expressions import dtype_of, is_constant
from edgepack.onnxfile.encodings.integers import PACKED_BITS, code_bits, code_type, integers, pack, saves

if TYPE_CHECKING:
    import numpy as np
    import onnx_ir

_OPSET = 18  # has BitwiseAnd


def pack_codes(model: "onnx_ir.Model") -> None:
    """Rewrite, in place, codebooks and small integers with a scale so that their elements take as few bits as possible.

    Codebooks become ``Gather(table, Cast(codes))``, with codes of the smallest possible type; up to 16 entries, and
    integers with up to 16 neighbouring values, are packed.
    """
    packed = model.opset_imports.get("", 0) >= _OPSET
    for node in list(model.graph):
        decoded = decoding(node)
        if decoded is None:
            continue
        if node.op_type in {"Gather", "GatherND"} and decoded.encoding != "hashed":
            _narrow_codes(model.graph, node, packed=packed)
        elif packed and node.op_type == "Mul":
            _narrow_levels(model.graph, node)


def _narrow_codes(graph: "onnx_ir.Graph", node: "onnx_ir.Node", *, packed: bool) -> None:
    import onnx_ir as ir

    table, indices = node.inputs
    found = integers(indices)
    if table is None or found is None or any(each.op_type != "Cast" for each in found.nodes):
        return  # packed already
    rows = int(table.shape[0] if table.const_value is None else table.const_value.shape[0])  # type: ignore[index, arg-type]
    values = found.constants[0].const_value.numpy()  # type: ignore[union-attr] # a constant
    is_gather, narrow = node.op_type == "Gather", code_type(rows)
    elements = values.size if is_gather else values.size // values.shape[-1]
    bits = code_bits(rows)
    if bits in PACKED_BITS and not (packed and saves(elements, bits)):
        bits = 8
    if is_gather and 8 * values.dtype.itemsize <= bits:
        return
    values = values if is_gather else values[..., 0]
    if values.size and not -rows <= values.min() <= values.max() < rows:
        return  # an index out of range: running the model reports it
    values = values.astype("int64") % rows
    writer = _Writer(graph, node)
    if bits in PACKED_BITS:
        codes = writer.unpacked(values, bits)
    else:
        codes = writer.constant("codes", values.astype(narrow))
    cast = writer.op("Cast", [codes], ir.DataType.INT64, values.shape, to=ir.DataType.INT64)
    writer.finish("Gather", [table, cast], axis=0)


def _narrow_levels(graph: "onnx_ir.Graph", node: "onnx_ir.Node") -> None:
    import numpy as np
    import onnx_ir as ir

    first = next(filter(_is_cast, (value.producer() for value in node.inputs if value is not None)), None)
    if first is None:
        return  # packed already
    values = first.inputs[0].const_value.numpy().astype("int64")  # type: ignore[union-attr] # a constant
    if not values.size:
        return
    low = int(values.min())
    step = int(np.gcd.reduce((values - low).ravel())) or 1
    codes = (values - low) // step
    bits = next((each for each in PACKED_BITS if codes.max() < 1 << each), 0)
    if not bits or not saves(values.size, bits):
        return
    kind = first.outputs[0].dtype or ir.DataType.FLOAT
    writer = _Writer(graph, node)
    number = writer.op("Cast", [writer.unpacked(codes, bits)], kind, values.shape, to=kind)
    if step != 1:
        number = writer.op("Mul", [number, writer.shared(f"step{step}", step, kind)], kind, values.shape)
    if low:
        number = writer.op("Add", [number, writer.shared(f"low{low}", low, kind)], kind, values.shape)
    factor = node.inputs[1] if node.inputs[0] is first.outputs[0] else node.inputs[0]
    writer.finish("Mul", [number, factor])


def _is_cast(node: "onnx_ir.Node | None") -> bool:
    """Whether a node widens a constant of 8-bit integers."""
    if node is None or node.op_type != "Cast" or not is_constant(node.inputs[0]):
        return False
    return dtype_of(node.inputs[0]) in {"int8", "uint8"}  # type: ignore[arg-type] # a constant


class _Writer:
    """Adds nodes and constants in front of a node, and replaces it by the last of them."""

    def __init__(self, graph: "onnx_ir.Graph", replaced: "onnx_ir.Node") -> None:
        self.graph = graph
        self.replaced = replaced
        self.base = str(replaced.outputs[0].name)
        self.nodes: list[onnx_ir.Node] = []

    def constant(self, name: str, values: "np.ndarray") -> "onnx_ir.Value":
        """Add a constant of this decoding."""
        return self._constant(f"{self.base}.{name}", values)

    def shared(self, name: str, values: Any, kind: "onnx_ir.DataType") -> "onnx_ir.Value":
        """Add a constant that all decodings share."""
        import numpy as np

        name = f"decoding.{kind.name.lower()}.{name}"
        known = self.graph.initializers.get(name)
        return known if known is not None else self._constant(name, np.asarray(values, kind.numpy()))

    def _constant(self, name: str, values: "np.ndarray") -> "onnx_ir.Value":
        import onnx_ir as ir

        tensor = ir.tensor(values, name=name)
        value = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(values.shape), const_value=tensor
        )
        self.graph.register_initializer(value)
        return value

    def op(
        self,
        operator: str,
        inputs: "list[onnx_ir.Value | None]",
        kind: "onnx_ir.DataType",
        shape: tuple[int, ...],
        **attributes: Any,
    ) -> "onnx_ir.Value":
        """Add a node with one output."""
        import onnx_ir as ir

        node = ir.node(operator, inputs, attributes=attributes)
        (output,) = node.outputs
        output.name = f"{self.base}.{operator.lower()}{len(self.nodes)}"
        output.type, output.shape = ir.TensorType(kind), ir.Shape(shape)
        self.nodes.append(node)
        return output

    def unpacked(self, codes: "np.ndarray", bits: int) -> "onnx_ir.Value":
        """Add packed codes in [0, 2**bits), and the nodes that unpack them to uint8 in the shape of ``codes``."""
        import numpy as np
        import onnx_ir as ir

        whole, small = ir.DataType.INT64, ir.DataType.UINT8
        each = 8 // bits
        bytes_ = self.constant("codes", pack(codes, bits))
        rows = -(-codes.size // each)
        shifts = self.shared(f"shifts{bits}", [bits * np.arange(each)], small)
        mask = self.shared(f"mask{bits}", (1 << bits) - 1, small)
        value = self.op("BitShift", [bytes_, shifts], small, (rows, each), direction="RIGHT")
        value = self.op("BitwiseAnd", [value, mask], small, (rows, each))
        if rows * each != codes.size:
            value = self.op("Reshape", [value, self.shared("flat", [-1], whole)], small, (rows * each,))
            ends = [self.shared("start", [0], whole), self.constant("length", np.array([codes.size]))]
            value = self.op("Slice", [value, *ends], small, (codes.size,))
            if codes.ndim == 1:
                return value
        shape = self.constant("shape", np.array(codes.shape, "int64"))
        return self.op("Reshape", [value, shape], small, codes.shape)

    def finish(self, operator: str, inputs: "list[onnx_ir.Value | None]", **attributes: Any) -> None:
        """Add the last node, insert all of them, and remove the node that they replace."""
        output = self.replaced.outputs[0]
        shape = tuple(output.shape.numpy()) if output.shape is not None and output.shape.is_static() else ()
        result = self.op(operator, inputs, output.dtype, shape, **attributes)  # type: ignore[arg-type] # inferred
        result.name, result.type, result.shape = output.name, output.type, output.shape
        self.graph.insert_before(self.replaced, self.nodes)
        if output.is_graph_output():
            self.graph.outputs[self.graph.outputs.index(output)] = result
        output.replace_all_uses_with(result)
        self.graph.remove(self.replaced, safe=True)
