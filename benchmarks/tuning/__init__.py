"""How soon tuning is how good, beside stock MetaSchedule: ``python -m benchmarks.tuning``.

The two tuners, what they log, the figures of a run, and the page and charts of them.
"""
