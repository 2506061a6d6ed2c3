"""Export torch models to ONNX and import ONNX files: one canonical file, checked against onnxruntime.

Imports: base, data, errors, onnxfile, scoring, spec, torchnet.
"""

from edgepack.export.importing import import_checked
from edgepack.export.reference import evaluate, parity, predict, relative_error, run_onnx
from edgepack.export.torch_to_onnx import OPSET, to_onnx
from edgepack.onnxfile import canonicalise, load_onnx, save_onnx
from edgepack.onnxfile.counting import Counts, count
from edgepack.onnxfile.importing import fit_model, import_onnx, open_batch, simplify_model

__all__ = [
    "OPSET",
    "Counts",
    "canonicalise",
    "count",
    "evaluate",
    "fit_model",
    "import_checked",
    "import_onnx",
    "load_onnx",
    "open_batch",
    "parity",
    "predict",
    "relative_error",
    "run_onnx",
    "save_onnx",
    "simplify_model",
    "to_onnx",
]
