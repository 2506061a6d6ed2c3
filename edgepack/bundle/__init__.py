"""Bundles: the release as one file.

Imports: agent, base, compress, config, errors, spec.
"""
