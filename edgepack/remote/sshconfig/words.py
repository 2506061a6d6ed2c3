"""The words of a configuration line, and the patterns in them (ssh_config(5), PATTERNS)."""

import re
from collections.abc import Iterable

_BLANK = " \t\r\n"
# A keyword, then blanks and at most one "=".
_KEYWORD = re.compile(
    r'(?:"(?P<quoted>[^"]*)"[ \t\r\n]*|(?P<plain>[^\s"=]*)[ \t\r\n]*=?)[ \t\r\n]*(?P<rest>.*)', re.DOTALL
)


def keyword_of(line: str) -> tuple[str, str]:
    """The keyword of a line in lower case, and the rest; the keyword is empty for blank lines and comments."""
    found = _KEYWORD.fullmatch(line.rstrip(_BLANK + "\f").lstrip(_BLANK))
    if found is None:
        return "", ""
    keyword = found["plain"] if found["quoted"] is None else found["quoted"]
    return ("", "") if keyword.startswith("#") else (keyword.lower(), found["rest"])


def split(text: str) -> list[str]:
    r"""The words of a line: quoted by ``"`` or ``'``, escaped by ``\``; a word that starts with ``#`` ends them.

    Raises:
        ValueError: a quote is not closed.
    """
    words: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t":
            at += 1
            continue
        if text[at] == "#":
            break
        word, at = _word(text, at)
        words.append(word)
    return words


def _word(text: str, at: int) -> tuple[str, int]:
    word: list[str] = []
    quote = ""
    while at < len(text):
        char, after = text[at], text[at + 1 : at + 2]
        if char == "\\" and after and (after in "'\"\\" or (after == " " and not quote)):
            word.append(after)
            at += 1
        elif not quote and char in " \t":
            break
        elif not quote and char in "\"'":
            quote = char
        elif char == quote:
            quote = ""
        else:
            word.append(char)
        at += 1
    if quote:
        raise ValueError(f"a {quote} is not closed")
    return "".join(word), at


def matches(name: str, pattern: str) -> bool:
    """Whether a pattern with ``*`` and ``?`` describes the whole name."""
    # Not fnmatch, where brackets have a meaning; and no pattern takes more than len(name) * len(pattern) steps.
    at = here = 0
    star, resume = -1, 0  # the last "*", and where in the name it was last tried
    while at < len(name):
        wanted = pattern[here : here + 1]
        if wanted == "*":
            star, resume = here, at
            here += 1
        elif wanted and wanted in ("?", name[at]):
            at, here = at + 1, here + 1
        elif star >= 0:
            resume += 1
            at, here = resume, star + 1
        else:
            return False
    return not pattern[here:].strip("*")


def in_list(name: str, patterns: Iterable[str]) -> bool:
    """Whether a list of patterns describes the name: one does, and none that is negated by ``!``."""
    found = False
    for pattern in patterns:
        if matches(name, pattern.removeprefix("!")):
            if pattern.startswith("!"):
                return False
            found = True
    return found
