"""torch to ONNX and ONNX as it comes: one canonical file, checked against onnxruntime."""

from edgepack.export.counting import Counts, count
from edgepack.export.importing import folded, import_onnx
from edgepack.export.runtime import evaluate, parity, predict, relative_error, run_onnx
from edgepack.export.torch_to_onnx import OPSET, to_onnx
from edgepack.onnxfile import canonicalise, load_onnx, save_onnx

__all__ = [
    "OPSET",
    "Counts",
    "canonicalise",
    "count",
    "evaluate",
    "folded",
    "import_onnx",
    "load_onnx",
    "parity",
    "predict",
    "relative_error",
    "run_onnx",
    "save_onnx",
    "to_onnx",
]
