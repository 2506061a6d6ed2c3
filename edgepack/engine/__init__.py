"""The engine of a run: artifacts and their store, stages and their cache keys, events.

Imports: base, errors, spec.
"""
