"""Rewrite explicit integer products so that onnxruntime computes them exactly on every CPU.

On x86-64 without VNNI, onnxruntime's kernels multiply u8 by s8 in pairs and add each pair in int16, which saturates
(``vpmaddubsw``). Its session option ``session.x64quantprecision`` avoids that only for some operators with constant
weights, and breaks products of s8 by s8. Its u8 by u8 kernels are exact everywhere with all optimisations off. An s8
operand that meets a u8 one is therefore shifted by 128 to u8, together with its zero point: same differences, same
products. Compared with NumPy over full-range values, also on emulated CPUs: ``tests/export/test_integers.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import InputError
from edgepack.onnxfile.external import array_of
from edgepack.onnxfile.protos import graphs, replace_all

if TYPE_CHECKING:
    import onnx

_SHIFT = 128
_MICROSOFT = "com.microsoft"


@dataclass(frozen=True)
class _Operand:
    """Input indices of an operand of an integer product and of its zero point."""

    value: int
    zero_point: int


@dataclass(frozen=True)
class _Product:
    """The operands of an operator's integer product: those that may be signed, and the other factor.

    ``other`` is None if the operator itself quantizes that operand, as uint8.
    """

    signed: tuple[_Operand, ...]
    other: _Operand | None


_PRODUCTS: Mapping[tuple[str, str], _Product] = {
    ("", "MatMulInteger"): _Product((_Operand(1, 3),), _Operand(0, 2)),
    ("", "ConvInteger"): _Product((_Operand(1, 3),), _Operand(0, 2)),
    ("", "QLinearMatMul"): _Product((_Operand(3, 5),), _Operand(0, 2)),
    ("", "QLinearConv"): _Product((_Operand(3, 5),), _Operand(0, 2)),
    (_MICROSOFT, "QLinearConv"): _Product((_Operand(3, 5),), _Operand(0, 2)),
    (_MICROSOFT, "QGemm"): _Product((_Operand(3, 5),), _Operand(0, 2)),
    (_MICROSOFT, "MatMulIntegerToFloat"): _Product((_Operand(1, 5),), _Operand(0, 4)),
    (_MICROSOFT, "QAttention"): _Product((_Operand(1, 7),), _Operand(0, 6)),
    (_MICROSOFT, "DynamicQuantizeMatMul"): _Product((_Operand(1, 3),), None),
    (_MICROSOFT, "DynamicQuantizeLSTM"): _Product((_Operand(1, 9), _Operand(2, 11)), None),
}


def exact_integers(model: "onnx.ModelProto", path: Path) -> bool:
    """Rewrite, in place, the products that an onnxruntime kernel would saturate or round; returns whether there are any.

    ``path`` is the model's file; its external data is not moved.

    Raises:
        InputError: an operand's element type cannot be inferred.
    """
    import onnx

    whole = _keep_floats(model)
    if not any(_key(node) in _PRODUCTS for graph in graphs(model.graph) for node in graph.node):
        return whole
    types = _types(onnx.shape_inference.infer_shapes(model).graph)
    changed = [_Rewriting(graph, types, path).run() for graph in graphs(model.graph)]
    return any(changed) or whole


def _keep_floats(model: "onnx.ModelProto") -> bool:
    """Have products with quantized weights computed in their input's own type; returns whether there are any others.

    ``accuracy_level`` of MatMulNBits allows onnxruntime to quantize the other operand to int8 first, on some CPUs.
    """
    changed = False
    for graph in graphs(model.graph):
        for node in graph.node:
            if _key(node) != (_MICROSOFT, "MatMulNBits"):
                continue
            for attribute in [
                each for each in node.attribute if each.name == "accuracy_level" and each.i > 1
            ]:
                node.attribute.remove(attribute)
                changed = True
    return changed


def _key(node: "onnx.NodeProto") -> tuple[str, str]:
    return ("" if node.domain == "ai.onnx" else node.domain, node.op_type)


def _types(graph: "onnx.GraphProto") -> dict[str, int]:
    """Return the element types of all values in the graph and its subgraphs, whose names are unique together."""
    types = {}
    for each in graphs(graph):
        for value in (*each.input, *each.value_info, *each.output):
            types[value.name] = value.type.tensor_type.elem_type
        types |= {tensor.name: tensor.data_type for tensor in each.initializer}
    return types


class _Rewriting:
    """Shifts the signed operands of a graph's mixed products to uint8."""

    def __init__(self, graph: "onnx.GraphProto", types: Mapping[str, int], path: Path) -> None:
        from onnx import TensorProto

        self._graph = graph
        self._path = path
        self._types = types
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._moved: dict[str, str] = {}  # name of a value -> name of its uint8 version
        self._int8, self._uint8 = TensorProto.INT8, TensorProto.UINT8

    def run(self) -> bool:
        """Rewrite the graph in place; returns whether there were any mixed products."""
        nodes: list[onnx.NodeProto] = []
        for node in self._graph.node:
            product = _PRODUCTS.get(_key(node))
            if product is not None:
                for operand in self._find_mixed(node, product):
                    self._move(node, operand, nodes)
            nodes.append(node)
        if self._moved:
            replace_all(self._graph.node, nodes)
        return bool(self._moved)

    def _find_mixed(self, node: "onnx.NodeProto", product: _Product) -> list[_Operand]:
        """Return the operands of ``node`` that are s8 and multiplied by u8."""
        signed = [each for each in product.signed if self._type(node, each) == self._int8]
        if product.other is None:
            return signed
        other = self._type(node, product.other)
        if other == self._uint8:
            return signed
        # The reverse case: ConvInteger multiplies the operands in the other order, so this one saturates.
        return [product.other] if other == self._int8 and len(signed) < len(product.signed) else []

    def _type(self, node: "onnx.NodeProto", operand: _Operand) -> int:
        names = [node.input[i] for i in (operand.value, operand.zero_point) if i < len(node.input)]
        known = [self._types[name] for name in names if self._types.get(name)]
        if not known:
            raise InputError(
                f"the element type of {names[0]!r} is unknown",
                where=f"{self._path}, node {node.name or node.output[0]!r}",
                why=f"it is an operand of {node.op_type}, which depends on whether it is int8 or uint8",
                next="add zero points to the node, or export the model in Q/DQ form",
            )
        return int(known[0])

    def _move(self, node: "onnx.NodeProto", operand: _Operand, nodes: "list[onnx.NodeProto]") -> None:
        import numpy as np
        from onnx import numpy_helper

        node.input[operand.value] = self._as_uint8(node.input[operand.value], nodes)
        while len(node.input) <= operand.zero_point:
            node.input.append("")
        zero_point = node.input[operand.zero_point]
        if zero_point:
            node.input[operand.zero_point] = self._as_uint8(zero_point, nodes)
            return
        name = f"{node.input[operand.value]}/zero_point"  # a missing zero point is 0
        if name not in self._constants:
            tensor = numpy_helper.from_array(np.asarray(_SHIFT, np.uint8), name)
            self._graph.initializer.append(tensor)
            self._constants[name] = tensor
        node.input[operand.zero_point] = name

    def _as_uint8(self, name: str, nodes: "list[onnx.NodeProto]") -> str:
        """Return the name of the value shifted by 128: constants are shifted directly, others by inserted nodes."""
        import numpy as np
        from onnx import TensorProto, helper, numpy_helper

        if name in self._moved:
            return self._moved[name]
        moved = self._moved[name] = f"{name}/uint8"
        if name in self._constants:
            array = array_of(self._constants[name], self._path)
            shifted = (array.astype(np.int16) + _SHIFT).astype(np.uint8)
            self._graph.initializer.append(numpy_helper.from_array(shifted, moved))
            return moved
        by = f"{name}/shift"
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(_SHIFT, np.int32), by))
        nodes += [
            helper.make_node("Cast", [name], [f"{name}/int32"], to=TensorProto.INT32),
            helper.make_node("Add", [f"{name}/int32", by], [f"{name}/moved"]),
            helper.make_node("Cast", [f"{name}/moved"], [moved], to=TensorProto.UINT8),
        ]
        return moved
