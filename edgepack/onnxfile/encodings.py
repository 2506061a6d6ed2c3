"""How encoded constants stand in an .onnx file: found, and measured.

An encoding is one entry of ``ENCODINGS``: how a node that decodes a constant is recognised. ONNX has a form of its own
for dense integers, DequantizeLinear of an initializer; docs/encodings.md has the rules for others.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from edgepack.spec.encoding import DENSE, EncodedConstant

if TYPE_CHECKING:
    import onnx

Constants = Mapping[str, "onnx.TensorProto"]


def _dense_integers(node: "onnx.NodeProto", constants: Constants) -> "list[onnx.TensorProto] | None":
    """``(q - zero point) * scale``, all three of them constants: int8 weights, int32 biases."""
    if node.op_type != "DequantizeLinear" or not all(name in constants for name in node.input if name):
        return None
    return [constants[name] for name in node.input if name]


ENCODINGS: dict[str, Callable[["onnx.NodeProto", Constants], "list[onnx.TensorProto] | None"]] = {
    "dense-int": _dense_integers,
}
"""The encodings by name: the tensors of a constant that ``node`` decodes, the encoded elements first, or None."""


def encoded_constants(model: "onnx.ModelProto") -> tuple[EncodedConstant, ...]:
    """Every constant of a model in canonical form, with its encoding; settings such as scales belong to what they decode."""
    from onnx import helper

    constants = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, EncodedConstant] = {}
    used: set[str] = set()
    for encoding, tensors in _decoders(model, constants):
        elements, *settings = tensors
        # The settings' type is that of the decoded elements: scales are as wide as what they scale.
        decoded = helper.tensor_dtype_to_np_dtype(settings[0].data_type if settings else elements.data_type)
        count = math.prod(elements.dims)
        dtype = str(helper.tensor_dtype_to_np_dtype(elements.data_type))
        used.update(tensor.name for tensor in tensors)
        found[elements.name] = EncodedConstant.model_validate(
            {
                "name": elements.name,
                "shape": tuple(elements.dims),
                "dtype": str(decoded),
                "encoding": dtype if encoding == "dense-int" else encoding,
                "stored_bytes": sum(_bytes(tensor) for tensor in tensors),
                "dense_bytes": count * decoded.itemsize,
            }
        )
    for tensor in model.graph.initializer:
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        if tensor.name not in used and tensor.name not in found and dtype != "object":
            size = _bytes(tensor)
            found[tensor.name] = EncodedConstant.model_validate(
                {
                    "name": tensor.name,
                    "shape": tuple(tensor.dims),
                    "dtype": dtype,
                    "encoding": DENSE,
                    "stored_bytes": size,
                    "dense_bytes": size,
                }
            )
    return tuple(found.values())


def _decoders(
    model: "onnx.ModelProto", constants: Constants
) -> "Iterator[tuple[str, list[onnx.TensorProto]]]":
    for node in model.graph.node:
        for name, recognise in ENCODINGS.items():
            tensors = recognise(node, constants)
            if tensors is not None:
                yield name, tensors
                break


def _bytes(tensor: "onnx.TensorProto") -> int:
    from onnx import helper

    return int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)
