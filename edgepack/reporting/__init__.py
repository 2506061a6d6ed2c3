"""The report of a run: JSON, Markdown, HTML, terminal.

Imports: base, config, engine, errors, export, lower, measuring, pipeline, spec, tuning.
"""
