"""Select layers by a step's patterns."""

import fnmatch
from collections.abc import Iterable, Mapping

from edgepack.base.text import near_miss
from edgepack.errors import InputError

_SHOWN = 8  # names listed if there is no near miss


def select(
    patterns: Iterable[str], names: Mapping[str, tuple[str, ...]], *, kind: str, where: str
) -> list[str]:
    """Return the keys of ``names`` with a name that matches a pattern (``*`` and ``?``), in the order of the patterns.

    Args:
        patterns: from the recipe.
        names: available keys, each with all its names; empty names are ignored.
        kind: what is selected, for messages: ``layer``.
        where: the option that contains the patterns.

    Raises:
        InputError: a pattern matches nothing; a near miss is suggested.
    """
    keys: list[str] = []
    for pattern in patterns:
        matched = [
            key for key, own in names.items() if any(fnmatch.fnmatchcase(name, pattern) for name in own)
        ]
        if not matched:
            known = {name for own in names.values() for name in own if name}
            hint = near_miss(pattern, known, say="there are", quote="'", most=_SHOWN)
            raise InputError(f"no {kind} matches {pattern!r}{hint}", where=where)
        keys += matched
    return keys
