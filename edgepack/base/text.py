"""Text for messages: suggestions for misspelt names, sizes, and characters that must not reach a terminal."""

import re
import string
from collections.abc import Iterable
from difflib import get_close_matches

_SIMILAR = 0.6  # difflib ratio from which a known name is suggested
_BEGINNING = 3  # letters from which a prefix is suggested


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that ``word`` most likely misspells or abbreviates; None if there is no close match.

    Letter case counts only where it tells known names apart.
    """
    names = sorted(known)
    begun = [name for name in names if name.lower().startswith(word.lower())]
    if len(word) >= _BEGINNING and len(begun) == 1:
        return begun[0]
    exact = get_close_matches(word, names, n=1, cutoff=_SIMILAR)
    if exact:
        return exact[0]
    lower = {name.lower(): name for name in names}
    near = get_close_matches(word.lower(), lower, n=1, cutoff=_SIMILAR)
    if near:
        return lower[near[0]]
    # difflib compares by the longest common run, which fails for repeated letters: FFFFF and FFGFFF.
    return next((name for name in names if len(word) >= _BEGINNING and _one_typo(word, name)), None)


def _one_typo(word: str, name: str) -> bool:
    """Whether the words differ by one letter omitted, added or replaced, or by two adjacent letters swapped."""
    start = _shared(word, name)
    one, other = word[start:], name[start:]
    end = _shared(one[::-1], other[::-1])
    one, other = one[: len(one) - end], other[: len(other) - end]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])  # noqa: PLR2004 - neighbours


def _shared(one: str, other: str) -> int:
    """Length of the common prefix of two words."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def did_you_mean(name: str | None, *, quote: str = "`") -> str:
    """``; did you mean `name`?`` at the end of a message; empty for None."""
    return "" if name is None else f"; {_question(name, quote)}"


def near_miss(
    word: str, known: Iterable[str], *, say: str = "known:", quote: str = "`", most: int | None = None
) -> str:
    """``; did you mean `x`?``, or the list of known names if there is no close match; empty if none are known.

    Args:
        word: the unknown name.
        known: the valid names.
        say: the words before the list.
        quote: put around the suggestion.
        most: how many names of the list are shown; all if None.
    """
    names = sorted(known)
    hint = did_you_mean(nearest(word, names), quote=quote)
    if hint:
        return hint
    more = ", ..." if most is not None and len(names) > most else ""
    return f"; {say} {', '.join(names[:most])}{more}" if names else ""


def suggestion(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """``did you mean x?`` as an error's next step, or ``otherwise`` if there is no close match."""
    near = nearest(word, known)
    return otherwise if near is None else _question(near, "")


def _question(name: str, quote: str) -> str:
    return f"did you mean {quote}{name}{quote}?"


def human_size(size: float) -> str:
    """A size in bytes in decimal units: ``5.3 MB``."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004 - decimal prefix
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


# C0 and C1 (terminal sequences), characters that reorder or hide text, line separators, surrogates, and what XML forbids.
_OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\ufffe\uffff\U000e0000-\U000e007f]"
)


def visible(value: object) -> str:
    r"""Text whose characters are all shown and none obeyed: ``\x1b``, ``\u202e``; newlines and tabs are kept.

    Names and messages may come from a model, a bundle or a board, so every output passes through here.
    """
    return _OBEYED.sub(lambda found: _escape(found[0]), str(value))


def one_line(value: object) -> str:
    r"""As :func:`visible`, with newlines and tabs as ``\n`` and ``\t``."""
    return visible(value).replace("\n", "\\n").replace("\t", "\\t")


def _escape(character: str) -> str:
    code = ord(character)
    width, prefix = next((w, p) for w, p in ((2, "x"), (4, "u"), (8, "U")) if code < 16**w)
    return f"\\{prefix}{code:0{width}x}"


def c_literal(text: str) -> str:
    """Return a C string literal, whatever the text has in it."""
    plain = string.ascii_letters + string.digits + " _-.,:;/()[]"
    characters = (chr(byte) if chr(byte) in plain else f"\\{byte:03o}" for byte in text.encode())
    return f'"{"".join(characters)}"'
