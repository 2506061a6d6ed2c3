"""Measurements on the board, their statistics and their validity."""
