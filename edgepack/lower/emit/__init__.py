"""From scheduled kernels to files: the virtual machine's shared library.

Imports: config, errors, lower.conditions, lower.phase, lower.result, spec, toolchain.
"""
