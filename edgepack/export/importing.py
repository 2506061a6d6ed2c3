"""An .onnx file from elsewhere: checked before anything believes it."""

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from edgepack.errors import InputError
from edgepack.export.canonical import canonicalise, save_onnx
from edgepack.recipe import DType, Input

if TYPE_CHECKING:
    import onnx

MIN_OPSET, MAX_OPSET = 7, 23
"""onnxruntime guarantees 7 and later; newer ones are not known to every tool behind this one."""
_MIN_IR = 3
_UPGRADE_BELOW, _UPGRADE_TO = 13, 18  # per-channel DequantizeLinear came with opset 13


def load_onnx(path: Path) -> "onnx.ModelProto":
    """The checked model at ``path``, external data inlined. Shapes may still be dynamic.

    Raises:
        InputError: for a file that is missing, empty, corrupt, of an unknown opset or IR version, with
            operators of other domains, or with external data that is not a plain file of its own
            inside the model's folder (onnxruntime and onnx would follow a link out of it).
    """
    import onnx
    from google.protobuf.message import DecodeError

    where = str(path)
    if not path.is_file():
        raise InputError("there is no such model file", where=where)
    if path.stat().st_size == 0:
        raise InputError(
            "the model file is empty (0 bytes)", where=where, next="export or copy the model again"
        )
    try:
        model = onnx.load_model(path, load_external_data=False)
    except DecodeError as error:
        raise InputError(
            "the file is not an ONNX model, or is cut off", where=where, why=str(error)
        ) from error
    if not model.HasField("graph") or not model.graph.node:
        raise InputError("the file holds no ONNX graph", where=where)
    _check_versions(model, where)
    _load_external_data(model, path)
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError, ValueError) as error:
        raise InputError("the ONNX model is invalid", where=where, why=str(error).strip()) from error
    return model


def import_onnx(path: Path, inputs: Sequence[Input], out: Path) -> tuple[Input, ...]:
    """Load ``path``, fix its shapes by ``inputs``, upgrade an old opset, write canonical ``out``.

    ``inputs`` may be empty where the model's own shapes are static. Returns the model's inputs.

    Raises:
        InputError: as :func:`load_onnx`; also where a shape stays dynamic, or ``inputs`` contradict the model.
    """
    import onnx

    model = load_onnx(path)
    if _opset(model) < _UPGRADE_BELOW:
        try:
            model = onnx.version_converter.convert_version(model, _UPGRADE_TO)
        except RuntimeError as error:
            raise InputError(
                f"opset {_opset(model)} cannot be upgraded to {_UPGRADE_TO}",
                where=str(path),
                why=str(error).strip(),
                next=f"export the model again with opset {_UPGRADE_BELOW} or later",
            ) from error
    _fix_inputs(model, inputs, str(path))
    for value in (*model.graph.output, *model.graph.value_info):
        value.type.tensor_type.ClearField("shape")  # inferred again from the fixed inputs
    model = canonicalise(_folded(canonicalise(model), str(path)))
    for value in model.graph.output:
        if None in _dims(value):
            raise InputError(
                f"the shape of output {value.name!r} is not known before the model runs",
                where=str(path),
                why=f"shape inference finds {_dims(value)}",
                next="export the model with static shapes",
            )
    save_onnx(model, out)
    return model_inputs(model)


def _folded(model: "onnx.ModelProto", where: str) -> "onnx.ModelProto":
    """Constants folded: the arithmetic on shapes that dynamic exports carry, and batch normalisation."""
    import onnxscript.optimizer

    try:
        folded: onnx.ModelProto = onnxscript.optimizer.optimize(model)
    except Exception as error:  # onnxscript's passes raise errors of no common class
        raise InputError("the graph cannot be simplified", where=where, why=str(error).strip()) from error
    return folded


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


def _opset(model: "onnx.ModelProto") -> int:
    return next((int(op.version) for op in model.opset_import if op.domain in ("", "ai.onnx")), 0)


def _check_versions(model: "onnx.ModelProto", where: str) -> None:
    import onnx

    opset = _opset(model)
    if not MIN_OPSET <= opset <= MAX_OPSET:
        raise InputError(
            f"opset {opset} is outside {MIN_OPSET} to {MAX_OPSET}",
            where=where,
            next=f"export the model again with opset {_UPGRADE_TO}",
        )
    if not _MIN_IR <= model.ir_version <= onnx.IR_VERSION:
        raise InputError(
            f"IR version {model.ir_version} is outside {_MIN_IR} to {onnx.IR_VERSION}",
            where=where,
            next=f"export the model again with opset {_UPGRADE_TO}",
        )
    local = {function.domain for function in model.functions}
    foreign = sorted(
        {f"{n.domain}.{n.op_type}" for n in model.graph.node} - {f".{n.op_type}" for n in model.graph.node}
    )
    foreign = [name for name in foreign if name.rpartition(".")[0] not in {"ai.onnx", *local}]
    if foreign:
        raise InputError(
            f"operators that are not ONNX's own: {', '.join(foreign[:5])}",
            where=where,
            why="only the standard operators can be compiled",
            next="export the model without the runtime's own optimisations",
        )


def _tensors(model: "onnx.ModelProto") -> "Iterator[onnx.TensorProto]":
    from onnx.external_data_helper import _get_all_tensors

    yield from _get_all_tensors(model)


def _load_external_data(model: "onnx.ModelProto", path: Path) -> None:
    import onnx

    folder = path.resolve().parent
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        location = next((entry.value for entry in tensor.external_data if entry.key == "location"), "")
        _check_external(folder, location, f"{path}, tensor {tensor.name}")
    try:
        onnx.load_external_data_for_model(model, str(folder))
    except (onnx.checker.ValidationError, OSError, ValueError) as error:
        raise InputError(
            "the external data cannot be read", where=str(path), why=str(error).strip()
        ) from error


def _check_external(folder: Path, location: str, where: str) -> None:
    file = folder / location
    if not location or Path(location).is_absolute():
        raise InputError(f"external data {location!r} is not a relative path", where=where)
    if not file.resolve().is_relative_to(folder):
        raise InputError(f"external data {location!r} lies outside the model's folder", where=where)
    if not file.exists():
        raise InputError(
            f"external data {location!r} is missing", where=where, next="copy it beside the .onnx file"
        )
    if not file.is_file() or file.stat().st_nlink > 1:
        raise InputError(
            f"external data {location!r} is not a plain file of its own",
            where=where,
            why="a hard link or special file may lead out of the model's folder",
            next="copy the file instead of linking it",
        )


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
            near = difflib.get_close_matches(spec.name, values, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(values)}"
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
        if None in dims:
            raise InputError(
                f"input {name!r} has a dynamic shape {_shown(dims)}",
                where=where,
                next=f"fix it in the recipe: model.inputs: [{{name: {name}, shape: [...]}}]",
            )


def _shown(dims: list[int | None]) -> str:
    return "[" + ", ".join("?" if d is None else str(d) for d in dims) + "]"
