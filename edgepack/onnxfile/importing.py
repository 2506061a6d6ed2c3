"""Import a model: fix its shapes, upgrade an old opset, convert it to canonical form."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from edgepack.base.text import near_miss
from edgepack.errors import InputError, ModelProblem, UnsupportedError
from edgepack.onnxfile import canonicalise, load_onnx, opset_of, save_onnx
from edgepack.onnxfile.checking import refusing, require_numbers
from edgepack.onnxfile.contrib import convert_contrib
from edgepack.onnxfile.folding import fold_constants, fold_weights, simplify
from edgepack.onnxfile.known import fold_known
from edgepack.onnxfile.layouts import time_first
from edgepack.onnxfile.limits import require_small
from edgepack.onnxfile.opset import to_opset, without_training
from edgepack.onnxfile.quiet import quiet
from edgepack.spec import DType, Input

if TYPE_CHECKING:
    import onnx
    import onnx_ir

Simplify = Callable[["onnx.ModelProto", str], "onnx.ModelProto"]
"""Takes a model and its file name; returns an equivalent model with fewer nodes."""


def import_onnx(
    path: Path, inputs: Sequence[Input], out: Path, simplify: Simplify | None = None
) -> tuple[Input, ...]:
    """Load ``path``, fix its shapes by ``inputs``, upgrade an old opset, and write canonical ``out``.

    ``inputs`` may be empty if the model's own shapes are static; ``simplify`` defaults to ``simplify_model``. Returns
    the model's inputs. The result is not compared with the original model here:
    :func:`edgepack.export.importing` does that.

    Raises:
        InputError: as :func:`edgepack.onnxfile.load_onnx`; also if a shape stays dynamic, or contradicts ``inputs``.
    """
    model = fit_model(load_onnx(path), inputs, str(path), simplify or simplify_model)
    save_onnx(model, out)
    return model_inputs(model)


def fit_model(
    model: "onnx.ModelProto",
    inputs: Sequence[Input],
    where: str,
    simplify: Simplify | None = None,
    *,
    imported: bool = False,
) -> "onnx.ModelProto":
    """Fix the shapes of a checked model by ``inputs``, upgrade an old opset, fold constants, and canonicalise it.

    ``imported`` says that the model has been imported before: its sizes are not checked again.

    Raises:
        InputError: as :func:`import_onnx`.
    """
    with refusing("the ONNX model cannot be imported", where):
        return _fit(model, inputs, where, simplify or simplify_model, imported=imported)


# Operators whose output has as many elements as the data decides: static shapes of the inputs do not help.
_DATA_DEPENDENT = {
    "NonMaxSuppression": "end the model with boxes and scores, and select boxes outside the model",
    "NonZero": "end the model with the values, and look for those that are not zero outside the model",
    "Compress": "end the model with the values and the condition, and select outside the model",
    "Unique": "end the model before it, and look for distinct values outside the model",
}


def _fit(
    model: "onnx.ModelProto", inputs: Sequence[Input], where: str, simplify: Simplify, *, imported: bool
) -> "onnx.ModelProto":
    declared = _declared_shapes(model)
    _fix_inputs(model, inputs, where)
    for value in (*model.graph.output, *model.graph.value_info):
        value.type.tensor_type.ClearField("shape")  # inferred again from the fixed inputs
    opset = opset_of(model)
    model = convert_contrib(model, opset, where)
    model = to_opset(model, where)
    time_first(model)
    model = canonicalise(model)
    if not imported:  # lowering what was imported computes no tensor of it
        require_small(model, where)
    plain = without_training(model, opset, where)
    model = canonicalise(simplify(plain if plain is model else canonicalise(plain), where))
    folded = fold_known(model)
    model = model if folded is model else canonicalise(folded)
    require_numbers(model, where)
    if not model.graph.input:
        why = "its output is constant"
        raise InputError("the model has no input", where=where, why=why, next="use its output as a constant")
    problems = []
    for value in model.graph.output:
        if None in _dims(value) and value.name in declared:
            value.type.CopyFrom(declared[value.name].type)
        if _is_empty(value):
            raise InputError(
                f"output {value.name!r} is empty: one of its axes has size 0",
                where=where,
                next="remove the output from the model; it never holds a value",
            )
        if None in _dims(value) and value.name not in {tensor.name for tensor in model.graph.initializer}:
            node = _origin(model.graph, value.name)
            message = f"the shape of output {value.name!r} is only known at run time"
            why = f"shape inference gives {_format_shape(_dims(value))}, starting at {node.op_type}"
            step = _DATA_DEPENDENT.get(node.op_type, "export the model with static shapes")
            problems.append(ModelProblem(node.op_type, node.name, message, why, step))
    if problems:
        raise UnsupportedError(where, problems)
    return model


def _origin(graph: "onnx.GraphProto", name: str) -> "onnx.NodeProto":
    """Return the first node on the path to a value whose output has no known shape."""
    known = {
        value.name for value in (*graph.input, *graph.value_info, *graph.output) if None not in _dims(value)
    }
    makers = {output: node for node in graph.node for output in node.output}
    while True:
        node = makers[name]
        above = [each for each in node.input if each in makers and each not in known]
        if not above:
            return node
        name = above[0]


def open_batch(model: "onnx.ModelProto") -> tuple[Input, ...]:
    """Return inputs whose only open axis is the first (the batch), with batch 1: shapes for :func:`fit_model`."""
    from onnx import helper

    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = []
    for value in model.graph.input:
        dims = _dims(value)
        if value.name in constants or not dims or dims[0] is not None or None in dims[1:]:
            continue
        if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].HasField("dim_value"):
            continue  # 0 is not an open axis
        dtype = str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        if value.type.tensor_type.HasField("shape") and dtype in get_args(DType):
            inputs.append(Input.model_validate({"name": value.name, "shape": (1, *dims[1:]), "dtype": dtype}))
    return tuple(inputs)


def _declared_shapes(model: "onnx.ModelProto") -> "dict[str, onnx.ValueInfoProto]":
    """Return outputs whose shape the file declares, if all input shapes are static: inference may miss some."""
    if any(None in _dims(value) for value in model.graph.input):
        return {}
    declared = {}
    for value in model.graph.output:
        if None not in _dims(value):
            declared[value.name] = type(value)()
            declared[value.name].CopyFrom(value)
    return declared


def simplify_model(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Fold constants except encoded ones: shape arithmetic of dynamic exports, batch normalisation."""
    return _apply(simplify, model, where)


