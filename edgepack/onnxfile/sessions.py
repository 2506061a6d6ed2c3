"""Run an .onnx file in onnxruntime, exactly on every kind of CPU."""

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import InputError
from edgepack.onnxfile.external import read_external_data, real_path
from edgepack.onnxfile.integers import exact_integers
from edgepack.onnxfile.layouts import time_first
from edgepack.onnxfile.opset import to_opset
from edgepack.onnxfile.reading import MAX_OPSET, opset_of

if TYPE_CHECKING:
    import numpy as np

THREADS = 1


def open_session(path: Path, *, threads: int = THREADS, also: Sequence[str] = ()) -> Any:
    """Open a quiet onnxruntime CPU session that computes exactly what the file specifies, with ``threads`` threads.

    Graph optimisations are off: they fuse Q/DQ graphs into integer kernels that saturate on some CPUs. Explicit integer
    products in a file are rewritten to be exact (:mod:`edgepack.onnxfile.integers`), and recurrent layers to have the time first. ``also`` names intermediate values
    that are added to the outputs. A file of an opset that onnxruntime does not have yet is run in ``MAX_OPSET``.

    Raises:
        InputError: if onnxruntime cannot load the model.
    """
    import onnxruntime as ort

    if not path.is_file():
        raise InputError("there is no such model file", where=str(path))
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 4  # errors are raised, and shown once
    try:
        return _open(_rewrite(path, also), path, options)
    except InputError:
        raise
    except Exception as error:  # onnxruntime's exceptions share no public base class
        with contextlib.suppress(Exception):
            older = _rewrite(path, also, older=True)
            if older is not None:
                return _open(older, path, options)
        raise InputError(
            "onnxruntime cannot load the model",
            where=str(path),
            why=str(error).strip(),
            next="re-export the model, or correct it as onnxruntime says: every release is compared with it",
        ) from error


def _open(rewritten: bytes | None, path: Path, options: Any) -> Any:
    import onnxruntime as ort

    model = rewritten if rewritten is not None else str(real_path(path))
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _rewrite(path: Path, also: Sequence[str], *, older: bool = False) -> bytes | None:
    """Return the model to run instead of the file; None if that is the file itself.

    ``older`` asks for a model of a very new opset in ``MAX_OPSET``; None if the file's is not newer than that.
    """
    import onnx
    from google.protobuf.message import DecodeError

    try:
        model = onnx.load_model(path, load_external_data=False)
    except (DecodeError, OSError):
        return None  # onnxruntime reports the error in the file
    if older:
        if opset_of(model) <= MAX_OPSET:
            return None
        model = to_opset(model, str(path))
    changed = exact_integers(model, path)
    changed |= time_first(model)
    if not (changed or also or older):
        return None
    for name in also:
        model.graph.output.add().name = name
    read_external_data(model, path)
    serialized: bytes = model.SerializeToString()
    return serialized


def run_session(session: Any, inputs: "Mapping[str, np.ndarray]", path: Path) -> "list[np.ndarray]":
    """Return a session's outputs for one batch of ``inputs`` by name; ``path`` is used in errors.

    Raises:
        InputError: if names, shapes or dtypes do not match the model.
    """
    import numpy as np

    try:
        # NumPy's arithmetic turns arrays without axes into scalars.
        return list(session.run(None, {name: np.asarray(value) for name, value in inputs.items()}))
    except Exception as error:  # onnxruntime's exceptions share no public base class
        given = ", ".join(f"{name}: {value.dtype}{list(value.shape)}" for name, value in inputs.items())
        wanted = ", ".join(f"{i.name}: {i.type}{i.shape}" for i in session.get_inputs())
        raise InputError(
            f"the model does not run on {given}",
            where=str(path),
            why=str(error).strip(),
            next=f"the model's inputs are {wanted}",
        ) from error
