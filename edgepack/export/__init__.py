"""torch to ONNX and ONNX as it comes: one canonical file, checked against onnxruntime.

Imports: data, errors, onnxfile, spec, torchnet.
"""

from edgepack.export.importing import import_checked
from edgepack.export.reference import evaluate, parity, predict, relative_error, run_onnx
from edgepack.export.torch_to_onnx import OPSET, to_onnx
from edgepack.onnxfile import canonicalise, load_onnx, save_onnx
from edgepack.onnxfile.counting import Counts, count
from edgepack.onnxfile.importing import fitted, folded, import_onnx, open_batch

__all__ = [
    "OPSET",
    "Counts",
    "canonicalise",
    "count",
    "evaluate",
    "fitted",
    "folded",
    "import_checked",
    "import_onnx",
    "load_onnx",
    "open_batch",
    "parity",
    "predict",
    "relative_error",
    "run_onnx",
    "save_onnx",
    "to_onnx",
]
