"""Linear operators of an .onnx graph, and merging those that follow each other or are summed.

Imports: onnxfile.
"""
