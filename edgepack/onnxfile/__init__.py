"""Reading, checking, canonicalising and writing .onnx files, with deterministic bytes.

Imports: base, errors, spec.
"""

from edgepack.onnxfile.canonical import canonicalise, save_onnx
from edgepack.onnxfile.reading import load_onnx, opset_of

__all__ = ["canonicalise", "load_onnx", "opset_of", "save_onnx"]
