"""Tuning results over time, of edgepack and stock MetaSchedule: ``python -m benchmarks.tuning``.

The two tuners, their logs, the figures of a run, and the page and charts.
"""
