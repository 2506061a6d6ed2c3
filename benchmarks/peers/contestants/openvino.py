"""OpenVINO's CPU plugin; int8 by NNCF's post-training quantization.

The model is converted from ONNX to OpenVINO's IR without compression to fp16. By default the plugin computes in
bfloat16 if the CPU supports it, so the precision of everything that is not quantized is set to f32.
Without VNNI the integer kernels for x86 saturate. The plugin has no precise mode (``EXECUTION_MODE_HINT`` does not
affect it); OpenVINO's documented remedy is 7-bit weights, NNCF's ``OverflowFix.ENABLE``, which is a separate row. With
its low-precision transformations off, the plugin computes the quantized model exactly, in fp32.
https://docs.openvino.ai/latest/pot_saturation_issue.html
https://docs.openvino.ai/2026/openvino-workflow/model-optimization-guide/quantizing-models-post-training/basic-quantization-flow.html
"""

import re
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.peers.protocol import (
    Assignment,
    Contestant,
    LoadedModel,
    Prepared,
    distribution_files,
    require_saturation,
)

# For an IR on a CPU, inference loads only the CPU plugin and the IR reader of the wheel's plugins and format
# readers; importing the package loads the TensorFlow reader.
_UNUSED = re.compile("_(gpu|npu|gguf|jax|onnx|paddle|pytorch|tensorflow_lite)_|cache.json")
_EXACT = {"LP_TRANSFORMS_MODE": False, "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0}  # quantized models in fp32


class Openvino(Contestant):
    """The wheel with its defaults, and the performance hint for latency."""

    title = "OpenVINO"
    overflow_fix: str | None = None  # of nncf.OverflowFix; None: NNCF's default
    requirements = ("openvino==2026.4.1", "nncf==3.4.0", "numpy==2.4.6")

    def prepare(self, task: Assignment) -> Prepared:
        """Write the model as IR: ``model.xml`` and ``model.bin``."""
        _no_telemetry()
        import openvino

        model = openvino.convert_model(task.onnx)
        notes: dict[str, Any] = {"openvino": openvino.__version__, "inference precision": "f32"}
        if task.precision == "int8":
            import nncf

            model, notes["quantization"] = _quantize(model, task, self.overflow_fix)
            notes["nncf"] = nncf.__version__
        path = task.folder / "model.xml"
        openvino.save_model(model, path, compress_to_fp16=False)
        runtime = distribution_files("openvino")
        used = tuple(file for file in runtime if not _UNUSED.search(file.name))
        files = (path, path.with_suffix(".bin"))
        exact = None
        if task.precision == "int8":
            exact = task.save_exact(_compile(path, task, **_EXACT).run)
        return Prepared(files, used, notes, exact)

    def load(self, task: Assignment, prepared: Prepared) -> LoadedModel:
        """Compile for the CPU with one stream of ``task.threads`` threads."""
        return _compile(prepared.model[0], task)


class OpenvinoPrecise(Openvino):
    """As ``Openvino``, with 7-bit weights, whose products do not saturate."""

    title = "OpenVINO, 7-bit weights"
    precisions = ("int8",)
    alternative = True
    overflow_fix = "ENABLE"

    def prepare(self, task: Assignment) -> Prepared:
        """As ``Openvino``; only if the default may saturate."""
        require_saturation()
        return super().prepare(task)


def _compile(model: Path, task: Assignment, **more: Any) -> "_Request":
    _no_telemetry()
    import openvino

    settings = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": task.threads,
        "NUM_STREAMS": "1",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(model, "CPU", {**settings, **more})
    return _Request(compiled.create_infer_request(), len(compiled.outputs))


class _Request(LoadedModel):
    """An inference request whose input tensors are our arrays."""

    def __init__(self, request: Any, outputs: int) -> None:
        self._request = request
        # Outputs are views of the request's own memory, as for the other contestants.
        self.infer = partial(request.infer, share_outputs=True)
        self._outputs = outputs
        self._inputs: list[np.ndarray] = []

    def run(self, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        import openvino

        # The request shares the arrays' memory but does not keep it alive; without this list, `time` reads freed memory.
        self._inputs = [np.ascontiguousarray(value) for value in inputs.values()]
        for name, value in zip(inputs, self._inputs, strict=True):
            self._request.set_tensor(name, openvino.Tensor(value, shared_memory=True))
        self._request.infer()
        return [self._request.get_output_tensor(i).data.copy() for i in range(self._outputs)]


def _quantize(model: Any, task: Assignment, overflow_fix: str | None) -> tuple[Any, str]:
    """Quantize the model; also return how: NNCF's defaults except for what depends on the model and the data.

    By default NNCF averages the ranges of the samples, which clips if samples differ much in size; for the
    MLPerf autoencoder with random weights this gives a cosine of 0.63. Here the range covers all samples.
    """
    import nncf
    from nncf.quantization.range_estimator import RangeEstimatorParametersSet

    # Layer normalisation, which OpenVINO calls MVN, identifies a transformer.
    attention = any(op.get_type_name() == "MVN" for op in model.get_ops())
    samples = task.calibration_samples()
    quantized = nncf.quantize(
        model,
        nncf.Dataset(samples),
        target_device=nncf.TargetDevice.CPU,
        model_type=nncf.ModelType.TRANSFORMER if attention else None,
        subset_size=len(samples),
        advanced_parameters=nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix[overflow_fix] if overflow_fix else None,
            activations_range_estimator_params=RangeEstimatorParametersSet.MINMAX,
        ),
    )
    kind = "model type transformer, preset mixed" if attention else "preset performance"
    bits = ", weights of 7 bits" if overflow_fix == "ENABLE" else ""
    how = f"nncf.quantize, {kind}, min-max ranges, fast bias correction, {len(samples)} samples{bits}"
    return quantized, how


def _no_telemetry() -> None:
    """Disable telemetry of openvino and nncf: without its package, neither sends any."""
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment] # importing it fails
