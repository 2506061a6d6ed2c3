"""Rewrites from ONNX to ONNX, for operators and forms that TVM's importer lacks or computes incorrectly.

Imports: lower.onnx.nodes, onnxfile.
"""
