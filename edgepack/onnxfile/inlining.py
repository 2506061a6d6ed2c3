"""Replace operators with their ONNX function bodies."""

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

STANDARD = ("", "ai.onnx")
"""Names of the domain of the standard ONNX operators."""


def is_function(operator: str, opset: int) -> bool:
    """Whether ONNX defines the operator as a function of other operators."""
    import onnx

    schema = onnx.defs.get_schema(operator, opset)
    return bool(schema.has_function or schema.has_context_dependent_function)


def inline_functions(
    model: "onnx.ModelProto", operators: AbstractSet[str], opset: int
) -> "onnx.ModelProto | None":
    """Return a copy of a model with inferred types, with these operators replaced by their function bodies.

    None if a function body depends on something that is unknown.
    """
    import onnx.inliner

    typed = onnx.ModelProto()
    typed.CopyFrom(model)
    for tensor in model.graph.initializer:  # the inliner requires the type of each input
        info = onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims)
        typed.graph.value_info.append(info)
    # An omitted input has the name "", and the inliner requires its type, too.
    typed.graph.value_info.append(onnx.ValueInfoProto(type=onnx.TypeProto()))
    for node in typed.graph.node:
        if node.op_type not in operators or node.domain not in STANDARD:
            continue
        # The inliner keeps references to attributes without a default value.
        given = {attribute.name for attribute in node.attribute}
        schema = onnx.defs.get_schema(node.op_type, opset)
        defaults = [each.default_value for name, each in schema.attributes.items() if name not in given]
        node.attribute.extend(default for default in defaults if default.name)
    chosen = [("", operator) for operator in sorted(operators)]
    try:
        return onnx.inliner.inline_selected_functions(typed, chosen, inline_schema_functions=True)
    except RuntimeError:
        return None
