"""Integer weights in an .onnx file: fold a normalisation after a layer into their scales, store them in 4 bits.

Both change how a weight is written, not what the model computes apart from the last bits of float32: a scale per output
channel takes up the factor of that channel, and a weight of small integers takes half of the space as int4.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import onnx
    import onnx_ir

INT4_OPSET = 21
"""The first opset whose DequantizeLinear takes int4."""

_INT4 = (-8, 7)


def fold_model_norms(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Return a model without the normalisations that :func:`fold_norms` folds; the same model if there are none."""
    import onnx_ir as ir

    if not {"BatchNormalization", "DequantizeLinear"} <= {node.op_type for node in model.graph.node}:
        return model
    graph = ir.from_proto(model)
    fold_norms(graph)
    return ir.to_proto(graph)


def fold_norms(model: "onnx_ir.Model") -> None:
    """Fold, in place, each BatchNormalization after a convolution or Gemm with an integer weight into its scales.

    ``(w * s) * f = w * (s * f)`` for the factor ``f`` of each output channel; the integers of a channel with a negative
    factor change their sign, so that scales stay positive. Weights with zero points, blocks, or integers whose negative
    their type does not hold are left alone, and so is a layer whose result is also read elsewhere.
    """
    for node in list(model.graph):
        if (
            node.op_type == "BatchNormalization"
            and not node.domain
            and not node.attributes.get_int("training_mode", 0)
        ):
            layer = _Layer.before(node)
            if layer is not None:
                layer.scale(model.graph, node)


@dataclass(frozen=True)
class _Layer:
    """A layer with an integer weight, and the axis of the weight that holds the output channels."""

    node: "onnx_ir.Node"
    decode: "onnx_ir.Node"
    axis: int

    @classmethod
    def before(cls, norm: "onnx_ir.Node") -> "_Layer | None":
        data = norm.inputs[0]
        node = None if data is None else data.producer()
        if node is None or node.domain or data is None or len(data.uses()) != 1 or data.is_graph_output():
            return None
        plain_gemm = node.attributes.get_float("alpha", 1.0) == node.attributes.get_float("beta", 1.0) == 1.0
        axis = {
            "Conv": 0,
            "ConvTranspose": 1 if node.attributes.get_int("group", 1) == 1 else None,
            "Gemm": (0 if node.attributes.get_int("transB", 0) else 1) if plain_gemm else None,
        }.get(node.op_type)
        weight = node.inputs[1] if len(node.inputs) > 1 else None
        decode = None if weight is None else weight.producer()
        if axis is None or decode is None or decode.op_type != "DequantizeLinear" or decode.domain:
            return None
        given = [value for value in (*decode.inputs, *norm.inputs[1:], *node.inputs[2:]) if value is not None]
        alone = all(len(value.uses()) == 1 for value in (weight, *decode.inputs) if value is not None)
        if not alone or not all(value.const_value is not None for value in given):
            return None
        layer = cls(node, decode, axis)
        return layer if layer.symmetric() else None

    def symmetric(self) -> bool:
        """Whether there is no zero point, at most one scale per output channel, and each integer has a negative."""
        elements, zero = (
            _array(self.decode.inputs[0]),
            _third(self.decode),
        )
        scale, rank = _array(self.decode.inputs[1]), elements.ndim
        per_channel = scale.ndim == 1 and self.decode.attributes.get_int("axis", 1) % rank == self.axis
        integers = elements.dtype.name in {"int8", "int4"} and bool(
            (elements.astype("int8") > _lowest(elements)).all()
        )
        blocks = self.decode.attributes.get_int("block_size", 0)
        return (
            integers
            and not blocks
            and (scale.size == 1 or per_channel)
            and (zero is None or not _array(zero).any())
        )

    def scale(self, graph: "onnx_ir.Graph", norm: "onnx_ir.Node") -> None:
        """Replace the layer and the normalisation by the layer with other integers, scales and bias."""
        import numpy as np
        import onnx_ir as ir

        gamma, beta, mean, variance = (_array(value) for value in norm.inputs[1:5])
        factor = gamma / np.sqrt(variance + np.float32(norm.attributes.get_float("epsilon", 1e-5)))
        elements, scale = _array(self.decode.inputs[0]), _array(self.decode.inputs[1])
        signs = np.sign(factor).reshape([-1 if each == self.axis else 1 for each in range(elements.ndim)])
        turned = (elements.astype(np.int8) * signs.astype(np.int8)).astype(elements.dtype)
        # A channel of factor 0 has only zeros; its scale may be any number but 0.
        scales = np.where(factor == 0, 1, np.abs(factor)).astype(scale.dtype) * scale.reshape(-1)
        old = _third(self.node)
        bias = ((0 if old is None else _array(old).reshape(-1)) - mean) * factor + beta
        weight = str(self.decode.inputs[0].name)  # type: ignore[union-attr] # a constant
        given = [
            _constant(graph, array, name)
            for array, name in (
                (turned, weight),
                (scales, f"{weight}.scale"),
                (bias, f"{weight.removesuffix('.weight')}.bias"),
            )
        ]
        decode = ir.node("DequantizeLinear", given[:2], attributes={"axis": self.axis})
        layer = ir.node(
            self.node.op_type, [self.node.inputs[0], decode.outputs[0], given[2]], dict(self.node.attributes)
        )
        for made, kept in ((decode.outputs[0], self.decode.outputs[0]), (layer.outputs[0], norm.outputs[0])):
            made.name, made.type, made.shape = kept.name, kept.type, kept.shape
        graph.insert_before(norm, [decode, layer])
        _replace(graph, norm, layer.outputs[0])
        for node in (norm, self.node, self.decode):
            graph.remove(node, safe=True)


