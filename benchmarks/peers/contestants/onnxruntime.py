"""onnxruntime, CPU execution provider; int8 by its own static quantization.

int8 is the path that onnxruntime's documentation recommends for x86-64 with VNNI: Q/DQ format, u8 activations,
per-channel s8 weights, after shape inference and fusion (``quant_pre_process``). Recurrent
networks cannot be quantized statically, so they are quantized dynamically, as documented there. Without VNNI the
integer kernels for x86 saturate; the session option that avoids it, also documented there, is a separate row.
https://onnxruntime.ai/docs/performance/model-optimizations/quantization.html
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from benchmarks.peers.protocol import (
    Assignment,
    Contestant,
    LoadedModel,
    Prepared,
    Unsupported,
    distribution_files,
    require_saturation,
)

_RECURRENT = {"LSTM", "GRU", "RNN"}
_DYNAMIC = {"LSTM", "MatMul", "Gemm"}  # operators that quantize_dynamic supports


class Onnxruntime(Contestant):
    """The wheel with its defaults, all graph optimizations on."""

    title = "onnxruntime"
    settings: Mapping[str, str] = {}  # session options

    def prepare(self, task: Assignment) -> Prepared:
        """Use the model itself for fp32; write a quantized one for int8."""
        import onnxruntime

        notes: dict[str, Any] = {"onnxruntime": onnxruntime.__version__}
        model = task.onnx
        if task.precision == "int8":
            model = task.folder / "int8.onnx"
            notes["quantization"] = quantize(task, model)
        exact = model if task.precision == "int8" else None
        return Prepared((model,), distribution_files("onnxruntime"), {**notes, **self.settings}, exact)

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:
        """Create a session with ``task.threads`` threads in the pool that a sequential graph uses."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = task.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        for key, value in self.settings.items():
            options.add_session_config_entry(key, value)
        model, providers = str(prepared.model[0]), ["CPUExecutionProvider"]
        return _Bound(onnxruntime.InferenceSession(model, options, providers=providers))


class OnnxruntimePrecise(Onnxruntime):
    """As ``Onnxruntime``, with integer kernels that do not saturate."""

    title = "onnxruntime, precise"
    precisions = ("int8",)
    alternative = True
    settings: Mapping[str, str] = {"session.x64quantprecision": "1"}

    def prepare(self, task: Assignment) -> Prepared:
        """As ``Onnxruntime``; only if the default may saturate."""
        require_saturation()
        return super().prepare(task)


class _Bound(LoadedModel):
    """A session with bound inputs and outputs."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self._binding = session.io_binding()
        self.infer = partial(session.run_with_iobinding, self._binding)
        self._inputs: dict[str, np.ndarray] = {}

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        self._inputs = {name: np.ascontiguousarray(value) for name, value in inputs.items()}
        outputs = self._session.run(None, self._inputs)
        for name, value in self._inputs.items():
            self._binding.bind_cpu_input(name, value)
        self._binding.clear_binding_outputs()
        for node, value in zip(self._session.get_outputs(), outputs, strict=True):
            buffer = np.empty_like(value)
            self._inputs[f"output {node.name}"] = buffer  # kept alive for the binding
            self._binding.bind_output(node.name, "cpu", 0, buffer.dtype, buffer.shape, buffer.ctypes.data)
        return list(outputs)


def quantize(task: Assignment, out: Path) -> str:
    """Write the int8 model and describe how it was quantized."""
    import onnx
    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    operators = {node.op_type for node in onnx.load(task.onnx, load_external_data=False).graph.node}
    if operators & _RECURRENT:
        if not operators & _DYNAMIC:
            recurrent = ", ".join(sorted(operators & _RECURRENT))
            raise Unsupported(f"quantize_dynamic has no integer operator for {recurrent}")
        weights = quantization.QuantType.QInt8
        quantization.quantize_dynamic(task.onnx, out, per_channel=True, weight_type=weights)
        return "dynamic, per-channel s8 weights"
    ready = task.folder / "preprocessed.onnx"
    quant_pre_process(str(task.onnx), str(ready))
    quantization.quantize_static(
        ready,
        out,
        SimpleNamespace(get_next=partial(next, iter(task.calibration_samples()), None)),
        quant_format=quantization.QuantFormat.QDQ,
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        calibrate_method=quantization.CalibrationMethod.MinMax,
    )
    return "static Q/DQ, min-max, u8 activations, per-channel s8 weights"
