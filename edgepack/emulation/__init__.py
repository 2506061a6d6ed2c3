"""CUDA kernels on the CPU, for virtual boards with a GPU.

Imports: base, errors.
"""
