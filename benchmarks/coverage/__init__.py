"""What of ONNX can be compiled: the onnx package's own test cases through edgepack and stock TVM: ``make coverage``.

The cases, a process for each, what runs them, their results, and the page of it.
"""
