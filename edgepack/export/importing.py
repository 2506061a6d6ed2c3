"""Import an .onnx file and verify that it still computes the same.

The opset converter and constant folding come from other libraries, and some of their rules change a model's values.
Therefore the imported file and the original are run on random inputs. If they differ, the import is repeated with less
simplification; if they still differ, the error names the first tensor that does.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import EdgepackError, ImportDiffersError, InputError
from edgepack.export.reference import open_session, run_session
from edgepack.export.sampling import made_up
from edgepack.onnxfile.importing import SIMPLIFICATIONS, import_onnx
from edgepack.spec import Input

if TYPE_CHECKING:
    import numpy as np
    import onnx

DRAWS = 3  # random inputs that both files are run on
_TOLERANCE = 1e-4  # relative to a tensor's largest value: above the rounding of fp32 sums in another order
_HALF_TOLERANCE = 2e-2  # the same for models that compute in 16 bits
_NUDGE = 1e-6  # relative change of the inputs, to measure how rounding affects this model's outputs
_AMPLIFIED = 10  # the import may change an output by this factor more than a nudge does


def import_checked(path: Path, inputs: Sequence[Input], out: Path) -> tuple[Input, ...]:
    """Import ``path`` to canonical ``out``, and compare the two on random inputs.

    ``inputs`` may be empty if the model's own shapes are static. Returns the model's inputs.

    Raises:
        InputError: as :func:`edgepack.onnxfile.importing.import_onnx`; if onnxruntime cannot run the file.
        ImportDiffersError: the outputs differ even without simplification; names the first tensor that differs.
    """
    errors: list[EdgepackError] = []
    for simplify in SIMPLIFICATIONS:
        try:
            model_inputs = import_onnx(path, inputs, out, simplify)
            require_same(path, out, model_inputs)
        except EdgepackError as error:
            errors.append(error)
        else:
            return model_inputs
    out.unlink(missing_ok=True)
    differing = [error for error in errors if isinstance(error, ImportDiffersError)]
    raise differing[-1] if differing else errors[0]


def require_same(path: Path, imported: Path, inputs: Sequence[Input]) -> None:
    """Raise an error if the imported model's outputs differ from the original's by more than rounding.

    Raises:
        InputError: if onnxruntime cannot run the file.
        ImportDiffersError: with the first tensor that differs, and its node.
    """
    samples = made_up(path, inputs, DRAWS)
    theirs, ours = open_session(path), open_session(imported)
    tolerance = _tolerance(imported)
    for feed, expected in ((sample.inputs, sample.outputs) for sample in samples):
        try:
            actual = run_session(ours, feed, imported)
        except InputError as error:
            raise ImportDiffersError(
                "the imported model cannot be run", where=str(path), why=error.why, next=error.next
            ) from error
        worst = max(_differences(actual, expected))
        if worst <= tolerance or worst <= _AMPLIFIED * _noise(theirs, feed, expected, path):
            continue
        raise ImportDiffersError(
            f"importing the model changes its outputs, by up to {worst:.1%} of an output's largest value",
            where=str(path),
            why=_first_difference(path, imported, feed, tolerance),
            next="re-export the model with opset 18 or later, or report it with this node",
        )


def _noise(session: Any, feed: "dict[str, np.ndarray]", expected: "list[np.ndarray]", path: Path) -> float:
    """Return how much a change of the inputs by ``_NUDGE`` changes the outputs: quantization amplifies it."""
    import numpy as np

    worst = 0.0
    for seed in range(DRAWS):
        rng = np.random.default_rng(seed)
        nudged = {}
        for name, value in feed.items():
            nudge = 1 + max(_NUDGE, _resolution(value)) * rng.standard_normal(value.shape)
            nudged[name] = (value * nudge).astype(value.dtype) if value.dtype.kind == "f" else value
        worst = max(worst, *_differences(run_session(session, nudged, path), expected))
    return worst


def _resolution(value: "np.ndarray") -> float:
    import numpy as np

    return float(np.finfo(value.dtype).eps) if value.dtype.kind == "f" else 0.0


def _differences(actual: "Sequence[np.ndarray]", expected: "Sequence[np.ndarray]") -> Iterator[float]:
    """Yield the largest difference of each tensor, relative to the largest expected value. NaN equals NaN."""
    import numpy as np

    for a, b in zip(actual, expected, strict=True):
        if a.shape != b.shape or a.dtype != b.dtype:
            yield float("inf")
        elif a.dtype.kind not in "fiub":
            yield 0.0 if np.array_equal(a, b) else float("inf")
        else:
            wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
            usual = np.isfinite(wide_b)
            if not np.array_equal(wide_a[~usual], wide_b[~usual], equal_nan=True):
                yield float("inf")
                continue
            difference = float(np.abs(wide_a - wide_b)[usual].max(initial=0.0))
            yield difference / (float(np.abs(wide_b[usual]).max(initial=0.0)) or 1.0)


def _tolerance(path: Path) -> float:
    import onnx
    from onnx import TensorProto

    graph = onnx.load_model(path, load_external_data=False).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    half = {TensorProto.FLOAT16, TensorProto.BFLOAT16}
    return _HALF_TOLERANCE if any(v.type.tensor_type.elem_type in half for v in values) else _TOLERANCE


def _first_difference(path: Path, imported: Path, feed: "Mapping[str, np.ndarray]", tolerance: float) -> str:
    """Describe the first tensor of the original file, in its order, that differs in the imported one."""
    import onnx

    original = onnx.load_model(path, load_external_data=False).graph
    imported_names = {name for node in onnx.load_model(imported).graph.node for name in node.output}
    outputs = [value.name for value in original.output]
    makers = {name: node for node in original.node for name in node.output if name in imported_names}
    inner = [name for name in makers if name not in outputs]
    names = [*outputs, *inner]
    sessions = ((path, open_session(path, also=inner)), (imported, open_session(imported, also=inner)))
    expected, actual = (
        dict(zip(names, run_session(session, feed, where), strict=True)) for where, session in sessions
    )
    for name in (*makers, *outputs):
        (difference,) = _differences([actual[name]], [expected[name]])
        if difference > tolerance:
            size = (
                f"by {difference:.1%} of its largest value"
                if difference < float("inf")
                else "in its shape or dtype"
            )
            return f"the first tensor that differs is {name!r}, {size}{_origin(makers.get(name))}"
    return "each single tensor differs only by rounding"


def _origin(node: "onnx.NodeProto | None") -> str:
    if node is None:
        return ""
    named = f" {node.name!r}" if node.name else ""
    return f", computed by node{named} ({node.op_type})"
