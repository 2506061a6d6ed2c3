"""The report of a run: JSON, Markdown, HTML, terminal.

Imports: base, bench, config, engine, errors, run, spec, tune.
"""
