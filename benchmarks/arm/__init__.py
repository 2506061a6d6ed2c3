"""ARM evidence without a board: executed instructions in an emulator, predicted cycles: ``python -m benchmarks.arm``.

The emulated userland, the counter, the loops of a build and their prediction, and the page of it.
"""
