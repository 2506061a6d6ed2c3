"""Sets of channels that stay or go together: a union-find over their numbers."""


class ChannelSets:
    """Numbers, each in one set; a set may be locked, with the reason why its channels stay."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._locked: dict[int, str] = {}  # root -> reason

    def fresh(self, count: int) -> list[int]:
        """New numbers, each alone in its set."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return list(range(first, first + count))

    def root(self, number: int) -> int:
        """The number that stands for the set of ``number``."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def tie(self, a: int, b: int) -> None:
        """``a`` and ``b`` stay or go together."""
        low, high = sorted((self.root(a), self.root(b)))
        if low != high:
            self._parent[high] = low
            if high in self._locked:
                self._locked.setdefault(low, self._locked.pop(high))

    def lock(self, numbers: list[int], reason: str) -> None:
        """``numbers`` stay."""
        for number in numbers:
            self._locked.setdefault(self.root(number), reason)

    def reason(self, number: int) -> str | None:
        """Why the set of ``number`` stays; None if it may go."""
        return self._locked.get(self.root(number))
