"""Measurements on the board, their statistics and their validity.

Imports: agent, base, data, errors, scoring, spec.
"""
