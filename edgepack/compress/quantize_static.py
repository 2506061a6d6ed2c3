"""Static int8 quantization in Q/DQ form, by onnxruntime's quantizer."""

from typing import Literal

from pydantic import Field

from edgepack.spec import Spec

stage: Literal["onnx"] = "onnx"


class QuantizeStatic(Spec):
    """Quantize weights per channel and activations per tensor to int8, calibrated on training data."""

    method: Literal["quantize-static"]
    samples: int = Field(default=256, ge=1, description="Calibration samples, from the training split.")
