"""Ahead of time: a model as a fixed sequence of kernel calls over one arena, without a runtime.

Imports: config, errors, executor, lower.conditions, lower.emit.arithmetic, lower.emit.library, lower.emit.objects, lower.emit.vm,
lower.graph.lifting, lower.phase, lower.result, spec, toolchain,
weightfile.
"""
