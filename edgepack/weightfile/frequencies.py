"""Tables of frequencies of byte values for the entropy coder: how they are made from counts, and written in few bytes.

A table has 256 frequencies that add up to ``SCALE``. It is written as the values that occur, each with its frequency; or,
where most values occur, as a curve through a few points with some exceptions: the distribution of weights is smooth, so
that takes a tenth of the bytes and costs few bits. docs/bundle-format.md describes the forms; ``src/frequencies.c`` reads
them on the board.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from edgepack.weightfile.cursor import Cursor, varint

if TYPE_CHECKING:
    import numpy as np

SCALE_BITS = 12
SCALE = 1 << SCALE_BITS
SMALL = 4096
"""Bytes of a tensor up to which it shares a block, and with it the table, with others."""

_LIST, _BITS, _CURVE = range(3)
_VALUES = 256
_STEP = 16  # values between two points of a curve
_POINTS = _VALUES // _STEP + 1
_FEWEST_BITS = 32  # values that occur, from which a bit for each takes less than a byte for each
_FEWEST_CURVE = 40  # below, a list takes less than a curve
_SHORTEST_CURVE = 20  # bytes
_MOST_CURVE = 1 << 19  # elements, above which a curve saves too little to search for it
_STARTS = (128, 0)  # of a curve: for signed and for unsigned values
_HIGHEST = 240  # of the points where the search begins
_SMALLEST = 0.05  # likelihood of a value that does not occur, of the mean, where the search begins
_MOVES = (16, -16, 4, -4, 1, -1)
_ROUNDS = 3
_WORTHWHILE = 16  # bits that a round of moves must save for another
_MOST_EXCEPTIONS = 6


@dataclass(frozen=True, eq=False)
class Table:
    """Frequencies, int64 ``[256]``, and their written form."""

    frequencies: "np.ndarray"
    written: bytes

    def bits(self, counts: "np.ndarray") -> float:
        """Return the bits that values take which occur ``counts`` times; infinite if one has no frequency."""
        import numpy as np

        occurring = counts > 0
        frequencies = self.frequencies[occurring]
        if not frequencies.all():
            return math.inf
        return float((counts[occurring] * (SCALE_BITS - np.log2(frequencies))).sum())


def fewest_bits(counts: "np.ndarray") -> float:
    """Return the bits that values which occur ``counts`` times take at least, with a table of their own."""
    import numpy as np

    occurring = counts[counts > 0]
    if not len(occurring):
        return 0.0
    entropy = float((occurring * (np.log2(occurring.sum()) - np.log2(occurring))).sum())
    return entropy + 8 * (_SHORTEST_CURVE if len(occurring) >= _FEWEST_CURVE else 2 * len(occurring) + 1)


def table_for(counts: "np.ndarray") -> Table:
    """Return the table with which values that occur ``counts`` times, and the table, take the fewest bytes."""
    exact = _exact(counts)
    occurring = int((counts > 0).sum())
    if occurring < _FEWEST_CURVE or int(counts.sum()) > _MOST_CURVE:
        return exact
    return min(exact, _curve_for(counts), key=lambda table: table.bits(counts) + 8 * len(table.written))


def read_table(cursor: Cursor) -> Table:
    """Read a table.

    Raises:
        ValueError: It is not valid.
    """
    import numpy as np

    begin, form = cursor.at, cursor.byte()
    if form == _CURVE:
        start, points = cursor.byte(), list(cursor.take(_POINTS))
        exceptions: dict[int, int] = {}
        for _ in range(cursor.byte()):
            value = cursor.byte()
            if value in exceptions:
                raise ValueError("a table gives a value twice")
            exceptions[value] = cursor.varint()
        frequencies = _on_curve(start, points, exceptions)
        return Table(frequencies, cursor.data[begin : cursor.at])
    if form == _LIST:
        values = list(cursor.take(cursor.byte() + 1))
        if sorted(set(values)) != values:
            raise ValueError("the values of a table are not in order")
    elif form == _BITS:
        occurs = np.frombuffer(cursor.take(_VALUES // 8), np.uint8)
        values = np.flatnonzero(np.unpackbits(occurs, bitorder="little")).tolist()
        if not values:
            raise ValueError("a table has no values")
    else:
        raise ValueError(f"there is no form {form} of tables")
    frequencies = np.zeros(_VALUES, np.int64)
    rest = SCALE
    for value in values[:-1]:
        frequency = cursor.varint()
        if not 0 < frequency < rest:
            raise ValueError("the frequencies of a table do not add up")
        frequencies[value] = frequency
        rest -= frequency
    frequencies[values[-1]] = rest
    return Table(frequencies, cursor.data[begin : cursor.at])


def _exact(counts: "np.ndarray") -> Table:
    """Return the table with the frequencies of the counts, at least 1 for each value that occurs."""
    import numpy as np

    scaled = np.where(counts > 0, np.maximum(1, counts * SCALE // counts.sum()), 0)
    while (rest := SCALE - int(scaled.sum())) != 0:
        if rest > 0:  # to the most frequent, where it costs least
            scaled[np.argmax(counts)] += rest
        else:
            order = np.argsort(-scaled, kind="stable")[: min(-rest, int((scaled > 1).sum()))]
            scaled[order] -= 1
    values = np.flatnonzero(scaled).tolist()
    if len(values) < _FEWEST_BITS:
        head = bytes([_LIST, len(values) - 1, *values])
    else:
        head = bytes([_BITS]) + np.packbits(scaled > 0, bitorder="little").tobytes()
    return Table(scaled, head + b"".join(varint(int(scaled[value])) for value in values[:-1]))


def _on_curve(start: int, points: Sequence[int], exceptions: Mapping[int, int]) -> "np.ndarray":
    """Return the frequencies on a curve, int64 ``[256]``: integer arithmetic, which C does likewise.

    Raises:
        ValueError: The exceptions leave too little for the other values.
    """
    import numpy as np

    place = np.arange(_VALUES)
    left = np.array(points, np.int64)[place // _STEP]
    right = np.array(points, np.int64)[place // _STEP + 1]
    height = left * (_STEP - place % _STEP) + right * (place % _STEP)
    likelihood = (_VALUES + height % _VALUES) << (height // _VALUES)  # about 2^(height / 256)
    others = np.ones(_VALUES, bool)
    frequencies = np.zeros(_VALUES, np.int64)
    for value, frequency in exceptions.items():
        others[(value - start) % _VALUES] = False
        frequencies[(value - start) % _VALUES] = frequency
    rest = SCALE - sum(exceptions.values()) - int(others.sum())
    if rest < 0 or min(exceptions.values(), default=1) < 1 or not others.any():
        raise ValueError("the frequencies of a table do not add up")
    frequencies[others] = 1 + likelihood[others] * rest // int(likelihood[others].sum())
    frequencies[np.argmax(np.where(others, likelihood, 0))] += SCALE - int(frequencies.sum())
    return np.roll(frequencies, start)


@dataclass(frozen=True)
class _Curve:
    start: int
    points: tuple[int, ...]
    exceptions: Mapping[int, int]

    def table(self) -> Table:
        head = bytes([_CURVE, self.start, *self.points, len(self.exceptions)])
        tail = b"".join(bytes([value]) + varint(frequency) for value, frequency in self.exceptions.items())
        return Table(_on_curve(self.start, self.points, self.exceptions), head + tail)


def _curve_for(counts: "np.ndarray") -> Table:
    """Search for the points, and the exceptions, with which values take the fewest bits."""
    curve = min((_through(counts, start) for start in _STARTS), key=lambda curve: curve.table().bits(counts))
    curve = _moved(curve, counts)
    excepted = _excepted(curve, counts)
    return (_moved(excepted, counts) if excepted.exceptions else curve).table()


def _through(counts: "np.ndarray", start: int) -> _Curve:
    """Return the curve through the means around its points."""
    import numpy as np

    along = np.roll(counts, -start)
    half = _STEP // 2
    means = np.array([along[max(0, at - half) : at + half].mean() for at in range(0, _VALUES + 1, _STEP)])
    logs = _STEP * np.log2(means + _SMALLEST * means.mean())
    points = np.clip(np.rint(logs - logs.max() + _HIGHEST), 0, 255).astype(int)
    return _Curve(start, tuple(points.tolist()), {})


def _moved(curve: _Curve, counts: "np.ndarray") -> _Curve:
    """Move the points one after the other, while that saves bits."""
    least = curve.table().bits(counts)
    for _ in range(_ROUNDS):
        before = least
        for number in range(_POINTS):
            for move in _MOVES:
                points = list(curve.points)
                points[number] = min(255, max(0, points[number] + move))
                tried = replace(curve, points=tuple(points))
                bits = tried.table().bits(counts)
                if bits < least:
                    curve, least = tried, bits
        if before - least < _WORTHWHILE:
            break
    return curve


def _excepted(curve: _Curve, counts: "np.ndarray") -> _Curve:
    """Make values exceptions that occur more often than the curve says, while that saves more bits than they take."""
    import numpy as np

    ideal = np.maximum(1, counts * SCALE // counts.sum())
    table = curve.table()
    for _ in range(_MOST_EXCEPTIONS):
        value = int(np.argmax(counts * np.log2(ideal / table.frequencies)))
        # Each of the other values needs a frequency of its own.
        most = SCALE - sum(curve.exceptions.values()) - (_VALUES - len(curve.exceptions) - 1)
        if value in curve.exceptions or most < 1:
            break
        more = replace(curve, exceptions={**curve.exceptions, value: min(most, int(ideal[value]))})
        tried = more.table()
        if tried.bits(counts) + 8 * len(tried.written) >= table.bits(counts) + 8 * len(table.written):
            break
        curve, table = more, tried
    return curve
