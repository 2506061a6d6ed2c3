"""Entropy coding of bytes: range asymmetric numeral systems of order 0.

J. Duda, Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate of
arithmetic coding, 2013. In long codes, many states are interleaved (F. Giesen, Interleaved entropy coders, 2014), so that
NumPy codes a symbol of each at once. docs/bundle-format.md describes the form; ``src/rans.c`` decodes it on the board.
"""

from typing import TYPE_CHECKING

from edgepack.weightfile.cursor import Cursor, varint
from edgepack.weightfile.frequencies import SCALE, SCALE_BITS, Table

if TYPE_CHECKING:
    import numpy as np

_LOWEST = 1 << 16  # of a state between symbols
_MOST_LANES = 10  # as a power of two
_SYMBOLS_PER_LANE = 2048  # at least: a lane costs four bytes
_ONE_LANE = 16384  # symbols below which there is one


def lane_bits(count: int) -> int:
    """Return how many states code ``count`` symbols, as a power of two."""
    if count < _ONE_LANE:
        return 0
    return min(_MOST_LANES, (count // _SYMBOLS_PER_LANE).bit_length() - 1)


def encode(plane: "np.ndarray", table: Table) -> bytes:
    """Encode bytes, uint8 ``[count]`` with at least one, all of which have a frequency."""
    bits = lane_bits(len(plane))
    states, stream = _encode_lanes(plane, table, 1 << bits) if bits else _encode_lane(plane, table)
    return bytes([bits]) + states + varint(len(stream) // 2) + stream


def decode(cursor: Cursor, count: int, table: Table) -> "np.ndarray":
    """Decode ``count`` bytes.

    Raises:
        ValueError: The code is not well-formed.
    """
    import numpy as np

    bits = cursor.byte()
    if bits > SCALE_BITS:
        raise ValueError(f"there are 2^{bits} states")
    states = np.frombuffer(cursor.take(4 << bits), "<u4").astype(np.int64)
    words = np.frombuffer(cursor.take(2 * cursor.varint()), "<u2").astype(np.int64)
    if (states < _LOWEST).any():
        raise ValueError("a state is too small")
    out, at = (_decode_lanes if bits else _decode_lane)(count, table, states, words)
    if at != len(words) or (states != _LOWEST).any():
        raise ValueError("the code does not end where its symbols do")
    return out


def _firsts(table: Table) -> "np.ndarray":
    """Return the sum of the frequencies before each symbol."""
    import numpy as np

    found: np.ndarray = np.cumsum(table.frequencies) - table.frequencies
    return found


def _symbols(table: Table) -> "np.ndarray":
    """Return the symbol of each value below ``SCALE``."""
    import numpy as np

    return np.repeat(np.arange(256, dtype=np.uint8), table.frequencies)


def _encode_lane(plane: "np.ndarray", table: Table) -> tuple[bytes, bytes]:
    import numpy as np

    frequencies, firsts = table.frequencies.tolist(), _firsts(table).tolist()
    state = _LOWEST
    words: list[int] = []
    for symbol in reversed(plane.tolist()):  # from the end: the decoder goes forward
        frequency = frequencies[symbol]
        if state >= frequency << 32 - SCALE_BITS:
            words.append(state & 0xFFFF)
            state >>= 16
        state = (state // frequency << SCALE_BITS) + state % frequency + firsts[symbol]
    return state.to_bytes(4, "little"), np.array(words[::-1], "<u2").tobytes()


def _encode_lanes(plane: "np.ndarray", table: Table, lanes: int) -> tuple[bytes, bytes]:
    """Encode with many states: as float64, whose vector division is faster and exact for numbers below 2^32."""
    import numpy as np

    states = np.full(lanes, float(_LOWEST))
    words: list[np.ndarray] = []
    frequencies, firsts = table.frequencies.astype(np.float64), _firsts(table).astype(np.float64)
    limits = frequencies * (1 << (32 - SCALE_BITS))
    for start in range((len(plane) - 1) // lanes * lanes, -1, -lanes):
        symbols = plane[start : start + lanes]
        state = states[: len(symbols)]
        full = np.flatnonzero(state >= limits.take(symbols))
        out = state[full]
        state[full] = high = np.floor(out / (1 << 16))
        words.append((out - high * (1 << 16)).astype("<u2")[::-1])
        frequency = frequencies.take(symbols)
        # The quotient goes up by SCALE_BITS, the rest and the sum before the symbol are added.
        state += np.floor(state / frequency) * (SCALE - frequency) + firsts.take(symbols)
    return states.astype("<u4").tobytes(), np.concatenate(words)[::-1].tobytes()


def _decode_lane(
    count: int, table: Table, states: "np.ndarray", words: "np.ndarray"
) -> "tuple[np.ndarray, int]":
    import numpy as np

    symbols, frequencies = _symbols(table).tolist(), table.frequencies.tolist()
    firsts, stream = _firsts(table).tolist(), words.tolist()
    state, at = int(states[0]), 0
    out = bytearray(count)
    for number in range(count):
        slot = state & (SCALE - 1)
        out[number] = symbol = symbols[slot]
        state = frequencies[symbol] * (state >> SCALE_BITS) + slot - firsts[symbol]
        if state < _LOWEST:
            if at == len(stream):
                raise ValueError("the code ends too early")
            state = state << 16 | stream[at]
            at += 1
    states[0] = state
    return np.frombuffer(bytes(out), np.uint8), at


def _decode_lanes(
    count: int, table: Table, states: "np.ndarray", words: "np.ndarray"
) -> "tuple[np.ndarray, int]":
    import numpy as np

    symbols, frequencies, firsts = _symbols(table), table.frequencies, _firsts(table)
    out, at, lanes = np.empty(count, np.uint8), 0, len(states)
    for start in range(0, count, lanes):
        state = states[: min(lanes, count - start)]
        slots = state & (SCALE - 1)
        found = symbols[slots]
        out[start : start + len(state)] = found
        state = frequencies[found] * (state >> SCALE_BITS) + slots - firsts[found]
        low = state < _LOWEST
        read = int(low.sum())
        if at + read > len(words):
            raise ValueError("the code ends too early")
        state[low] = state[low] << 16 | words[at : at + read]
        at += read
        states[: len(state)] = state
    return out, at
