"""The report of a run: JSON, Markdown, HTML, terminal."""
