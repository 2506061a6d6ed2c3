"""torch modules: loading from source and checkpoint, sizes of their layers, training.

Imports: base, data, errors, scoring, spec.
"""
