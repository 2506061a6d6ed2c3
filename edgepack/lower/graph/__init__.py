"""Passes on the Relax graph, from import to calls of kernels."""
