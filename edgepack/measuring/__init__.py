"""Measurements on the board, their statistics and their validity.

Imports: agent, data, errors, scoring, spec.
"""
