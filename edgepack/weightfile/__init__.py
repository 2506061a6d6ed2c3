"""The weights file of a compiled model: writing, reading, entropy coding, and the C code that loads it on the board.

Imports: base, errors, spec, toolchain.
"""
