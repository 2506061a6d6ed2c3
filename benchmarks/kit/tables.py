"""Tables of text cells: as Markdown, and for the terminal."""

from collections.abc import Iterable, Sequence


def markdown(
    columns: Sequence[str], rows: Iterable[Sequence[str]], right: int = 1, *, tight: bool = False
) -> list[str]:
    """The lines of a Markdown table; columns from ``right`` on are set flush right.

    ``tight`` writes the rule, and columns without a name, without spaces.
    """
    rule = ["---" if index < right else "---:" for index in range(len(columns))]
    head = _line(columns)
    if tight:
        head, ruled = head.replace("|  |", "| |"), f"|{'|'.join(rule)}|"
    else:
        ruled = _line(rule)
    return [head, ruled, *map(_line, rows)]


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def plain(rows: Sequence[Sequence[str]], right: int = 1) -> list[str]:
    """The lines of a table in which columns are as wide as their widest cell; from ``right`` on flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if index < right else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
