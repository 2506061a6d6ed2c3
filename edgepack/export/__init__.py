"""torch to ONNX and ONNX as it comes: one canonical file, checked against onnxruntime."""

from edgepack.export.canonical import canonicalise, save_onnx
from edgepack.export.counting import Counts, count
from edgepack.export.importing import import_onnx, load_onnx
from edgepack.export.runtime import evaluate, parity, predict, relative_error, run_onnx
from edgepack.export.torch_to_onnx import OPSET, example_inputs, to_onnx

__all__ = [
    "OPSET",
    "Counts",
    "canonicalise",
    "count",
    "evaluate",
    "example_inputs",
    "import_onnx",
    "load_onnx",
    "parity",
    "predict",
    "relative_error",
    "run_onnx",
    "save_onnx",
    "to_onnx",
]
