"""The report of a run: JSON, Markdown, HTML, terminal.

Imports: base, config, engine, errors, measuring, pipeline, spec, tuning.
"""
