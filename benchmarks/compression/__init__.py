"""Size against accuracy of the compression methods: Fashion-MNIST, digits, and source code or prose.

Run it as ``python -m benchmarks.compression``; see ``__main__.py``.
"""
