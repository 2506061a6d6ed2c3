"""The reference: onnxruntime on an .onnx file, exact on every kind of CPU.

Samples, accuracy and parity are all based on this module.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.data.splits import Arrays, arrays_of
from edgepack.errors import EdgepackError, InputError
from edgepack.onnxfile.sessions import THREADS, open_session, run_session
from edgepack.scoring import Evaluation, Scorer, merge_batches
from edgepack.torchnet.layers import inference

if TYPE_CHECKING:
    import numpy as np
    import torch


def run_onnx(path: Path, inputs: "Mapping[str, np.ndarray]", *, threads: int = THREADS) -> "list[np.ndarray]":
    """Return the model's outputs, in order, for one batch of ``inputs`` by name.

    Raises:
        InputError: if names, shapes or dtypes do not match the model.
    """
    return run_session(open_session(path, threads=threads), inputs, path)


def predict(
    path: Path, x: Arrays, *, shape: Sequence[int] | None = None, threads: int = THREADS
) -> "np.ndarray":
    """Return the first output for every sample of ``x``: ``[N, ...]``; arguments and errors as :func:`predict_all`."""
    return predict_all(path, x, shapes=None if shape is None else [shape], threads=threads)[0]


def predict_all(
    path: Path, x: Arrays, *, shapes: Sequence[Sequence[int]] | None = None, threads: int = THREADS
) -> "tuple[np.ndarray, ...]":
    """Return all outputs for every sample of ``x``, each ``[N, ...]``.

    ``x`` is an array ``[N, ...]`` for the one input, where ``...`` is its shape without the batch, or a dict of such arrays
    by input name; ``shapes`` are the inputs' shapes with the batch, in order, if the file leaves them open. Samples are run
    in batches of the model's size (normally 1); the last batch is padded. An output without a batch axis is ``[N / batch,
    ...]``.

    Raises:
        InputError: if an input has no samples, or the samples have another shape or dtype.
    """
    import numpy as np

    session = open_session(path, threads=threads)
    specs = session.get_inputs()
    given = x if isinstance(x, Mapping) else {specs[0].name: x}
    if {spec.name for spec in specs} != set(given):
        names = ", ".join(spec.name for spec in specs)
        raise InputError(
            f"the model has the inputs {names}, and there are samples for {', '.join(given)}",
            where=str(path),
            next="give samples for each input: a dict of arrays by input name",
        )
    batch, arrays = 1, {}
    for spec, shape in zip(specs, shapes or [spec.shape for spec in specs], strict=True):
        samples, dtype = given[spec.name], _numpy_dtype(spec.type)
        if list(samples.shape[1:]) != list(shape[1:]) or not np.can_cast(samples.dtype, dtype, "same_kind"):
            raise InputError(
                f"samples are {samples.dtype}{list(samples.shape[1:])}, but input {spec.name!r} takes {dtype}{list(shape[1:])}",
                where=str(path),
                next="make the samples and model.inputs agree",
            )
        batch, arrays[spec.name] = shape[0], (samples, dtype)
    count = len(next(iter(given.values())))
    if count == 0:
        raise InputError("there are no samples", where=str(path))
    runs: list[list[np.ndarray]] = []
    for start in range(0, count, batch):
        short = max(0, start + batch - count)
        feed = {name: _padded(x[start : start + batch], dtype, short) for name, (x, dtype) in arrays.items()}
        runs.append(run_session(session, feed, path))
    return _joined(runs, batch, count)


def _joined(runs: "Sequence[Sequence[np.ndarray]]", batch: int, count: int) -> "tuple[np.ndarray, ...]":
    """The outputs of batches, the last of which may be padded, for ``count`` samples."""
    import numpy as np

    rows = [
        [each[: count - start] if each.ndim and len(each) == batch else each[None] for each in run]
        for start, run in zip(range(0, count, batch), runs, strict=True)
    ]
    return tuple(np.concatenate(each) for each in zip(*rows, strict=True))


def _padded(part: "np.ndarray", dtype: "np.dtype[Any]", short: int) -> "np.ndarray":
    """A batch in the input's dtype, with its last sample repeated ``short`` times."""
    import numpy as np

    array = np.ascontiguousarray(part, dtype=dtype)
    return np.concatenate([array, np.repeat(array[-1:], short, axis=0)]) if short else array


def predict_evaluated(
    path: Path, evaluation: Evaluation, *, shapes: Sequence[Sequence[int]] | None = None
) -> "tuple[np.ndarray, ...]":
    """Return all outputs of the model for what it is scored on; ``shapes`` as in :func:`predict_all`."""
    if not evaluation.whole:
        return predict_all(path, evaluation.inputs, shapes=shapes)
    session = open_session(path)
    given = dict(evaluation.inputs)
    count = len(next(iter(given.values())))
    runs = [run_session(session, {name: x[row] for name, x in given.items()}, path) for row in range(count)]
    return evaluated_outputs_of(evaluation, runs)


