"""Compression methods: one file per method, listed in registry.py; other packages add theirs by entry point.

Imports: base, data, errors, onnxfile, scoring, spec, torchnet.
"""

from edgepack.compression.method import (
    Context,
    EitherMethod,
    Method,
    Need,
    OnnxMethod,
    Step,
    StepFile,
    TorchMethod,
    TorchResult,
)

__all__ = [
    "Context",
    "EitherMethod",
    "Method",
    "Need",
    "OnnxMethod",
    "Step",
    "StepFile",
    "TorchMethod",
    "TorchResult",
]
