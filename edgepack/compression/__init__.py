"""Compression: one file a method, registered by hand in registry.py; other packages add theirs by entry point.

Imports: base, data, errors, onnxfile, spec, torchnet.
"""

from edgepack.compression.method import (
    Context,
    Method,
    Need,
    OnnxMethod,
    Step,
    StepFile,
    TorchMethod,
    TorchResult,
)

__all__ = ["Context", "Method", "Need", "OnnxMethod", "Step", "StepFile", "TorchMethod", "TorchResult"]
