"""Bundles: the release as one file."""
