"""HTML and SVG elements that escape whatever they are given, so that nothing has to remember to."""

import html

from edgepack.reporting.format import printable

_VOID = frozenset({"br", "hr", "meta", "circle", "line", "path", "rect", "polyline", "use"})


class Markup(str):
    """Text that is markup already. Only ``el``, ``join`` and literals of this package make it."""

    __slots__ = ()


def text(value: object) -> Markup:
    """A value as text; markup stays as it is."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(printable(value)))


def join(*parts: object) -> Markup:
    """Parts one after the other; None is nothing."""
    return Markup("".join(text(part) for part in parts if part is not None))


def el(tag: str, /, *children: object, **attributes: object) -> Markup:
    """An element. ``cls`` is the class; underscores in attribute names are hyphens; None leaves one out."""
    written = "".join(
        f' {"class" if key == "cls" else key.replace("_", "-")}="{_attribute(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    if tag in _VOID:
        return Markup(f"<{tag}{written}/>")
    return Markup(f"<{tag}{written}>{join(*children)}</{tag}>")


def _attribute(value: object) -> str:
    shown = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return html.escape(printable(shown))
