"""Passes on the Relax graph, from import to calls of kernels.

Imports: config, lower.phase, spec.
"""
