"""The first phase: an ONNX file becomes a Relax module with static shapes, parameters bound as constants."""

import contextlib
import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from edgepack.errors import InputError, ModelProblem, UnsupportedError
from edgepack.lower.onnx.converters import importer
from edgepack.lower.onnx.support import ValueType
from edgepack.lower.phase import Lowering, content_of
from edgepack.onnxfile import canonicalise, load_onnx, opset_of
from edgepack.onnxfile.canonical import IR_VERSION
from edgepack.onnxfile.encodings import encoded_constants
from edgepack.onnxfile.importing import fitted, folded, open_batch
from edgepack.onnxfile.inlining import inlined, is_function
from edgepack.onnxfile.reading import nodes
from edgepack.spec.encoding import DENSE, EncodedConstant


def import_model(mod: Any, lowering: Lowering) -> Any:
    """The phase: Relax of the lowering's model; ``mod`` is None.

    Raises:
        InputError: A broken file, an operator that cannot be imported (with its node), or an input shape that
            is not static.
    """
    del mod
    where = str(lowering.model)
    relax, problems, model = imported(load_onnx(lowering.model), where)
    if problems:
        raise UnsupportedError(where, problems)
    lowering.facts.encoded = encoded_by_content(model)
    return relax


def encoded_by_content(model: Any) -> dict[str, list[EncodedConstant]]:
    """The encoded constants of a model, by the content of their elements: TVM's importer drops the names."""
    import onnx

    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found: dict[str, list[EncodedConstant]] = {}
    for each in encoded_constants(model):
        if each.encoding != DENSE:
            found.setdefault(content_of(onnx.numpy_helper.to_array(tensors[each.name])), []).append(each)
    return found


def imported(model: Any, where: str) -> tuple[Any, list[ModelProblem], Any]:
    """The Relax module of a model, all that stands in its way, and the model as it was imported.

    Operators that TVM cannot import and that ONNX defines by simpler ones are replaced by their definition.

    Raises:
        InputError: As ``prepared``.
    """
    model = prepared(model, where)
    problems: list[ModelProblem] = []
    made = to_relax(model, where, problems.append)
    defined = {each.operator for each in problems if is_function(each.operator, opset_of(model))}
    plain = inlined(model, defined, opset_of(model)) if defined else None
    if plain is None:
        return made, problems, model
    plain = canonicalise(folded(canonicalise(plain), where))
    inside: list[ModelProblem] = []
    made = to_relax(plain, where, inside.append)
    known = {node.name for node in nodes(model)}
    origin = f"it comes from ONNX's definition of {', '.join(sorted(defined))}"
    left = [each if each.node in known else replace(each, why=f"{each.why}; {origin}") for each in inside]
    return made, left, plain


def to_relax(model: Any, where: str, report: Callable[[ModelProblem], None]) -> Any:
    """Import a prepared model; ``report`` is told what stands in the way, and may raise or return."""
    shapes = static_shapes(model.graph, where)
    made = importer(model, shapes, value_types(model.graph), report)
    # TVM warns about what load_onnx has checked, and prints the operands of a failing node to stdout.
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return made.from_onnx(model.graph, opset_of(model))


def prepared(model: Any, where: str) -> Any:
    """The model in canonical form, an open batch axis bound to 1, every value's type inferred.

    A file that the pipeline made is in this form; any other goes through what an import does to it.

    Raises:
        InputError: Another axis of an input has no fixed size, or as :func:`edgepack.export.import_onnx`.
    """
    static_shapes(model.graph, where)
    if model.ir_version == IR_VERSION and canonicalise(model) == model:
        return model
    return fitted(model, open_batch(model), where)


def value_types(graph: Any) -> dict[str, ValueType]:
    """Element type and shape of each value that is a constant, or for which ONNX's inference found both."""
    import onnx

    found = {}
    for value in (*graph.input, *graph.value_info, *graph.output):
        tensor = value.type.tensor_type
        shape = tuple(dim.dim_value if dim.HasField("dim_value") else -1 for dim in tensor.shape.dim)
        if tensor.elem_type and tensor.HasField("shape") and -1 not in shape:
            found[value.name] = (str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)), shape)
    for tensor in graph.initializer:
        found[tensor.name] = (str(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)), tuple(tensor.dims))
    return found


def static_shapes(graph: Any, where: str) -> dict[str, list[int]]:
    """Shapes of the graph's inputs, a symbolic first axis (the batch) bound to 1.

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
                    next="give the input's shape in the recipe, or export the model with fixed shapes",
                )
        shapes[value.name] = shape
    return shapes
