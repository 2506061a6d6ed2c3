"""Run forms: the reference, and many of them compiled as one model."""

import contextlib
import io
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from forms import Form
from onnx import helper
from onnx.reference import ReferenceEvaluator

from edgepack.config.target import load_target
from edgepack.errors import EdgepackError, InputError, ModelProblem, UnsupportedError
from edgepack.lower import compile_model
from edgepack.lower.host import open_on_host
from edgepack.lower.onnx.frontend import import_model
from edgepack.onnxfile import canonicalise, load_onnx
from edgepack.onnxfile.importing import fit_model
from edgepack.onnxfile.sessions import open_session, run_session
from edgepack.onnxfile.unrolling import rename

TARGET = "x86-64-v3"
TOLERANCE = {"float16": 2e-3, "float32": 1e-5, "float64": 1e-6}  # relative to the largest value
MERGED = 40  # forms per build


def reference(form: Form, path) -> list[np.ndarray] | None:
    """Save the form's model, its outputs typed, and return its results; None if no runtime computes it.

    Those of onnxruntime, or of ONNX's reference implementation for valid forms that onnxruntime lacks. Results without
    elements do not count: the import refuses such outputs.
    """
    model = form.model()
    onnx.save(model, path)
    feeds = form.feeds()
    try:
        results = run_session(open_session(path), feeds, path)
    except InputError:
        try:
            with np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
                onnx.checker.check_model(model, full_check=True)
                results = [np.asarray(each) for each in ReferenceEvaluator(model).run(None, feeds)]
        except Exception:  # noqa: BLE001 - it raises errors of all kinds for what it lacks
            return None
    if not all(result.size for result in results):
        return None
    for output, result in zip(model.graph.output, results, strict=True):
        if not output.type.tensor_type.HasField("shape"):
            kind = helper.np_dtype_to_tensor_dtype(result.dtype)
            output.CopyFrom(helper.make_tensor_value_info(output.name, kind, result.shape))
    onnx.save(model, path)
    return results


def imported(path) -> tuple[onnx.ModelProto | None, Sequence[ModelProblem]]:
    """Import a file up to Relax; return the model in canonical form, or its problems."""
    try:
        model = fit_model(load_onnx(path), (), str(path))
        _, problems, _ = import_model(model, str(path))
    except UnsupportedError as error:
        return None, error.model_problems
    except InputError as error:
        return None, [ModelProblem("", "", error.message, str(error.why), str(error.next))]
    return (None, problems) if problems else (model, ())


def run(models: Mapping[str, onnx.ModelProto], feeds: Mapping[str, Mapping[str, np.ndarray]], folder):
    """Compile models, by name and all of one opset, together; return the outputs of each, or the error of its own."""
    try:
        return _run_merged(models, feeds, folder)
    except EdgepackError as error:
        if len(models) == 1:
            return {next(iter(models)): f"{error.message}: {error.why}"}
    names = list(models)
    halves = (names[: len(names) // 2], names[len(names) // 2 :])
    parts = [run({n: models[n] for n in half}, {n: feeds[n] for n in half}, folder) for half in halves]
    return parts[0] | parts[1]


def _run_merged(models, feeds, folder):

    merged = _merge(models)
    path = folder / "merged.onnx"
    onnx.save(merged, path)
    # A name of its own: the loader opens a file of the same name only once.
    compiled = compile_model(
        path,
        load_target(TARGET),
        folder / f"{next(iter(models))}_{len(models)}_{merged.opset_import[0].version}.so",
    )
    machine = open_on_host(compiled.path)
    given = {f"{name}_{key}": value for name, each in feeds.items() for key, value in each.items()}
    results = machine(*[given[value.name] for value in compiled.inputs])
    outputs: dict[str, list[np.ndarray]] = {name: [] for name in models}
    for value, result in zip(merged.graph.output, results, strict=True):
        outputs[value.name.partition("_")[0]].append(result)
    return outputs


def _merge(models: Mapping[str, onnx.ModelProto]) -> onnx.ModelProto:
    merged = onnx.GraphProto(name="merged")
    for prefix, model in models.items():
        graph = onnx.GraphProto()
        graph.CopyFrom(model.graph)
        values = (*graph.input, *graph.output, *graph.initializer)
        made = {name for node in graph.node for name in node.output}
        names = {name: f"{prefix}_{name}" for name in made | {value.name for value in values} if name}
        for value in values:
            value.name = names[value.name]
        for node in graph.node:
            node.name = f"{prefix}_{node.name}"
            rename(node, names)
        for part in ("node", "input", "output", "initializer"):
            getattr(merged, part).extend(getattr(graph, part))
    imports = next(iter(models.values())).opset_import
    return canonicalise(helper.make_model(merged, opset_imports=imports, ir_version=10))


def differences(outputs: list[np.ndarray] | str, expected: list[np.ndarray]) -> list[str]:
    """Describe how a form's outputs differ from the reference, or why it does not compile; empty if all is well."""
    if isinstance(outputs, str):
        return [outputs]
    pairs = zip(outputs, expected, strict=True)
    return [why for got, want in pairs if (why := difference(got, want))]


def difference(got: np.ndarray, want: np.ndarray) -> str | None:
    """Describe how an output differs from the reference; None if it does not."""
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        return f"{got.dtype}{list(got.shape)} instead of {want.dtype}{list(want.shape)}"
    if got.dtype.kind != "f":
        wrong = got != want
    else:
        tolerance = TOLERANCE[str(want.dtype)]
        largest = float(np.abs(np.where(np.isfinite(want), want, 0)).max(initial=0))
        wrong = ~np.isclose(got, want, rtol=tolerance, atol=tolerance * largest + 1e-12, equal_nan=True)
    if not wrong.any():
        return None
    return f"{wrong.sum()} of {wrong.size}: {got[wrong][:4]} instead of {want[wrong][:4]}"
