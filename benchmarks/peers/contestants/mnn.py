"""MNN's CPU backend; int8 by its offline quantization (``mnnquant``) with the calibration data.

The wheel's command lines ``mnnconvert`` and ``mnnquant`` install a telemetry client with pip when they start and
send usage data to a server (and ``mnnquant`` of 3.6.1 passes its arguments in a way that makes it abort). They
are thin wrappers: the module ``_tools`` does the work, and is called here.
https://mnn-docs.readthedocs.io/en/latest/tools/compress.html
"""

import json
import re
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.kit.processes import ProcessFailed, describe_status, run
from benchmarks.peers.protocol import (
    Assignment,
    Contestant,
    LoadedModel,
    Prepared,
    Unsupported,
    distribution_files,
)

VERSION = "3.6.1"
_AGREES = 0.9  # cosine of the outputs in int8 and fp32; the benchmark's own limit
_CHECKED = 8  # calibration samples
_NEAR = 5e-4  # relative to the largest output: half of the benchmark's limit for fp32
_WRONG = re.compile("error|fail|not support|can't|invalid", re.IGNORECASE)
_WINOGRAD_MEMORY_LEVEL = 3  # MNN's Interpreter::HintMode
_FASTEST = 3  # the default level


class Mnn(Contestant):
    """The wheel with its defaults, through its Module API."""

    title = "MNN"
    requirements = (f"MNN=={VERSION}", "numpy==2.4.6")

    def prepare(self, task: Assignment) -> Prepared:
        """Write ``fp32.mnn``, and ``int8.mnn`` from it."""
        end = time.monotonic() + 60 * task.minutes
        notes: dict[str, Any] = {"MNN": VERSION, "api": "Module"}
        notes["instructions"] = "AVX2: no AVX-512 in the wheel"
        model = task.folder / "fp32.mnn"
        convert = ["mnnconvert", "-f", "ONNX", "--modelFile", str(task.onnx), "--MNNModel", str(model)]
        convert += ["--bizCode", "edgepack"]
        try:
            _tool(convert, model, end)
        except Unsupported:
            if (
                task.precision == "int8"
            ):  # later operators cannot be quantized, according to mnnconvert's help
                raise
            # mnnconvert 3.6.1 crashes (SIGSEGV) when it writes an LSTM as a loop, which is the default.
            _tool([*convert, "--useOriginRNNImpl"], model, end)
            notes["converter"] = "--useOriginRNNImpl"
        if task.precision == "int8":
            model, notes["quantization"] = _quantize(task, model, end)
        else:
            notes["Winograd level"] = _winograd(task, model)
        # The converter and quantizer are half of the wheel, and are not needed for inference.
        runtime = tuple(file for file in distribution_files("MNN") if "tools" not in str(file))
        return Prepared((model,), runtime, notes)

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:
        """Load a module with fixed shapes."""
        return _load(prepared.model[0], task.threads, prepared.notes.get("Winograd level", _FASTEST))


def _load(model: Path, threads: int, level: int) -> "_Module":
    """Load a module; ``level`` from 0 to 3 is the maximum size of Winograd tiles, which trades memory for time."""
    from MNN import nn

    # High precision disables all types below fp32.
    settings = {"backend": "CPU", "precision": "high", "numThread": threads}
    manager = nn.create_runtime_manager((settings,))
    manager.set_hint(_WINOGRAD_MEMORY_LEVEL, level)
    module = nn.load_module_from_file(str(model), [], [], runtime_manager=manager, shape_mutable=False)
    return _Module(module)


