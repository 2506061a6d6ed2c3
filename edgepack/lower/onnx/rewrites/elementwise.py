"""Functions of single elements for types and attributes that TVM's converters lack."""

from edgepack.lower.onnx.nodes import Node
from edgepack.lower.onnx.rewrites.patch import Patch

_MULTIPLIED = 4  # integer powers up to this are products


def rewrite_sign(node: Node, patch: Patch) -> list[str] | None:
    """Sign of an unsigned integer: 0 or 1."""
    kind = node.input_type(0)
    if kind is None or not kind[0].startswith("uint"):
        return None
    return [patch.op("Min", node.input(0), patch.constant(1, kind[0]))]


def rewrite_equal(node: Node, patch: Patch) -> list[str] | None:
    """Equal of booleans."""
    kind = node.input_type(0)
    if kind is None or kind[0] != "bool":
        return None
    return [patch.op("Not", patch.op("Xor", node.input(0), node.input(1)))]


def rewrite_is_inf(node: Node, patch: Patch) -> list[str] | None:
    """IsInf of one sign only."""
    import numpy as np

    kind, signs = (
        node.input_type(0),
        [node.attribute(f"detect_{sign}", 1) for sign in ("negative", "positive")],
    )
    if kind is None or all(signs):
        return None
    if not any(signs):
        return [patch.op("Identity", patch.constant(np.zeros(kind[1], bool)))]
    infinite = patch.scalar(np.inf if signs[1] else -np.inf, kind[0])
    return [patch.op("Equal", node.input(0), infinite)]


def rewrite_pow(node: Node, patch: Patch) -> list[str] | None:
    """Pow of integers, and of operands of two types: the result has the type of the first."""
    import numpy as np

    base, exponent = node.input_type(0), node.input_type(1)
    if base is None or exponent is None:
        return None
    fractional = base[0].startswith(("float", "bfloat"))
    if base[0] == exponent[0] and fractional:
        return None
    if fractional:
        return [patch.op("Pow", node.input(0), patch.cast(node.input(1), base[0]))]
    constant = node.constant(1)
    if constant is not None and constant.size == 1:
        value = float(np.reshape(constant, ()))
        if value == int(value) and 1 <= value <= _MULTIPLIED and constant.ndim <= len(base[1]):
            power = node.input(0)
            for _ in range(int(value) - 1):
                power = patch.op("Mul", power, node.input(0))
            return [power if value > 1 else patch.op("Identity", power)]
    # As onnxruntime: in float64, cut to an integer.
    wide = patch.op("Pow", patch.cast(node.input(0), "float64"), patch.cast(node.input(1), "float64"))
    return [patch.cast(wide, base[0])]


def rewrite_thresholded_relu(node: Node, patch: Patch) -> list[str] | None:
    """ThresholdedRelu selects; a product with 0 would make NaN of infinity."""
    kind = node.input_type(0)
    if kind is None:
        return None
    above = patch.op("Greater", node.input(0), patch.scalar(node.attribute("alpha", 1.0), kind[0]))
    return [patch.op("Where", above, node.input(0), patch.scalar(0, kind[0]))]
