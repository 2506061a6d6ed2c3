"""HTML and SVG elements that escape their content automatically."""

import html

from edgepack.base.text import visible

_VOID = frozenset({"br", "hr", "meta", "circle", "line", "path", "rect", "polyline", "use"})


class Markup(str):
    """Markup that must not be escaped. Created by ``el``, ``join`` and literals of this package only."""

    __slots__ = ()


def text(value: object) -> Markup:
    """A value as escaped text; markup is not changed."""
    if isinstance(value, Markup):
        return value
    return Markup(html.escape(visible(value)))


def join(*parts: object) -> Markup:
    """Concatenated parts; None is skipped."""
    return Markup("".join(text(part) for part in parts if part is not None))


def el(tag: str, /, *children: object, **attributes: object) -> Markup:
    """An element. ``cls`` is the class; underscores in attribute names become hyphens; attributes that are None are omitted."""
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
    return html.escape(visible(shown))