def fold_model_constants(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Fold constants except encoded ones, without rewrite rules."""
    return _apply(fold_constants, model, where)


def fold_model_weights(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Fold what is computed from weights of any size, if that makes the model no larger."""
    return _apply(fold_weights, model, where)


def keep_model(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Return the model unchanged."""
    del where
    return model


SIMPLIFICATIONS: tuple[Simplify, ...] = (simplify_model, fold_model_constants, keep_model)
"""In the order in which they are tried: the most simplification first."""


def _apply(
    simplification: "Callable[[onnx_ir.Model], None]", model: "onnx.ModelProto", where: str
) -> "onnx.ModelProto":
    import onnx_ir

    try:
        with quiet():
            graph = onnx_ir.from_proto(model)
            simplification(graph)
            return onnx_ir.to_proto(graph)
    except Exception as error:  # onnxscript's passes raise errors of no common class
        raise InputError(
            "the graph cannot be simplified",
            where=where,
            why=str(error.__cause__ or error).strip(),
            next="re-export the model with opset 18, or simplify it before: onnxscript.optimizer",
        ) from error


def model_inputs(model: "onnx.ModelProto") -> tuple[Input, ...]:
    """Return the inputs of a model with static shapes; InputError for an unsupported element type."""
    from onnx import TensorProto, helper

    inputs = []
    for value in model.graph.input:
        kind = value.type.tensor_type.elem_type
        dtype = str(helper.tensor_dtype_to_np_dtype(kind)) if kind else "no tensor"
        if dtype not in get_args(DType):
            shown = TensorProto.DataType.Name(kind).lower() if kind else dtype
            raise InputError(
                f"input {value.name!r} is {shown}",
                why=f"supported types are {', '.join(get_args(DType))}",
                next=f"export the model with another type for {value.name!r}, or convert it outside the model",
            )
        shape = tuple(dim or 1 for dim in _dims(value))
        inputs.append(Input.model_validate({"name": value.name, "shape": shape, "dtype": dtype}))
    return tuple(inputs)


def _is_empty(value: "onnx.ValueInfoProto") -> bool:
    return any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in value.type.tensor_type.shape.dim)


def _dims(value: "onnx.ValueInfoProto") -> list[int | None]:
    """Return the shape; None for a dynamic dimension, ``[None]`` for unknown rank."""
    tensor = value.type.tensor_type
    if not tensor.HasField("shape"):
        return [None]
    return [d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else None for d in tensor.shape.dim]


def _fix_inputs(model: "onnx.ModelProto", inputs: Sequence[Input], where: str) -> None:
    from onnx import TensorProto, helper

    constants = {tensor.name for tensor in model.graph.initializer}
    values = {value.name: value for value in model.graph.input if value.name not in constants}
    for spec in inputs:
        if spec.name not in values:
            hint = near_miss(spec.name, values, say="it has", quote="'")
            raise InputError(f"the model has no input {spec.name!r}{hint}", where=where)
        value = values[spec.name]
        dims = _dims(value)
        fixed = value.type.tensor_type.HasField("shape")
        if fixed and (
            len(dims) != len(spec.shape)
            or any(d not in (None, s) for d, s in zip(dims, spec.shape, strict=True))
        ):
            raise InputError(
                f"input {spec.name!r} is {_format_shape(dims)} in the model and {list(spec.shape)} in the recipe",
                where=where,
            )
        wanted = helper.np_dtype_to_tensor_dtype(helper.np.dtype(spec.dtype))
        if value.type.tensor_type.elem_type != wanted:
            has = TensorProto.DataType.Name(value.type.tensor_type.elem_type).lower()
            raise InputError(
                f"input {spec.name!r} is {has} in the model and {spec.dtype} in the recipe", where=where
            )
        value.CopyFrom(helper.make_tensor_value_info(spec.name, wanted, spec.shape))
    for name, value in values.items():
        dims = _dims(value)
        if _is_empty(value):
            raise InputError(
                f"input {name!r} is empty: one of its axes has size 0",
                where=where,
                next="give every axis of the model's inputs a size of at least 1",
            )
        if None in dims:
            raise InputError(
                f"input {name!r} has a dynamic shape {_format_shape(dims)}",
                where=where,
                next=f"set it in the recipe: model.inputs: [{{name: {name}, shape: [...]}}]",
            )


def _format_shape(dims: list[int | None]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"
