"""The report of a run: JSON, Markdown, HTML, terminal.

Imports: base, bundle, config, engine, errors, export, lower, measuring, pipeline, spec, tuning.
"""