def narrow_weights(model: "onnx_ir.Model") -> None:
    """Store, in place, every int8 constant without a zero point whose integers fit into 4 bits as int4."""
    import onnx_ir as ir

    if model.graph.opset_imports.get("", 0) < INT4_OPSET:
        return
    for node in list(model.graph):
        if node.op_type != "DequantizeLinear" or node.domain or _third(node) is not None:
            continue
        value = node.inputs[0]
        if value is None or value.const_value is None or value.is_graph_input() or len(value.uses()) != 1:
            continue
        elements = _array(value)
        low, high = _INT4
        if (
            elements.dtype.name == "int8"
            and elements.size
            and low <= elements.min() <= elements.max() <= high
        ):
            node.replace_input_with(0, _constant(model.graph, elements, str(value.name), ir.DataType.INT4))


def _constant(
    graph: "onnx_ir.Graph", array: "np.ndarray", name: str, dtype: "onnx_ir.DataType | None" = None
) -> "onnx_ir.Value":
    """Add an initializer; it takes over the name of one that it replaces."""
    import numpy as np
    import onnx_ir as ir

    tensor = ir.tensor(np.ascontiguousarray(array), dtype, name=name)
    graph.initializers.pop(name, None)
    value = ir.Value(
        name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor
    )
    graph.register_initializer(value)
    return value


def _replace(graph: "onnx_ir.Graph", node: "onnx_ir.Node", result: "onnx_ir.Value") -> None:
    old = node.outputs[0]
    if old.is_graph_output():
        graph.outputs[graph.outputs.index(old)] = result
    old.replace_all_uses_with(result)


def _third(node: "onnx_ir.Node") -> "onnx_ir.Value | None":
    """The third input: a zero point, or a bias."""
    return node.inputs[2] if len(node.inputs) > 2 else None  # noqa: PLR2004 - counted from 0


def _array(value: "onnx_ir.Value | None") -> "np.ndarray":
    array: np.ndarray = value.const_value.numpy()  # type: ignore[union-attr] # a constant
    return array


def _lowest(elements: "np.ndarray") -> int:
    """The smallest integer of the type, which has no negative in it."""
    return -(2 ** (7 if elements.dtype.name == "int8" else 3))
