"""The agent: the program on the board, its cross build, and its protocol.

Imports: base, errors, executor, spec, toolchain.
"""
