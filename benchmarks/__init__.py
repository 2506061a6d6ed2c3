"""Benchmarks of edgepack and its alternatives; each package except ``kit`` is run with ``python -m benchmarks.NAME``.

``kit`` has shared code; committed results are in ``results/``.
"""
