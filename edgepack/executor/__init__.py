"""The runtime of compiled CPU models, in C: one arena, a thread pool, and the functions of edgepack.h.

Imports: base, toolchain, weightfile.
"""
