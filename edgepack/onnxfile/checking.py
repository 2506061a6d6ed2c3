"""Check a repaired model, and complete the types of its outputs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edgepack.errors import EdgepackError, InputError, ModelProblem, UnsupportedError
from edgepack.onnxfile.inference import infer_types
from edgepack.onnxfile.protos import copy_of
from edgepack.onnxfile.repair import AGAIN

if TYPE_CHECKING:
    import onnx

_KINDS = {
    "sequence_type": "a sequence",
    "optional_type": "optional",
    "map_type": "a map",
    "sparse_tensor_type": "a sparse tensor",
}
_TENSORS_ONLY = "only tensors of numbers can be compiled"


def check(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Return a repaired model with the type of every value inferred.

    The declared shape of an output counts only where inference finds none: onnxruntime ignores a wrong one, too.

    Raises:
        InputError: the model breaks a rule of ONNX, or has inputs or outputs that are not tensors.
    """
    import onnx

    declared = {value.name: copy_of(value.type) for value in model.graph.output}
    for value in model.graph.input:
        _require_tensor(value, where)
    with refusing("the ONNX model is invalid", where):
        with _complete(model):
            onnx.checker.check_model(model)
        for value in model.graph.output:
            value.type.tensor_type.ClearField("shape")
            if not value.type.tensor_type.elem_type:
                value.ClearField("type")
        typed = infer_types(model)
    for value in typed.graph.output:
        known = value.type.tensor_type
        if known.elem_type and not known.HasField("shape") and declared[value.name].HasField("tensor_type"):
            value.type.CopyFrom(declared[value.name])
        if not value.type.WhichOneof("value"):
            value.type.CopyFrom(declared[value.name])
        if not any(
            node.domain for node in model.graph.node
        ):  # whose outputs have types once they are replaced
            _require_tensor(value, where)
    return typed


@contextmanager
def refusing(message: str, where: str, next: str = AGAIN) -> Iterator[None]:  # noqa: A002 - as in EdgepackError
    """Report what another library raises about a model as an InputError with ``message``.

    ONNX's checker, its inference and the passes on the model raise errors of no common class: what they
    raise depends on what is wrong in the file.
    """
    try:
        yield
    except EdgepackError as error:
        error.where = error.where or where
        raise
    except RecursionError as error:
        raise InputError(message, where=where, why="it is nested too deeply", next=next) from error
    except Exception as error:  # of any class, see above
        raise InputError(message, where=where, why=_first(error), next=next) from error


def _first(error: Exception) -> str:
    """Return an error's text, or its type for one without text."""
    text = str(error).strip().partition("\n\n==> Context")[0]
    return text or type(error).__name__


@contextmanager
def _complete(model: "onnx.ModelProto") -> Iterator[None]:
    """In the block, give inputs and outputs without a type or shape one: the checker requires it, ONNX does not."""
    import onnx

    open_values = [
        value
        for value in (*model.graph.input, *model.graph.output)
        if value.type.WhichOneof("value") in (None, "tensor_type")
        and not (value.type.tensor_type.elem_type and value.type.tensor_type.HasField("shape"))
    ]
    saved = [copy_of(value) for value in open_values]
    for value in open_values:
        tensor = value.type.tensor_type
        tensor.elem_type = tensor.elem_type or onnx.TensorProto.FLOAT
        tensor.shape.SetInParent()
    try:
        yield
    finally:
        for value, before in zip(open_values, saved, strict=True):
            value.CopyFrom(before)


def _require_tensor(value: "onnx.ValueInfoProto", where: str) -> None:
    kind = value.type.WhichOneof("value")
    if kind is None or (kind == "tensor_type" and not value.type.tensor_type.elem_type):
        raise InputError(f"{value.name!r} has no element type", where=where, next=AGAIN)
    import onnx

    if kind == "tensor_type" and value.type.tensor_type.elem_type not in onnx.TensorProto.DataType.values():
        raise InputError(
            f"{value.name!r} has element type {value.type.tensor_type.elem_type}, which ONNX does not define",
            where=where,
            next=AGAIN,
        )
    if kind != "tensor_type":
        raise InputError(
            f"{value.name!r} is {_KINDS.get(kind, kind)}",
            where=where,
            why=_TENSORS_ONLY,
            next="export the model with tensors as inputs and outputs",
        )


def require_numbers(model: "onnx.ModelProto", where: str) -> None:
    """Check that a canonical model computes with numbers only.

    Raises:
        UnsupportedError: names every node that reads or writes text.
    """
    from onnx import TensorProto

    graph = model.graph
    text = {tensor.name for tensor in graph.initializer if tensor.data_type == TensorProto.STRING}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.elem_type == TensorProto.STRING:
            text.add(value.name)
    step = "compute text outside the model, for example into token ids, and end the model with numbers"
    problems = [
        ModelProblem(
            node.op_type, node.name, f"operator {node.op_type} computes with text", _TENSORS_ONLY, step
        )
        for node in graph.node
        if text.intersection((*node.input, *node.output))
    ]
    if not problems and text:
        named = min(text)
        problems = [ModelProblem("", "", f"tensor {named!r} is text", _TENSORS_ONLY, step)]
    if problems:
        raise UnsupportedError(where, problems)
