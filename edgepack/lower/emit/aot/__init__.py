"""Ahead of time: a model as a fixed sequence of kernel calls over one arena, without a runtime.

Imports: errors, lower.conditions, lower.emit, lower.phase, toolchain.
"""
