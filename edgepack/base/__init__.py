"""Utilities for all rooms: paths, files and digests, text, Ctrl-C, crash logs.

Imports: errors.
"""
