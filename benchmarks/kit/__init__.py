"""Shared code of the benchmarks: processes, environments, networks, interleaved timing, statistics, tables, charts.

Modules that contestants import in their own environments require only Python and numpy, and say so.
"""
