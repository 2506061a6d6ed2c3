"""From scheduled kernels to files: the virtual machine's shared library.

Imports: base, config, errors, lower.conditions, lower.phase, lower.result, spec, toolchain, weightfile.
"""
