"""Operators computed in another element type, where TVM lacks a type or rounds in it."""

from collections.abc import Collection
from typing import Any

from edgepack.lower.onnx.nodes import Node
from edgepack.lower.onnx.rewrites.patch import Patch

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
INTEGERS = (*SIGNED, *UNSIGNED)


def computed_in(wide: str, types: Collection[str], inputs: Collection[int] = (0,)) -> Any:
    """Return the rewrite that computes an operator in a wider type, for inputs of these types.

    Args:
        wide: The element type to compute in.
        types: Element types of the first input to which the rewrite applies.
        inputs: The inputs to convert, if they have the type of the first one; the first output is converted back.
    """

    def rewrite(node: Node, patch: Patch) -> list[str] | None:
        kind, output = node.input_type(0), node.output_type()
        if kind is None or output is None or kind[0] not in types or kind[0] == wide:
            return None
        given = [
            patch.cast(name, wide) if name and index in inputs and _same(node, index) else name
            for index, name in enumerate(node.proto.input)
        ]
        results = patch.again(node.proto, *given)
        return [patch.cast(results[0], output[0]), *results[1:]]

    return rewrite


def _same(node: Node, index: int) -> bool:
    first, other = node.input_type(0), node.input_type(index)
    return first is not None and other is not None and first[0] == other[0]


def rewrite_quantize_half(node: Node, patch: Patch) -> list[str] | None:
    """QuantizeLinear of float16: onnxruntime divides in float32; in float16 quotients round to ties."""
    kind = node.input_type(0)
    if kind is None or kind[0] not in {"float16", "bfloat16"}:
        return None
    given = [patch.cast(name, "float32") for name in node.proto.input[:2]]
    return patch.again(node.proto, *given, *node.proto.input[2:])
