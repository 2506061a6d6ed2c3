"""Bundles: the release as one file.

Imports: agent, base, compression, config, errors, executor, spec.
"""
