"""What people write, recipe, target and devices, and every problem in it, at its place.

Imports: base, compression, errors, onnxfile, spec.
"""
