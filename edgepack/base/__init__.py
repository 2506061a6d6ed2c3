"""What everything may use: paths, files and digests, words, Ctrl-C, crash logs.

Imports: errors.
"""
