"""ONNX coverage: run the onnx package's own test cases with edgepack and stock TVM, ``make coverage``.

The cases, a process pool, the contestants, their results, and the page.
"""