class _Module(LoadedModel):
    """A module and its input variables."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._names: list[str] = module.get_info()["inputNames"]

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        from MNN import expr

        variables = []
        for name in self._names:
            value = np.ascontiguousarray(inputs[name])
            if value.dtype == np.int64:
                value = value.astype(np.int32)  # the converter converts all int64 to int32
            kind = expr.int if value.dtype == np.int32 else expr.float
            variable = expr.placeholder(list(value.shape), expr.NCHW, kind)
            variable.write(value)
            variables.append(variable)
        self.infer = partial(self._module.onForward, variables)
        outputs = self.infer()
        return [np.array(expr.convert(output, expr.NCHW).read()) for output in outputs]


def _winograd(task: Assignment, fp32: Path) -> int:
    """Return the fastest level whose outputs stay close to those of the smallest tiles.

    The largest, MNN's default, loses three digits: ResNet-50 had an error of 3e-3 and would not count as fp32.
    """
    sample = task.calibration_samples()[0]
    exact = _load(fp32, 1, 0).run(sample)
    for level in range(_FASTEST, 0, -1):
        outputs = _load(fp32, 1, level).run(sample)
        if all(np.abs(a - b).max() <= _NEAR * np.abs(b).max() for a, b in zip(outputs, exact, strict=True)):
            return level
    return 0


def _quantize(task: Assignment, fp32: Path, end: float) -> tuple[Path, str]:
    """Quantize the model; also return how.

    MNN's guide lists three ways to determine the scales of activations and says to try them: this uses
    the first, starting with the default KL, whose outputs agree with fp32 on the calibration data, or the best.
    """
    samples = _write_calibration(task)
    agreements: dict[str, float] = {}
    failed: list[str] = []
    for method in ("KL", "EMA", "ADMM"):
        config, model = task.folder / f"{method}.json", task.folder / f"{method}.mnn"
        words = {
            "path": f"{samples}/",
            "input_type": "sequence",
            "feature_quantize_method": method,
            "weight_quantize_method": "MAX_ABS",
        }
        config.write_text(json.dumps(words))
        try:
            _tool(["mnnquant", str(fp32), str(model), str(config)], model, end)
        except Unsupported as error:
            failed.append(f"{method}: {error}")
            continue
        agreements[method] = _cosine(task, fp32, model)
        if agreements[method] >= _AGREES:
            break
        failed.append(f"{method}: cosine {agreements[method]:.3f} on the calibration data")
    if not agreements:
        raise Unsupported("; ".join(failed))
    best = max(agreements, key=agreements.__getitem__)
    before = f" (before it, {'; '.join(failed)})" if failed else ""
    how = f"mnnquant, {best} activations, MAX_ABS per-channel weights{before}"
    return task.folder / f"{best}.mnn", how


def _cosine(task: Assignment, fp32: Path, int8: Path) -> float:
    """Return the minimum cosine of the angle between the outputs of the two models; 0 if their shapes differ."""
    one, other = _load(fp32, 1, _FASTEST), _load(int8, 1, _FASTEST)
    least = 1.0
    for sample in task.calibration_samples()[:_CHECKED]:
        for a, b in zip(one.run(sample), other.run(sample), strict=True):
            if a.shape != b.shape:
                return 0.0
            length = float(np.linalg.norm(a) * np.linalg.norm(b))
            least = min(least, float(a.ravel() @ b.ravel()) / length if length else 0.0)
    return least


def _write_calibration(task: Assignment) -> Path:
    """Write the calibration data as mnnquant reads it: a folder per sample, with a text file per input."""
    home = task.folder / "calibration"
    for index, sample in enumerate(task.calibration_samples()):
        folder = home / f"{index:04}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in sample.items():
            np.savetxt(folder / f"{name}.txt", value.reshape(1, -1), fmt="%.9g")
        shapes = [{"name": name, "shape": list(value.shape)} for name, value in sample.items()]
        (folder / "input.json").write_text(json.dumps({"inputs": shapes}))
    return home


def _tool(words: Sequence[str], out: Path, end: float) -> None:
    """Run ``words``, a name in ``_tools`` and its arguments, in a process that captures its prints and crashes.

    ``end`` is its deadline on the monotonic clock.

    Raises:
        Unsupported: It did not write ``out``.
    """
    out.unlink(missing_ok=True)
    program = "import sys, _tools; getattr(_tools, sys.argv[1])(sys.argv[1:])"
    left = max(1.0, end - time.monotonic())
    try:
        said, how = run([sys.executable, "-c", program, *words], timeout_s=left), describe_status(0)
    except ProcessFailed as error:
        if error.timed_out:
            how = f"was stopped after {left:.0f} s, when the time to prepare was over"
            raise Unsupported(f"{words[0]} {how}") from None
        said, how = error.said, error.how
        out.unlink(missing_ok=True)
    if not out.is_file():
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        wrong = [line for line in lines if _WRONG.search(line)]
        last = (wrong or lines or ["it said nothing"])[-1]
        raise Unsupported(f"{words[0]} {how} and wrote no model; its last words: {last[:200]}")
