"""ARM figures without a board: emulated instruction counts and predicted cycles, ``python -m benchmarks.arm``.

The emulated userland, the instruction counter, the loops of a build and their prediction, and the page.
"""
