"""`make coverage`: the ONNX package's own test cases through our import, lowering and agent, and through stock TVM."""
