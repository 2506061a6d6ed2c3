"""The parts of ``benchmarks/deploy.py``: the link, the two versions, the ways to bring them to a board."""
