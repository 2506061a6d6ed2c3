"""``check --deep``: report everything in a model that cannot be lowered, by lowering it up to its kernels.

No kernel is scheduled, compiled or linked. The phases are those of a build, so a model that passes here also passes
them in a build.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

from edgepack.base.temporary import temporary_folder
from edgepack.config.target import load_target
from edgepack.errors import EdgepackError, ImportDiffersError, InputError, ModelProblem, UnsupportedError
from edgepack.export.importing import import_checked
from edgepack.lower import phases
from edgepack.lower.conditions import kernels
from edgepack.lower.locating import locate
from edgepack.lower.onnx.frontend import encoded_by_content, import_model
from edgepack.lower.onnx.unavoidable import unavoidable
from edgepack.lower.phase import Lowering
from edgepack.onnxfile import load_onnx
from edgepack.onnxfile.binding import bound
from edgepack.onnxfile.importing import fit_model, open_batch
from edgepack.onnxfile.reading import peek
from edgepack.schedules import tvm_target
from edgepack.spec import Input

TARGET = "arm64"  # up to the kernels, the phases are the same for every CPU


@dataclass(frozen=True)
class Examined:
    """A model as the compiler sees it, with its problems; ``kernels`` is 0 if there are any.

    ``notes`` say what was done to its weights to load them.
    """

    model_problems: tuple[ModelProblem, ...]
    operators: dict[str, int]
    parameters: int
    kernels: int
    notes: tuple[str, ...] = ()


def examine(path: Path, inputs: Sequence[Input] = ()) -> Examined:
    """Lower a model to its kernels and report all problems at once.

    Args:
        path: The .onnx file.
        inputs: Shapes for inputs with open axes; if only the first axis (the batch) is open, it becomes 1. Inputs with
            a value become constants.

    Raises:
        InputError: The file is missing or is not an ONNX model.
    """
    with bound(path, inputs) as (file, left):
        return _examine(file, left)


def _examine(path: Path, inputs: Sequence[Input]) -> Examined:
    from onnx import TensorProto

    try:
        model, unrun = _import_checked(path, inputs)
        module, problems, lowered = import_model(model, str(path))
        problems = problems or unrun
    except InputError as error:
        return Examined(tuple(_explain_refusal(path, inputs, error)), {}, 0, 0)
    operators = dict(Counter(node.op_type for node in model.graph.node).most_common())
    constants = model.graph.initializer
    parameters = sum(
        prod(tensor.dims) for tensor in constants if tensor.data_type != TensorProto.INT64
    )  # no shapes
    if problems:
        return Examined(tuple(problems), operators, parameters, 0)
    target = load_target(TARGET)
    lowering = Lowering(path, target, tvm_target(target))
    lowering.facts.encoded = encoded_by_content(lowered)
    try:
        count = sum(1 for _ in kernels(_to_kernels(module, lowering)))
    except EdgepackError as error:
        located = tuple(locate(lowered, str(path), lambda module: _to_kernels(module, lowering)))
        return Examined(located or (_as_problem(error),), operators, parameters, 0)
    return Examined((), operators, parameters, count)


def _import_checked(path: Path, inputs: Sequence[Input]) -> tuple[Any, list[ModelProblem]]:
    """Import the model as a build does; also return the problem if it differs from the file."""
    original = load_onnx(path)
    inputs = inputs or open_batch(original)
    with temporary_folder(prefix="edgepack-check-") as folder:
        canonical = Path(folder) / "model.onnx"
        try:
            import_checked(path, inputs, canonical)
        except (ImportDiffersError, UnsupportedError):
            raise
        except InputError as error:
            return fit_model(original, inputs, str(path)), [_as_problem(error)]
        return load_onnx(canonical), []


def _to_kernels(mod: Any, lowering: Lowering) -> Any:
    items = phases.phases_for(lowering.target)
    return phases.run(items, lowering, mod, after=phases.IMPORT, until=phases.KERNELS)


def _explain_refusal(path: Path, inputs: Sequence[Input], error: InputError) -> list[ModelProblem]:
    """Explain why the import failed: all inputs with open axes and all problems of the error, else the error itself.

    Operators that no choice of sizes makes possible come before the open axes.
    """
    model = peek(path)
    if model is None:
        raise error from None
    problems = []
    fixed = {value.name for value in inputs} | {tensor.name for tensor in model.graph.initializer}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        open_axes = [str(i) for i, dim in enumerate(dims) if i and not dim.dim_value]
        if open_axes and value.name not in fixed:
            message = f"input {value.name!r} has no fixed size along axis {', '.join(open_axes)}"
            step = f"set it in the recipe: model.inputs: [{{name: {value.name}, shape: [...]}}]"
            problems.append(ModelProblem("", "", message, "kernels are compiled for fixed shapes", step))
    if isinstance(error, UnsupportedError):
        return [*problems, *error.model_problems]
    return [*unavoidable(model), *problems] if problems else [_as_problem(error)]


def _as_problem(error: EdgepackError, operator: str = "", node: str = "") -> ModelProblem:
    return ModelProblem(operator, node, error.message, error.why or "", error.next or "")
