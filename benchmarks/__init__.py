"""Benchmarks of edgepack beside others; each package here is one, ``python -m benchmarks.NAME``, but for ``kit``.

``kit`` holds what they share; committed results lie in ``results/``.
"""
