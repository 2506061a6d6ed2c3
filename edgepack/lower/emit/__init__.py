"""From scheduled kernels to files: the virtual machine's library.

Imports: config, errors, lower.conditions, lower.phase, spec, toolchain.
"""
