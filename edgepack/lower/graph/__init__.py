"""Passes on the Relax graph, from the import to kernel calls.

Imports: config, lower.conditions, lower.phase, schedules, spec, weightfile.
"""
