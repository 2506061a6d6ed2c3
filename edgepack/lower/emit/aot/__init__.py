"""Ahead of time: a model as a fixed sequence of kernel calls over one arena, without a runtime.

Imports: base, config, errors, executor, lower.conditions, lower.emit.arithmetic, lower.emit.library, lower.emit.objects, lower.emit.vm,
lower.graph.lifting, lower.phase, lower.result, onnxfile, spec, toolchain,
weightfile.
"""
