"""Import an ONNX file into Relax: TVM's converters with additional checks, and unsupported operators.

Imports: errors, lower.phase, lower.tracing, onnxfile, schedules, spec.
"""
