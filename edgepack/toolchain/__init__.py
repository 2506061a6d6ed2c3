"""Compilers besides TVM: zig for C and linking, nvcc and NVRTC for CUDA.

Imports: base, errors.
"""
