"""torch modules: from source and checkpoint, their layers' sizes, training.

Imports: base, data, errors, spec.
"""
