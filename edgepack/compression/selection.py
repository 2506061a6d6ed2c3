"""Which layers a step's patterns mean."""

import fnmatch
from collections.abc import Iterable, Mapping

from edgepack.base.text import near_miss
from edgepack.errors import InputError

_SHOWN = 8  # names listed where nothing is near


def select(
    patterns: Iterable[str], names: Mapping[str, tuple[str, ...]], *, kind: str, where: str
) -> list[str]:
    """The keys of ``names`` one of whose names a pattern matches (``*`` and ``?``), in the order of the patterns.

    Args:
        patterns: as the recipe has them.
        names: what there is, by key, with all the names it goes by; empty ones count for nothing.
        kind: what is selected, in words: ``layer``.
        where: the option that holds the patterns.

    Raises:
        InputError: a pattern matches nothing; the near miss is named.
    """
    found: list[str] = []
    for pattern in patterns:
        matched = [
            key for key, own in names.items() if any(fnmatch.fnmatchcase(name, pattern) for name in own)
        ]
        if not matched:
            known = {name for own in names.values() for name in own if name}
            hint = near_miss(pattern, known, say="there are", quote="'", most=_SHOWN)
            raise InputError(f"no {kind} is called {pattern!r}{hint}", where=where)
        found += matched
    return found
