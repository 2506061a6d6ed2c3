"""Forms of operators: one-node models with the values of their inputs, in which attributes, inputs and types vary."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

FLOATS = ("float32", "float16", "float64")
INTEGERS = ("int8", "uint8", "int32", "int64")
NUMBERS = (*FLOATS, *INTEGERS)
SHAPES = ((), (3,), (2, 3), (2, 3, 4), (1, 2, 3, 2), (2, 1, 2, 1, 3))


@dataclass(frozen=True)
class Fixed:
    """The value of an input that is a constant in the model."""

    value: np.ndarray


@dataclass(frozen=True)
class Form:
    """One node: its inputs in order (None if omitted, ``Fixed`` if constant), attributes, opset, number of outputs."""

    operator: str
    inputs: tuple[Any, ...]
    attributes: dict[str, Any] = field(default_factory=dict)
    opset: int = 22
    outputs: int | tuple[str, ...] = 1

    def __str__(self) -> str:
        given = ", ".join(map(_shown, self.inputs))
        attributes = "".join(f", {name}={_brief(value)}" for name, value in self.attributes.items())
        return f"{self.operator}-{self.opset}({given}{attributes})"

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the outputs; empty for one that is omitted."""
        return (
            self.outputs if isinstance(self.outputs, tuple) else tuple(f"y{i}" for i in range(self.outputs))
        )

    def feeds(self) -> dict[str, np.ndarray]:
        """Return the values of the graph's inputs, by name."""
        return {f"x{i}": value for i, value in enumerate(self.inputs) if isinstance(value, np.ndarray)}

    def model(self) -> onnx.ModelProto:
        """Return the model, its outputs without types."""
        names = ["" if value is None else f"x{i}" for i, value in enumerate(self.inputs)]
        node = helper.make_node(self.operator, names, list(self.names), name="the_node")
        node.attribute.extend(
            value if isinstance(value, AttributeProto) else helper.make_attribute(name, value)
            for name, value in self.attributes.items()
        )
        constants = {f"x{i}": v.value for i, v in enumerate(self.inputs) if isinstance(v, Fixed)}
        graph = helper.make_graph(
            [node],
            "form",
            [
                helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
                for name, value in self.feeds().items()
            ],
            [onnx.ValueInfoProto(name=name) for name in self.names if name],
            [numpy_helper.from_array(value, name) for name, value in constants.items()],
        )
        imports = [helper.make_opsetid("", self.opset)]
        model = helper.make_model(graph, opset_imports=imports, ir_version=10)
        bare = onnx.ModelProto()
        bare.CopyFrom(model)
        del bare.graph.output[:]
        found = onnx.shape_inference.infer_shapes(bare, data_prop=True).graph.value_info
        known = {value.name: value for value in found}
        for output in model.graph.output:
            if output.name in known:
                output.CopyFrom(known[output.name])
        return model


def _shown(value: Any) -> str:
    if value is None:
        return "omitted"
    if not isinstance(value, Fixed):
        return f"{value.dtype}{list(value.shape)}"
    array = value.value
    return f"={_brief(array.tolist())}" if array.size < 9 else f"={array.dtype}{list(array.shape)}"


def _brief(value: Any) -> str:
    return str(value).replace("\n", " ")[:60]


def some(dtype: str, *shape: int, low: float = -4, high: float = 4) -> np.ndarray:
    """Return values of a type, spread over [low, high] and shuffled; for unsigned types from 0."""
    size = int(np.prod(shape))
    rng = np.random.default_rng(size + 7 * len(shape))
    if dtype == "bool":
        return np.asarray(rng.random(shape) < 0.5)
    if dtype.startswith("u"):
        low = max(low, 0)
    spread = np.linspace(low, high, max(size, 2))[:size] if size > 1 else np.array([high * 0.7])
    if np.dtype(dtype).kind in "iu":
        spread = np.rint(spread)
    return np.ascontiguousarray(rng.permutation(spread).reshape(shape).astype(dtype))


def ints(*values: int, dtype: str = "int64") -> Fixed:
    """Return a constant of one axis."""
    return Fixed(np.array(values, dtype))


def scalar(value: float, dtype: str = "float32") -> Fixed:
    """Return a constant without axes."""
    return Fixed(np.array(value, dtype))


def over(
    operator: str, dtypes: Sequence[str], shapes: Sequence[tuple[int, ...]] = SHAPES, **options: Any
) -> Iterator[Form]:
    """Yield the operator on one input of every type, and of every shape for the first type."""
    low, high = options.pop("low", -4), options.pop("high", 4)
    opset = options.pop("opset", 22)
    for number, dtype in enumerate(dtypes):
        for shape in shapes if number == 0 else shapes[len(shapes) // 2 :][:1]:
            yield Form(operator, (some(dtype, *shape, low=low, high=high),), options, opset)
