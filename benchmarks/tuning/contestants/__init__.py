"""The two tuners: each is a program that tunes and logs what it does, given a job as JSON.

``python -m benchmarks.tuning`` starts them and ends them.
"""
