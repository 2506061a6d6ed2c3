"""What several benchmarks share: processes, environments, networks, interleaved timing, statistics, tables, charts.

Modules that contestants import in environments of their own need Python and numpy only, and say so.
"""
