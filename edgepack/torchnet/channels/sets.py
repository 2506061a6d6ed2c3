"""Sets of channels that are kept or removed together: a union-find over their numbers."""


class ChannelSets:
    """Disjoint sets of numbers; a set may be locked, with the reason why its channels must be kept."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._locked: dict[int, str] = {}  # root -> reason

    def fresh(self, count: int) -> list[int]:
        """Create ``count`` new numbers, each in its own set."""
        first = len(self._parent)
        self._parent += range(first, first + count)
        return list(range(first, first + count))

    def root(self, number: int) -> int:
        """Return the representative of the set of ``number``."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def tie(self, a: int, b: int) -> None:
        """Merge the sets of ``a`` and ``b``."""
        low, high = sorted((self.root(a), self.root(b)))
        if low != high:
            self._parent[high] = low
            if high in self._locked:
                self._locked.setdefault(low, self._locked.pop(high))

    def lock(self, numbers: list[int], reason: str) -> None:
        """Lock the sets of ``numbers``: their channels must be kept."""
        for number in numbers:
            self._locked.setdefault(self.root(number), reason)

    def reason(self, number: int) -> str | None:
        """Return why the set of ``number`` is locked; None if it may be removed."""
        return self._locked.get(self.root(number))
