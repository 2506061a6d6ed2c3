"""Integer weights in an .onnx file: fold a normalisation after a layer into their scales, store them in 4 bits.

Both change how a weight is written, not what the model computes apart from the last bits of float32: a scale per output
channel takes up the factor of that channel, and a weight of small integers takes half of the space as int4.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.onnxfile.encodings import decoding, decodings
from edgepack.onnxfile.encodings.expressions import is_constant

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

    graph = ir.from_proto(model)
    return ir.to_proto(graph) if fold_norms(graph) else model


def fold_norms(model: "onnx_ir.Model") -> bool:
    """Fold, in place, each BatchNormalization after a convolution or Gemm with an integer weight into its scales.

    A weight in another encoding (a codebook, a hash) is multiplied by the factor of each channel after it is decoded.
    ``(w * s) * f = w * (s * f)`` for the factor ``f`` of each output channel; the integers of a channel with a negative
    factor change their sign, so that scales stay positive. Weights with zero points, blocks, or integers whose negative
    their type does not hold are left alone, and so is a layer whose result is also read elsewhere. Returns whether
    anything was folded.
    """
    layers = {}
    decoded = frozenset(each.nodes[-1] for each in decodings(model.graph))
    for node in model.graph:
        is_norm = node.op_type == "BatchNormalization" and not node.domain
        if is_norm and not node.attributes.get_int("training_mode", 0):
            layers[node] = _Layer.before(node, decoded)
    found = {norm: layer for norm, layer in layers.items() if layer is not None}
    for norm, layer in found.items():
        layer.scale(model.graph, norm)
    return bool(found)


@dataclass(frozen=True)
class _Layer:
    """A layer with an integer weight, and the axis of the weight that holds the output channels.

    ``decode`` is a DequantizeLinear, or the product of integers and their scale.
    """

    node: "onnx_ir.Node"
    decode: "onnx_ir.Node"
    axis: int

    @classmethod
    def before(cls, norm: "onnx_ir.Node", decoded: "frozenset[onnx_ir.Node]") -> "_Layer | None":
        """Return the layer before a normalisation, if it is foldable; ``decoded`` are the last nodes of decodings."""
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
        if weight is None or axis is None or decode is None or len(weight.uses()) != 1:
            return None
        given = [value for value in (*norm.inputs[1:], *node.inputs[2:]) if value is not None]
        layer = cls(node, decode, axis)
        if not all(value.const_value is not None for value in given):
            return None
        if decode in decoded and decode.op_type == "DequantizeLinear" and not is_constant(decode.inputs[0]):
            positive = bool((_array(norm.inputs[1]) > 0).all())
            return layer if positive and layer.looks_up else None
        other = decode in decoded and decode.op_type != "DequantizeLinear"
        return layer if layer.dequantizes or layer.multiplies or other else None

    @property
    def looks_up(self) -> bool:
        """Whether it is DequantizeLinear of integers from a table, with one scale a channel and no zero point."""
        scale = self.decode.inputs[1]
        axis = self.decode.attributes.get_int("axis", 1)
        if scale is None or not _is_alone(scale) or _third(self.decode) is not None or axis != self.axis:
            return False
        return not is_constant(self.decode.inputs[0]) and _array(scale).ndim == 1

    @property
    def dequantizes(self) -> bool:
        """Whether it is DequantizeLinear without a zero point, with at most one scale a channel, and integers with negatives."""
        if self.decode.op_type != "DequantizeLinear" or self.decode.domain or _third(self.decode) is not None:
            return False
        if not all(value is not None and _is_alone(value) for value in self.decode.inputs):
            return False
        elements, scale = _array(self.decode.inputs[0]), _array(self.decode.inputs[1])
        along = self.decode.attributes.get_int("axis", 1) % elements.ndim == self.axis
        negatives = bool((elements.astype("int8") > _lowest(elements)).all())
        blocks = self.decode.attributes.get_int("block_size", 0)
        signed = elements.dtype.name in {"int8", "int4"}
        return signed and negatives and not blocks and (scale.size == 1 or (scale.ndim == 1 and along))

    @property
    def multiplies(self) -> bool:
        """Whether it is a product of integers and a constant with at most one element a channel."""
        if decoding(self.decode) is None or self.decode.op_type != "Mul":
            return False
        scale = self.decode.inputs[1]
        if scale is None or not _is_alone(scale):
            return False
        shape = _array(scale).shape
        rank = len(self.node.inputs[1].shape or ())  # type: ignore[union-attr] # the weight
        return len(shape) == rank and all(size == 1 or each == self.axis for each, size in enumerate(shape))

    def scale(self, graph: "onnx_ir.Graph", norm: "onnx_ir.Node") -> None:
        """Replace the layer and the normalisation by the layer with other scales and bias."""
        import numpy as np
        import onnx_ir as ir

        gamma, beta, mean, variance = (_array(value) for value in norm.inputs[1:5])
        factor = gamma / np.sqrt(variance + np.float32(norm.attributes.get_float("epsilon", 1e-5)))
        old = _third(self.node)
        bias = ((0 if old is None else _array(old).reshape(-1)) - mean) * factor + beta
        if self.dequantizes:
            decode = self._with_signs(graph, factor)
        elif self.multiplies:
            decode = self._with_factor(graph, factor)
        elif self.decode.op_type == "DequantizeLinear":
            decode = self._with_scale(graph, factor)
        else:
            decode = self._multiplied(graph, factor)
        name = str(self.node.outputs[0].name)
        added = _constant(graph, bias.astype(gamma.dtype), f"{name}.bias")
        inputs = [self.node.inputs[0], decode.outputs[0], added]
        layer = ir.node(self.node.op_type, inputs, dict(self.node.attributes))
        weight = self.decode.outputs[0]
        for made, kept in ((decode.outputs[0], weight), (layer.outputs[0], norm.outputs[0])):
            made.name, made.type, made.shape = kept.name, kept.type, kept.shape
        graph.insert_before(norm, [decode, layer])
        _replace(graph, norm, layer.outputs[0])
        graph.remove([norm, self.node], safe=True)
        if weight in decode.inputs:
            weight.name = f"{weight.name}.decoded"
        else:
            graph.remove(self.decode, safe=True)

    def _with_signs(self, graph: "onnx_ir.Graph", factor: "np.ndarray") -> "onnx_ir.Node":
        """DequantizeLinear with positive scales, and integers of the factor's sign."""
        import numpy as np
        import onnx_ir as ir

        elements, scale = _array(self.decode.inputs[0]), _array(self.decode.inputs[1])
        signs = np.sign(factor).reshape([-1 if each == self.axis else 1 for each in range(elements.ndim)])
        turned = (elements.astype(np.int8) * signs.astype(np.int8)).astype(elements.dtype)
        # A channel of factor 0 has only zeros; its scale may be any number but 0.
        scales = np.where(factor == 0, 1, np.abs(factor)).astype(scale.dtype) * scale.reshape(-1)
        names = [str(value.name) for value in self.decode.inputs[:2]]  # type: ignore[union-attr] # constants
        inputs = [_constant(graph, *each) for each in zip((turned, scales), names, strict=True)]
        return ir.node("DequantizeLinear", inputs, attributes={"axis": self.axis})

    def _with_scale(self, graph: "onnx_ir.Graph", factor: "np.ndarray") -> "onnx_ir.Node":
        """DequantizeLinear of the same integers with other scales."""
        import onnx_ir as ir

        elements, scale = self.decode.inputs
        scales = (_array(scale) * factor).astype(_array(scale).dtype)
        name = str(scale.name)  # type: ignore[union-attr] # a constant
        inputs = [elements, _constant(graph, scales, name)]
        return ir.node("DequantizeLinear", inputs, attributes={"axis": self.axis})

    def _with_factor(self, graph: "onnx_ir.Graph", factor: "np.ndarray") -> "onnx_ir.Node":
        """The product with another constant, of any sign."""
        import onnx_ir as ir

        levels, scale = self.decode.inputs
        array = _array(scale)
        spread = factor.reshape([-1 if each == self.axis else 1 for each in range(array.ndim)])
        name = str(scale.name)  # type: ignore[union-attr] # a constant
        return ir.node("Mul", [levels, _constant(graph, (array * spread).astype(array.dtype), name)])

    def _multiplied(self, graph: "onnx_ir.Graph", factor: "np.ndarray") -> "onnx_ir.Node":
        """The product of the decoded weight, in any encoding, and the factor."""
        import onnx_ir as ir

        weight = self.decode.outputs[0]
        spread = factor.reshape([-1 if each == self.axis else 1 for each in range(len(weight.shape or ()))])
        return ir.node("Mul", [weight, _constant(graph, spread, f"{weight.name}.factor")])


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


def _is_alone(value: "onnx_ir.Value") -> bool:
    """Whether it is a constant that is read once."""
    return value.const_value is not None and not value.is_graph_input() and len(value.uses()) == 1


def _array(value: "onnx_ir.Value | None") -> "np.ndarray":
    array: np.ndarray = value.const_value.numpy()  # type: ignore[union-attr] # a constant
    return array


def _lowest(elements: "np.ndarray") -> int:
    """The smallest integer of the type, which has no negative in it."""
    return -(2 ** (7 if elements.dtype.name == "int8" else 3))
