"""Recipes, targets and devices.yaml: reading them, and reporting every problem with its position.

Imports: base, compression, data, errors, onnxfile, spec.
"""
