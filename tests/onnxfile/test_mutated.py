"""A damaged or absurd file never ends with an internal error: it is imported, or refused with a next step."""

from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx.helper import make_node as node

from edgepack.errors import EdgepackError, UnsupportedError
from edgepack.export import import_onnx
from edgepack.onnxfile.importing import open_batch
from edgepack.onnxfile.reading import load_onnx

SIZES = [0, 1, -1, 7, 255, 2**31 - 1, 2**31, 2**40, 2**63 - 1, -(2**63)]
TEXTS = ["", "x", "y", "t", "w", "Relu", "Softmax", "com.microsoft", "ai.onnx", "\0", "a" * 300]
MIXED = settings(max_examples=200, deadline=None, suppress_health_check=list(HealthCheck))


def seeds() -> list[onnx.ModelProto]:
    """Small valid files which together have most fields of the format."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, (2, 3)) for name in "xy")
    weights = numpy_helper.from_array(onnx.helper.np.ones((2, 3), "float32"), "w")
    branch = helper.make_graph(
        [node("Neg", ["x"], ["p"])], "p", [], [helper.make_tensor_value_info("p", 1, None)]
    )
    bodies = [
        [node("Add", ["x", "w"], ["t"]), node("Softmax", ["t"], ["y"], axis=0)],
        [node("Gelu", ["x"], ["t"], domain="com.microsoft"), node("F", ["t"], ["y"], domain="acme", k=1)],
        [
            node("Constant", [], ["c"], value=numpy_helper.from_array(onnx.helper.np.array(True))),
            node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        ],
        [
            node("Shape", ["x"], ["s"]),
            node("ConstantOfShape", ["s"], ["z"]),
            node("Reshape", ["x", "s"], ["r"]),
            node("Add", ["r", "z"], ["y"]),
        ],
    ]
    made = []
    for body in bodies:
        graph = helper.make_graph(
            body, "g", [x], [y], [weights], value_info=[helper.make_tensor_value_info("t", 1, (2, 3))]
        )
        opsets = [
            helper.make_opsetid(domain, version)
            for domain, version in (("", 17), ("com.microsoft", 1), ("acme", 1))
        ]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=8, producer_name="test")
        model.functions.append(
            helper.make_function("acme", "F", ["a"], ["b"], [node("Relu", ["a"], ["b"])], opsets[:1], ["k"])
        )
        made.append(model)
    return made  # fmt: skip


SEEDS = [model.SerializeToString() for model in seeds()]


def refusal(path: Path, out: Path) -> EdgepackError | None:
    try:
        open_batch(load_onnx(path))
        import_onnx(path, (), out)
    except EdgepackError as error:
        return error
    return None


def require_import_or_refusal(data: bytes, folder: Path) -> None:
    path = folder / "m.onnx"
    path.write_bytes(data)
    error = refusal(path, folder / "out.onnx")
    if isinstance(error, UnsupportedError):
        assert all(problem.next for problem in error.model_problems)
    elif error is not None:
        assert error.next, error.render()
        assert error.where, error.render()


@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4),
    st.integers(1, 2000),
)
@MIXED
def test_changed_and_missing_bytes(tmp_path_factory, data, changes, length):
    damaged = bytearray(data)
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    require_import_or_refusal(bytes(damaged[: max(length, 1)]), tmp_path_factory.getbasetemp())


def messages(message: Any) -> list[Any]:
    """A protobuf message and all messages inside."""
    found = [message]
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            found += [m for inner in (value if field.is_repeated else [value]) for m in messages(inner)]
    return found


def drawn(field: Any, draw: Any) -> Any:
    """A value for a field; None for a field that holds messages or floats."""
    if field.type in {field.TYPE_STRING, field.TYPE_BYTES}:
        text = draw(st.sampled_from(TEXTS))
        return text.encode() if field.type == field.TYPE_BYTES else text
    if field.type == field.TYPE_ENUM:
        return draw(st.sampled_from([each.number for each in field.enum_type.values]))
    limits = {
        field.TYPE_INT64: (-(2**63), 2**63),
        field.TYPE_UINT64: (0, 2**63),
        field.TYPE_INT32: (-(2**31), 2**31 - 1),
    }
    if field.type not in limits:
        return None
    low, high = limits[field.type]
    return max(min(draw(st.sampled_from(SIZES)), high), low)


def change(message: Any, field: Any, draw: Any) -> None:
    """Set, add, repeat or remove one field of a message."""
    value = drawn(field, draw)
    if not field.is_repeated:
        message.ClearField(field.name) if value is None else setattr(message, field.name, value)
        return
    items = getattr(message, field.name)
    replaced = len(items) > 0 and draw(st.booleans())
    at = draw(st.integers(0, max(len(items) - 1, 0)))
    if replaced and value is None:
        del items[at]
    elif replaced:
        items[at] = value
    elif field.type == field.TYPE_MESSAGE:
        items.add().CopyFrom(items[at])
    elif value is not None:
        items.append(value)


@given(st.data())
@MIXED
def test_changed_fields(tmp_path_factory, data):
    model = onnx.load_model_from_string(data.draw(st.sampled_from(SEEDS)))
    for _ in range(data.draw(st.integers(1, 2))):
        inside = messages(model)
        chosen = inside[data.draw(st.integers(0, len(inside) - 1))]
        fields = list(chosen.DESCRIPTOR.fields)
        change(chosen, fields[data.draw(st.integers(0, len(fields) - 1))], data.draw)
    require_import_or_refusal(model.SerializeToString(), tmp_path_factory.getbasetemp())


@pytest.mark.parametrize("kind", [2**31 - 1, 99, 255])
def test_an_element_type_that_onnx_does_not_define(tmp_path, kind):
    model = onnx.load_model_from_string(SEEDS[0])
    model.graph.input[0].type.tensor_type.elem_type = kind
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(EdgepackError, match=f"element type {kind}") as caught:
        load_onnx(path)
    assert caught.value.next
