"""A model from elsewhere, made to fit: static shapes, a known opset, canonical form."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from edgepack.base.text import near_miss
from edgepack.errors import InputError, ModelProblem, UnsupportedError
from edgepack.onnxfile import canonicalise, load_onnx, opset_of, save_onnx
from edgepack.onnxfile.folding import fold_constants, simplify
from edgepack.onnxfile.quiet import quiet
from edgepack.spec import DType, Input

if TYPE_CHECKING:
    import onnx
    import onnx_ir

_UPGRADE_BELOW, _UPGRADE_TO = 13, 18  # per-channel DequantizeLinear came with opset 13


Simplify = Callable[["onnx.ModelProto", str], "onnx.ModelProto"]
"""Takes a model and the name of its file; returns what computes the same with fewer nodes."""


def import_onnx(
    path: Path, inputs: Sequence[Input], out: Path, simplify: Simplify | None = None
) -> tuple[Input, ...]:
    """Load ``path``, fix its shapes by ``inputs``, upgrade an old opset, write canonical ``out``.

    ``inputs`` may be empty where the model's own shapes are static; ``simplify`` is ``folded`` by default. Returns the
    model's inputs. What other libraries make of the model is not compared with it here:
    :func:`edgepack.export.importing` does.

    Raises:
        InputError: as :func:`edgepack.onnxfile.load_onnx`; also where a shape stays dynamic, or ``inputs`` contradict the model.
    """
    model = fitted(load_onnx(path), inputs, str(path), simplify or folded)
    save_onnx(model, out)
    return model_inputs(model)


def fitted(
    model: "onnx.ModelProto", inputs: Sequence[Input], where: str, simplify: Simplify | None = None
) -> "onnx.ModelProto":
    """A checked model with its shapes fixed by ``inputs``, an old opset upgraded, constants folded, in canonical form.

    Raises:
        InputError: as :func:`import_onnx`.
    """
    import onnx

    if opset_of(model) < _UPGRADE_BELOW:
        try:
            model = onnx.version_converter.convert_version(model, _UPGRADE_TO)
        except RuntimeError as error:
            raise InputError(
                f"opset {opset_of(model)} cannot be upgraded to {_UPGRADE_TO}",
                where=where,
                why=str(error).strip(),
                next=f"export the model again with opset {_UPGRADE_BELOW} or later",
            ) from error
    declared = _declared_shapes(model)
    _fix_inputs(model, inputs, where)
    for value in (*model.graph.output, *model.graph.value_info):
        value.type.tensor_type.ClearField("shape")  # inferred again from the fixed inputs
    model = canonicalise((simplify or folded)(canonicalise(model), where))
    if not model.graph.input:
        why = "what it computes is the same every time"
        raise InputError("the model has no input", where=where, why=why, next="use its output as a constant")
    for value in model.graph.output:
        if None in _dims(value) and value.name in declared:
            value.type.CopyFrom(declared[value.name].type)
        if None in _dims(value) and value.name not in {tensor.name for tensor in model.graph.initializer}:
            node = _origin(model.graph, value.name)
            message = f"the shape of output {value.name!r} is not known before the model runs"
            why = f"shape inference finds {_shown(_dims(value))}, from {node.op_type} on"
            problem = ModelProblem(
                node.op_type, node.name, message, why, "export the model with static shapes"
            )
            raise UnsupportedError(where, [problem])
    return model


def _origin(graph: "onnx.GraphProto", name: str) -> "onnx.NodeProto":
    """The first node on the way to a value whose output has no known shape."""
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
    """Inputs whose first axis alone is open (the batch), with a batch of 1: shapes for :func:`fitted`."""
    from onnx import helper

    constants = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        dims = _dims(value)
        if value.name in constants or not dims or dims[0] is not None or None in dims[1:]:
            continue
        if value.type.tensor_type.shape.dim and value.type.tensor_type.shape.dim[0].HasField("dim_value"):
            continue  # 0, which is not open
        dtype = str(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
        if value.type.tensor_type.HasField("shape") and dtype in get_args(DType):
            found.append(Input.model_validate({"name": value.name, "shape": (1, *dims[1:]), "dtype": dtype}))
    return tuple(found)


def _declared_shapes(model: "onnx.ModelProto") -> "dict[str, onnx.ValueInfoProto]":
    """Outputs whose shape the file tells, if the inputs' shapes leave no choice: inference does not find each of them."""
    if any(None in _dims(value) for value in model.graph.input):
        return {}
    declared = {}
    for value in model.graph.output:
        if None not in _dims(value):
            declared[value.name] = type(value)()
            declared[value.name].CopyFrom(value)
    return declared


def folded(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Constants folded, but for encoded ones: the arithmetic on shapes that dynamic exports carry, batch normalisation."""
    return _simplified(simplify, model, where)


def constants_folded(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Constants folded, but for encoded ones, and no rule that rewrites nodes."""
    return _simplified(fold_constants, model, where)


def unchanged(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Nothing folded or rewritten."""
    del where
    return model


SIMPLIFICATIONS: tuple[Simplify, ...] = (folded, constants_folded, unchanged)
"""From the one that simplifies most to the one that changes nothing."""


def _simplified(
    simplification: "Callable[[onnx_ir.Model], None]", model: "onnx.ModelProto", where: str
) -> "onnx.ModelProto":
    import onnx_ir

    try:
        with quiet():
            graph = onnx_ir.from_proto(model)
            simplification(graph)
            return onnx_ir.to_proto(graph)
    except Exception as error:  # onnxscript's passes raise errors of no common class
        raise InputError("the graph cannot be simplified", where=where, why=str(error).strip()) from error


def model_inputs(model: "onnx.ModelProto") -> tuple[Input, ...]:
    """The inputs of a model with static shapes; InputError for an element type no board takes."""
    from onnx import TensorProto, helper

    found = []
    for value in model.graph.input:
        kind = value.type.tensor_type.elem_type
        dtype = str(helper.tensor_dtype_to_np_dtype(kind)) if kind else "no tensor"
        if dtype not in get_args(DType):
            shown = TensorProto.DataType.Name(kind).lower() if kind else dtype
            raise InputError(
                f"input {value.name!r} is {shown}", why=f"inputs may be {', '.join(get_args(DType))}"
            )
        shape = tuple(dim or 1 for dim in _dims(value))
        found.append(Input.model_validate({"name": value.name, "shape": shape, "dtype": dtype}))
    return tuple(found)


def _dims(value: "onnx.ValueInfoProto") -> list[int | None]:
    """The shape; None for a dynamic dimension, and ``[None]`` where even the rank is unknown."""
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
                f"input {spec.name!r} is {_shown(dims)} in the model and {list(spec.shape)} in the recipe",
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
        if any(dim.HasField("dim_value") and dim.dim_value == 0 for dim in value.type.tensor_type.shape.dim):
            raise InputError(
                f"input {name!r} is empty: one of its axes has no elements",
                where=where,
                next="give the model inputs of at least one element along each axis",
            )
        if None in dims:
            raise InputError(
                f"input {name!r} has a dynamic shape {_shown(dims)}",
                where=where,
                next=f"fix it in the recipe: model.inputs: [{{name: {name}, shape: [...]}}]",
            )


def _shown(dims: list[int | None]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"
