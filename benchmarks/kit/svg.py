"""Common frame and style of charts: self-contained SVG files for light and dark mode."""

from collections.abc import Mapping

from edgepack.reporting.charts import words
from edgepack.reporting.markup import Markup, el

WIDTH = 760
_STYLE = """
svg {{ --paper: #ffffff; --ink: #1b1f23; --soft: #565e67; --rule: #ddd8cc; {light} }}
@media (prefers-color-scheme: dark) {{
  svg {{ --paper: #14171a; --ink: #e9e6df; --soft: #a4abb3; --rule: #343b42; {dark} }}
}}
.paper {{ fill: var(--paper); }}
text {{ fill: var(--ink); font: 12px system-ui, "Segoe UI", Roboto, "Liberation Sans", sans-serif; }}
.title {{ font-size: 15px; font-weight: 600; }} {rules}"""


def style(colors: Mapping[str, tuple[str, str]], rules: str) -> Markup:
    """Return the style of a chart: its colours, for light and dark mode, and its rules after the common ones."""
    light, dark = (" ".join(f"--{name}: {both[side]};" for name, both in colors.items()) for side in (0, 1))
    return el("style", Markup(_STYLE.format(light=light, dark=dark, rules=rules)))


def chart(title: str, own_style: Markup, height: float, *parts: Markup | None, label: str = "") -> Markup:
    """Return a chart with its title; ``label`` replaces it for screen readers."""
    return el(
        "svg",
        el("title", label or title),
        own_style,
        el("rect", width=WIDTH, height=height, cls="paper"),
        words(8, 20, title, "title"),
        *parts,
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {height:.0f}",
        width=WIDTH,
        height=height,
        role="img",
    )
