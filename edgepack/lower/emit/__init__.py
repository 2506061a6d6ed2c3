"""From scheduled kernels to files: the virtual machine's shared library.

Imports: base, config, errors, executor, lower.conditions, lower.graph.lifting, lower.phase, lower.result,
lower.tracing, onnxfile, spec, toolchain, weightfile.
"""
