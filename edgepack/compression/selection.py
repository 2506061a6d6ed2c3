"""Select layers: by a step's patterns, or by how sensitive each layer is to the step."""

import fnmatch
import math
import statistics
from collections.abc import Callable, Iterable, Mapping
from typing import Literal

from edgepack.base.text import near_miss
from edgepack.errors import InputError
from edgepack.spec import Finite

_SHOWN = 8  # names listed if there is no near miss
_OUTLIER = 10.0  # dB below the median layer: ten times its noise


Skip = tuple[str, ...] | Literal["auto"] | Finite
"""Layers that a step leaves alone: patterns of names; or, by a scan that compresses each layer alone as the step would,
``auto`` for those that add more than ten times the noise of the median layer, or a limit in dB for those with a lower
signal-to-noise ratio at the outputs."""


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


def skipped(
    skip: Skip,
    names: Mapping[str, tuple[str, ...]],
    noise: Callable[[], Mapping[str, float]],
    *,
    kind: str,
    where: str,
) -> dict[str, str]:
    """Return the layers that a step leaves alone, each with the reason.

    Args:
        skip: from the recipe.
        names: as for :func:`select`.
        noise: returns the signal-to-noise ratio of the outputs in dB if a layer alone is compressed, by key of ``names``;
            called only if the recipe gives no patterns.
        kind: as for :func:`select`.
        where: as for :func:`select`.

    Raises:
        InputError: as :func:`select`.
    """
    if isinstance(skip, tuple):
        return dict.fromkeys(select(skip, names, kind=kind, where=where), "skipped by the recipe")
    measured = noise()
    limit = _outlier(measured) if isinstance(skip, str) else skip
    return {
        key: f"sensitive: {ratio:.1f} dB at the outputs if it alone is compressed, the limit is {limit:.1f} dB"
        for key, ratio in measured.items()
        if ratio < limit
    }


def _outlier(measured: Mapping[str, float]) -> float:
    return statistics.median(measured.values()) - _OUTLIER if measured else -math.inf
