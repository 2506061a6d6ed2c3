"""From an .onnx file to Relax: TVM's converters under watch, and what they cannot take.

Imports: errors, lower.phase, onnxfile, spec.
"""
