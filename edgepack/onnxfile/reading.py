"""Read and check an .onnx file."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.base.filekind import wrong_kind
from edgepack.errors import InputError
from edgepack.onnxfile.checking import check, refusing
from edgepack.onnxfile.contrib import RULES, name_domains, require_rules
from edgepack.onnxfile.external import MAX_BYTES, read_external_data, too_large
from edgepack.onnxfile.functions import inline_local
from edgepack.onnxfile.inlining import STANDARD
from edgepack.onnxfile.limits import require_small_constants
from edgepack.onnxfile.opset import to_opset
from edgepack.onnxfile.opset.versions import HIGHEST
from edgepack.onnxfile.opset.withdrawn import replace_withdrawn
from edgepack.onnxfile.repair import repair

if TYPE_CHECKING:
    import onnx

MIN_OPSET, MAX_OPSET = 7, HIGHEST
"""Supported opsets: onnxruntime guarantees 7 and later; newer ones than ``MAX_OPSET`` are converted to it."""
_MIN_IR = 3


def load_onnx(path: Path) -> "onnx.ModelProto":
    """Load the model at ``path``, with external data inline_functions, in opset ``MAX_OPSET`` or older. Shapes may be dynamic.

    Raises:
        InputError: for a file that is missing, empty, corrupt, of an unsupported opset or IR version, with
            non-standard operators or some that cannot be expressed in opset ``MAX_OPSET``, or with external
            data that is not a regular file inside the model's folder (onnxruntime and onnx would
            follow a link out of it).
    """
    import onnx
    from google.protobuf.message import DecodeError

    where = str(path)
    if not path.exists():
        raise InputError("there is no such model file", where=where)
    size = path.stat().st_size
    if not path.is_file() or size == 0:
        raise _not_a_model(path, "it is no regular file")
    if size > MAX_BYTES:
        raise too_large(size, path)
    try:
        model = onnx.load_model(path, load_external_data=False)
    except DecodeError as error:
        raise _not_a_model(path, str(error)) from error
    if not model.HasField("graph") or not model.graph.output:
        raise _not_a_model(path, "it contains no graph")
    with refusing("the ONNX model is invalid", where):
        return _read(model, path)


def _read(model: "onnx.ModelProto", path: Path) -> "onnx.ModelProto":
    where = str(path)
    _check_ir_version(model, where)
    repair(model, where)
    _check_opset(model, where)
    model = inline_local(model, where, RULES)
    replace_withdrawn(model, opset_of(model))
    repair(model, where)  # as the inlined functions may need it
    name_domains(model, opset_of(model))
    require_rules(model, where)
    require_small_constants(model.graph, where)
    read_external_data(model, path)
    model = check(model, where)
    return to_opset(model, where) if opset_of(model) > MAX_OPSET else model


def peek(path: Path) -> "onnx.ModelProto | None":
    """Return a model as the file has it, without external data; None if :func:`load_onnx` says why it cannot be read."""
    import onnx
    from google.protobuf.message import DecodeError

    try:
        if not path.is_file():  # reading a FIFO or a device may never end
            return None
        return onnx.load_model(path, load_external_data=False)
    except (OSError, ValueError, DecodeError):
        return None


def _not_a_model(path: Path, why: str) -> InputError:
    """The error for a file that cannot be parsed; ``why`` is given if the file is of no kind that is known."""
    known = wrong_kind(path, "model")
    step = "export the model again, or copy it again"
    if known is not None:
        message = f"the file is not an ONNX model: {known[0]}"
        return InputError(message, where=str(path), next=known[1] or step)
    message = "the file is not an ONNX model, or is truncated"
    return InputError(message, where=str(path), why=why, next=step)


def opset_of(model: "onnx.ModelProto") -> int:
    """Return the opset version of the standard operators; 0 if the model declares none."""
    return next((int(op.version) for op in model.opset_import if op.domain in STANDARD), 0)


def _check_opset(model: "onnx.ModelProto", where: str) -> None:
    import onnx

    opset, newest = opset_of(model), onnx.defs.onnx_opset_version()
    if not MIN_OPSET <= opset <= newest:
        raise InputError(
            f"opset {opset} is not supported (must be {MIN_OPSET} to {newest})",
            where=where,
            next="re-export the model with opset 18",
        )


def _check_ir_version(model: "onnx.ModelProto", where: str) -> None:
    import onnx

    if not _MIN_IR <= model.ir_version <= onnx.IR_VERSION:
        raise InputError(
            f"IR version {model.ir_version} is not supported (must be {_MIN_IR} to {onnx.IR_VERSION})",
            where=where,
            next="re-export the model with opset 18",
        )


def nodes(model: "onnx.ModelProto") -> "Iterator[onnx.NodeProto]":
    """Yield every node: of the graph, of subgraphs, and of the model's functions."""

    def inside(items: "Iterable[onnx.NodeProto]") -> "Iterator[onnx.NodeProto]":
        for node in items:
            yield node
            for attribute in node.attribute:
                for graph in (attribute.g, *attribute.graphs):
                    yield from inside(graph.node)

    yield from inside(model.graph.node)
    for function in model.functions:
        yield from inside(function.node)
