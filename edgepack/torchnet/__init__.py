"""torch modules: from source and checkpoint, their layers' sizes, training."""
