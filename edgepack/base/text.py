"""Words for people: near misses of a typing slip, sizes."""

from collections.abc import Iterable
from difflib import get_close_matches

_SIMILAR = 0.6  # difflib's ratio from which a known name may be what was meant
_BEGINNING = 3  # letters from which a beginning says what was meant


def nearest(word: str, known: Iterable[str]) -> str | None:
    """The known name that ``word`` is most likely a slip of, or the beginning of; None when nothing is near.

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
    # difflib compares by the longest run in common, which repeated letters mislead: FFFFF and FFGFFF.
    return next((name for name in names if len(word) >= _BEGINNING and _one_slip(word, name)), None)


def _one_slip(word: str, name: str) -> bool:
    """Whether the two differ by one letter left out, added or replaced, or by two neighbours swapped."""
    start = _shared(word, name)
    one, other = word[start:], name[start:]
    end = _shared(one[::-1], other[::-1])
    one, other = one[: len(one) - end], other[: len(other) - end]
    return max(len(one), len(other)) <= 1 or (len(one) == 2 and one == other[::-1])  # noqa: PLR2004 - neighbours


def _shared(one: str, other: str) -> int:
    """How many letters two words begin with in common."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(one), len(other)))


def did_you_mean(name: str | None, *, quote: str = "`") -> str:
    """``; did you mean `name`?`` at the end of a message; empty for None."""
    return "" if name is None else f"; {_question(name, quote)}"


def near_miss(
    word: str, known: Iterable[str], *, say: str = "known:", quote: str = "`", most: int | None = None
) -> str:
    """``; did you mean `x`?``, or the list of what there is when nothing is near; empty where there is nothing.

    Args:
        word: what was written.
        known: what could have been meant.
        say: what introduces the list.
        quote: around the near miss.
        most: names of the list that are shown; all if None.
    """
    names = sorted(known)
    hint = did_you_mean(nearest(word, names), quote=quote)
    if hint:
        return hint
    more = ", ..." if most is not None and len(names) > most else ""
    return f"; {say} {', '.join(names[:most])}{more}" if names else ""


def suggestion(word: str, known: Iterable[str], *, otherwise: str) -> str:
    """``did you mean x?`` as an error's next step, or ``otherwise`` when nothing is near."""
    near = nearest(word, known)
    return otherwise if near is None else _question(near, "")


def _question(name: str, quote: str) -> str:
    return f"did you mean {quote}{name}{quote}?"


def human_size(size: float) -> str:
    """A size in bytes for people: ``5.3 MB``, decimal units."""
    for unit in ("B", "kB", "MB"):
        if size < 1000:  # noqa: PLR2004 - decimal prefix
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"
