"""The two tuners: each is a program that tunes and logs its progress, given a job as JSON.

``python -m benchmarks.tuning`` starts and terminates them.
"""
