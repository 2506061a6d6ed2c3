"""The first phase: import an ONNX file into a Relax module with static shapes and parameters bound as constants."""

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgepack.errors import InputError, ModelProblem, UnsupportedError
from edgepack.lower.onnx.converters import importer
from edgepack.lower.onnx.naming import node_refs
from edgepack.lower.onnx.nodes import ValueType
from edgepack.lower.onnx.opaque import hide, positions, reveal
from edgepack.lower.onnx.rewrites.passes import rewrite
from edgepack.lower.phase import Lowering, content_of
from edgepack.lower.tracing import record_nodes
from edgepack.onnxfile import canonicalise, load_onnx, opset_of
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.onnxfile.importing import fit_model, keep_model, open_batch
from edgepack.onnxfile.inlining import inline_functions, is_function
from edgepack.onnxfile.known import fold_known
from edgepack.onnxfile.protos import IR_VERSION
from edgepack.onnxfile.quantized import linear_scales
from edgepack.onnxfile.ranges import index_ranges
from edgepack.onnxfile.reading import nodes
from edgepack.spec.encoding import DENSE, EncodedConstant


def run_import(mod: Any, lowering: Lowering) -> Any:
    """Import the lowering's model into Relax; ``mod`` is None.

    Raises:
        InputError: A broken file, an operator that cannot be imported (with its node), or an input shape that
            is not static.
    """
    del mod
    where = str(lowering.model)
    original, made = load_onnx(lowering.model), dict[Any, str]()
    relax, problems, model = import_model(original, where, made)
    if problems:
        raise UnsupportedError(where, problems)
    lowering.facts.encoded = encoded_by_content(model)
    lowering.facts.origins = positions(model)
    lowering.facts.index_ranges = index_ranges(model)
    lowering.facts.scales = linear_scales(model)
    record_nodes(relax, made, node_refs(original, model), lowering.facts)
    return relax


def encoded_by_content(model: Any) -> dict[str, list[EncodedConstant]]:
    """Return a model's encoded constants by the content of their elements, since TVM's importer drops their names."""
    import onnx

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    by_content: dict[str, list[EncodedConstant]] = {}
    for each in encoded_constants(model):
        if each.encoding != DENSE:
            by_content.setdefault(content_of(onnx.numpy_helper.to_array(tensors[each.name])), []).append(each)
    return by_content


def import_model(
    model: Any, where: str, made: dict[Any, str] | None = None
) -> tuple[Any, list[ModelProblem], Any]:
    """Import a model; return the Relax module, the problems, and the ONNX model that was imported.

    Operators that TVM cannot import are replaced by their ONNX function body where there is one. ``made`` gets the name of
    the node whose output a variable of the module is.

    Raises:
        InputError: As ``prepare``.
    """
    model = rewrite(prepare(model, where), value_types)
    problems: list[ModelProblem] = []
    relax = to_relax(model, where, problems.append, made)
    defined = {each.operator for each in problems if is_function(each.operator, opset_of(model))}
    expanded = inline_functions(model, defined, opset_of(model)) if defined else None
    if expanded is None:
        return relax, problems, model
    expanded = rewrite(canonicalise(fold_known(canonicalise(expanded))), value_types)
    remaining: list[ModelProblem] = []
    relax = to_relax(expanded, where, remaining.append, made)
    known = {node.name for node in nodes(model)}
    origin = f"it is part of ONNX's definition of {', '.join(sorted(defined))}"
    left = [each if each.node in known else replace(each, why=f"{each.why}; {origin}") for each in remaining]
    return relax, left, expanded


def to_relax(
    model: Any, where: str, report: Callable[[ModelProblem], None], made: dict[Any, str] | None = None
) -> Any:
    """Import a prepared model; ``report`` is called for each problem, and may raise or return. ``made`` is as above."""
    problems: list[ModelProblem] = []
    hidden = hide(model)
    imported = _to_relax(hidden.model, where, problems.append, made)
    if not problems:
        return reveal(imported, hidden)
    return _to_relax(model, where, report, made)  # as the converters expect it


def _to_relax(
    model: Any, where: str, report: Callable[[ModelProblem], None], made: dict[Any, str] | None
) -> Any:
    shapes = static_shapes(model.graph, where)
    tvm_importer = importer(model, shapes, value_types(model.graph), report)
    # TVM warns about things that load_onnx has checked, and prints the operands of a failing node to stdout.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        imported = tvm_importer.from_onnx(model.graph, opset_of(model))
    if made is not None:
        made |= tvm_importer.made(imported)
    return imported


def prepare(model: Any, where: str) -> Any:
    """Return the model in canonical form, with an open batch axis bound to 1 and every value's type inferred.

    A file written by the pipeline is already in this form; any other is imported first.

    Raises:
        InputError: Another axis of an input has no fixed size, or as :func:`edgepack.export.import_onnx`.
    """
    static_shapes(model.graph, where)
    if model.ir_version == IR_VERSION and canonicalise(model) == model:
        return model
    return fit_model(model, open_batch(model), where, keep_model, imported=True)


def value_types(graph: Any) -> dict[str, ValueType]:
    """Return element type and shape of each value that is a constant or fully inferred."""
    import onnx

    types = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
        if tensor.elem_type and tensor.HasField("shape") and -1 not in shape:
            types[value.name] = (str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape)
    for tensor in graph.initializer:
        types[tensor.name] = (str(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)), tuple(tensor.dims))
    return types


def static_shapes(graph: Any, where: str) -> dict[str, list[int]]:
    """Return the shapes of the graph's inputs, with a symbolic first axis (the batch) bound to 1.

    Raises:
        InputError: Another axis has no fixed size.
    """
    constants = {tensor.name for tensor in graph.initializer}
    shapes = {}
    for value in graph.input:
        if value.name in constants:
            continue
        shape = []
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.HasField("dim_value") and dim.dim_value > 0:
                shape.append(dim.dim_value)
            elif axis == 0 and not dim.HasField("dim_value"):
                shape.append(1)
            else:
                raise InputError(
                    f"axis {axis} of input {value.name!r} has no fixed size ({dim.dim_param or '?'})",
                    where=where,
                    why="kernels are compiled and tuned for fixed shapes; only the first axis may be open (batch 1)",
                    next="set the input's shape in the recipe, or export the model with fixed shapes",
                )
        shapes[value.name] = shape
    return shapes