def evaluated_outputs_of(
    evaluation: Evaluation, runs: "Sequence[Sequence[np.ndarray]]"
) -> "tuple[np.ndarray, ...]":
    """What :func:`predict_evaluated` returns, from the model's outputs for each batch of what it is scored on.

    The batches are full: without a rest.
    """
    import numpy as np

    arrays = arrays_of(evaluation.inputs)
    if not evaluation.whole:
        count = len(arrays[0])
        return _joined(runs, count // len(runs), count)
    first = arrays[0].shape[1:]
    stacked = [np.stack(each) for each in zip(*runs, strict=True)]
    return tuple(merge_batches(each, first[0] if first else None) for each in stacked)


def evaluate(
    path: Path,
    x: Arrays,
    y: Arrays,
    *,
    shape: Sequence[int] | None = None,
    scorer: Scorer = Scorer(),  # noqa: B008 - frozen
    threads: int = THREADS,
) -> float:
    """The metric of a model's outputs: ``x`` is ``[N, ...]``, ``y`` the targets ``[N, ...]``; ``shape`` as in ``predict``."""
    found = predict_all(path, x, shapes=None if shape is None else [shape], threads=threads)
    return scorer.value(found, y)


def _numpy_dtype(kind: str) -> "np.dtype[Any]":
    import numpy as np

    names = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}
    return np.dtype(names.get(kind, kind.removeprefix("tensor(").removesuffix(")")))


def default_saturates() -> bool:
    """Whether onnxruntime with default options saturates u8 by s8 products on this machine's CPU."""
    import numpy as np
    import onnxruntime as ort
    from onnx import TensorProto, helper, numpy_helper

    # Enough rows and columns to select the kernel used for real layers; every pair of products exceeds int16.
    a, b = np.full((16, 64), 255, np.uint8), np.full((64, 32), 127, np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["a", "b"], ["y"])],
        "products",
        [helper.make_tensor_value_info("a", TensorProto.UINT8, a.shape)],
        [helper.make_tensor_value_info("y", TensorProto.INT32, None)],
        [numpy_helper.from_array(b, "b")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (computed,) = session.run(None, {"a": a})
    return not np.array_equal(computed, a.astype(np.int32) @ b.astype(np.int32))


def relative_error(a: "np.ndarray", b: "np.ndarray") -> float:
    """``max |a - b| / max |b|``: the largest difference, relative to the largest value of the reference ``b``.

    NaN and infinities must be at the same places, and are not compared otherwise. Infinite if they are not, or if the
    shapes differ.
    """
    import numpy as np

    if a.shape != b.shape:
        return float("inf")
    wide_a, wide_b = a.astype(np.float64), b.astype(np.float64)
    finite = np.isfinite(wide_b)
    if (
        not np.array_equal(wide_a[~finite], wide_b[~finite], equal_nan=True)
        or not np.isfinite(wide_a[finite]).all()
    ):
        return float("inf")
    scale = float(np.abs(wide_b[finite]).max(initial=0.0))
    difference = float(np.abs(wide_a[finite] - wide_b[finite]).max(initial=0.0))
    return difference / scale if scale > 0 else (0.0 if difference == 0 else float("inf"))


def parity(
    module: "torch.nn.Module", path: Path, inputs: "Sequence[np.ndarray]", *, limit: float | None = 1e-4
) -> float:
    """Return the largest relative error of onnxruntime's outputs from torch's, over all outputs.

    ``inputs`` are one batch, in the model's order. If ``limit`` is None, the error is only measured.

    Raises:
        EdgepackError: the error exceeds ``limit``; names the worst output.
    """
    import torch
    from torch.utils import _pytree

    session = open_session(path)
    with inference(module):
        reference = _pytree.tree_leaves(module(*(torch.from_numpy(array) for array in inputs)))
    names = [spec.name for spec in session.get_inputs()]
    outputs = run_session(session, dict(zip(names, inputs, strict=True)), path)
    errors = {
        spec.name: relative_error(got, want.numpy())
        for spec, got, want in zip(session.get_outputs(), outputs, reference, strict=True)
    }
    worst = max(errors, key=lambda name: errors[name])
    if limit is not None and not errors[worst] <= limit:
        raise EdgepackError(
            f"output {worst!r} of the exported model differs from torch's by {errors[worst]:.2e} (limit {limit:.0e})",
            where=str(path),
            why="torch and onnxruntime give different results for the same input",
            next="check forward() for dropout, random numbers and control flow",
        )
    return errors[worst]
