"""MNN's CPU backend; int8 by its offline quantization (``mnnquant``) with the calibration data.

The wheel's command lines ``mnnconvert`` and ``mnnquant`` install a telemetry client with pip when they start and
send what they did to a server (and ``mnnquant`` of 3.6.1 passes its arguments in a way that ends in an abort). They
are thin: the module ``_tools`` below them does the work, and is called here.
https://mnn-docs.readthedocs.io/en/latest/tools/compress.html
"""

import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.protocol import (
    Precision,
    Prepared,
    Session,
    Task,
    Unsupported,
    distribution_files,
    timed,
)

VERSION = "3.6.1"


class Mnn:
    """The wheel as it comes, through its Module API."""

    title = "MNN"
    requirements: tuple[str, ...] = (f"MNN=={VERSION}", "numpy==2.4.6")
    precisions: tuple[Precision, ...] = ("fp32", "int8")
    threads_share = True

    def prepare(self, task: Task) -> Prepared:
        """Write ``model.mnn``."""
        notes: dict[str, Any] = {
            "MNN": VERSION,
            "api": "Module",
            "instructions": "AVX2: no AVX-512 in the wheel",
        }
        model = task.folder / "fp32.mnn"
        convert = ["mnnconvert", "-f", "ONNX", "--modelFile", str(task.onnx), "--MNNModel", str(model)]
        _tool([*convert, "--bizCode", "edgepack"], model, task.minutes)
        if task.precision == "int8":
            fp32, model = model, task.folder / "int8.mnn"
            config = _calibration(task)
            _tool(["mnnquant", str(fp32), str(model), str(config)], model, task.minutes)
            notes["quantization"] = "mnnquant, EMA activations, MAX_ABS per-channel weights"
        # The converter and quantizer are half of the wheel, and inference does not read them.
        runtime = tuple(file for file in distribution_files("MNN") if "tools" not in str(file))
        return Prepared((model,), runtime, notes)

    def load(self, task: Task, prepared: Prepared) -> Session:
        """A module with fixed shapes; ``precision: high`` forbids every type below fp32."""
        from MNN import nn

        settings = {"backend": "CPU", "precision": "high", "numThread": task.threads}
        manager = nn.create_runtime_manager((settings,))
        path = str(prepared.model[0])
        module = nn.load_module_from_file(path, [], [], runtime_manager=manager, shape_mutable=False)
        if module is None:
            raise Unsupported("MNN cannot load the model that its converter wrote")
        return _Loaded(module)


class _Loaded:
    """A module and its input variables."""

    def __init__(self, module: Any) -> None:
        self._module = module
        self._names: list[str] = module.get_info()["inputNames"]
        self._inputs: list[Any] = []

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        from MNN import expr

        self._inputs = []
        for name in self._names:
            value = np.ascontiguousarray(inputs[name])
            if value.dtype == np.int64:
                value = value.astype(np.int32)  # the converter makes int32 of all int64
            kind = expr.int if value.dtype == np.int32 else expr.float
            variable = expr.placeholder(list(value.shape), expr.NCHW, kind)
            variable.write(value)
            self._inputs.append(variable)
        outputs = self._module.onForward(self._inputs)
        return [np.array(expr.convert(output, expr.NCHW).read()) for output in outputs]

    def time(self, runs: int) -> list[int]:
        return timed(partial(self._module.onForward, self._inputs), runs)


def _calibration(task: Task) -> Path:
    """The calibration data as mnnquant reads it: a folder a sample, a text file an input; and its configuration."""
    home = task.folder / "calibration"
    for index, sample in enumerate(task.calibration_samples()):
        folder = home / f"{index:04}"
        folder.mkdir(parents=True, exist_ok=True)
        for name, value in sample.items():
            np.savetxt(folder / f"{name}.txt", value.reshape(1, -1), fmt="%.9g")
        shapes = [{"name": name, "shape": list(value.shape)} for name, value in sample.items()]
        (folder / "input.json").write_text(json.dumps({"inputs": shapes}))
    config = task.folder / "quant.json"
    # EMA, which MNN's guide expects to be the most precise: with KL, the default, mnnquant 3.6.1 dies of SIGSEGV.
    words = {
        "path": f"{home}/",
        "input_type": "sequence",
        "feature_quantize_method": "EMA",
        "weight_quantize_method": "MAX_ABS",
    }
    config.write_text(json.dumps(words))
    return config


def _tool(words: Sequence[str], made: Path, minutes: float) -> None:
    """Run ``words``, a name of ``_tools`` and its arguments, in a process that keeps its prints and its crashes.

    Raises:
        Unsupported: It did not write ``made``.
    """
    made.unlink(missing_ok=True)
    program = "import sys, _tools; getattr(_tools, sys.argv[1])(sys.argv[1:])"
    command = [sys.executable, "-c", program, *words]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=60 * minutes, check=False
        )
    except subprocess.TimeoutExpired:
        raise Unsupported(f"{words[0]} did not end within {minutes:g} minutes") from None
    if done.returncode or not made.is_file():
        said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        wrong = [
            line for line in said if re.search("error|fail|not support|can't|invalid", line, re.IGNORECASE)
        ]
        last = (wrong or said or ["it said nothing"])[-1]
        raise Unsupported(f"{words[0]} ended with status {done.returncode} and wrote no model: {last[:300]}")
