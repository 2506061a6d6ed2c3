"""The parts of ``benchmarks/tuning.py``: the two tuners, what they log, curves and charts of it."""
