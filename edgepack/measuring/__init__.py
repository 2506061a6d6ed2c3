"""Measurements on the board, their statistics and their validity.

Imports: agent, errors, spec.
"""
