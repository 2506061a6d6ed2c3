"""Which steps make no sense after which others."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edgepack.compression.method import Method, Step


def misplaced(steps: Sequence[Step], methods: Mapping[str, Method[Any]]) -> Iterator[tuple[int, str]]:
    """The number of each step that destroys what an earlier one left, and the reason."""
    for number, step in enumerate(steps):
        for earlier in steps[:number]:
            lost = [
                why
                for trait, why in methods[step.method].destroys.items()
                if trait in methods[earlier.method].leaves
            ]
            if lost:
                yield number, f"{step.method} makes no sense after {earlier.method}: {lost[0]}"
                break
