"""Entropy coding of weights: range asymmetric numeral systems of order 0 on bytes.

J. Duda, Asymmetric numeral systems: entropy coding combining speed of Huffman coding with compression rate of
arithmetic coding, 2013. Many states are interleaved (F. Giesen, Interleaved entropy coders, 2014), so that NumPy encodes
a symbol of each at once. docs/bundle-format.md describes the form; ``src/rans.c`` decodes it on the board.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_SCALE_BITS = 12
_SCALE = 1 << _SCALE_BITS
_LOWEST = 1 << 16  # of a state between symbols
_MOST_LANES = 10  # as a power of two
_SYMBOLS_PER_LANE = 1024  # at least: a lane costs four bytes
_RAW, _CODED = 0, 1
_LONG = 0x80  # frequencies from here on take two bytes


def encode(data: bytes, width: int) -> bytes:
    """Encode elements of ``width`` bytes: a plane for each byte of an element, coded if that makes it smaller."""
    import numpy as np

    planes = np.frombuffer(data, np.uint8).reshape(-1, width)
    parts = []
    for number in range(width):
        plane = np.ascontiguousarray(planes[:, number])
        coded = _encode_plane(plane) if len(plane) else b""
        smaller = len(plane) and len(coded) < len(plane)
        parts.append(bytes([_CODED]) + coded if smaller else bytes([_RAW]) + plane.tobytes())
    return b"".join(parts)


def decode(code: bytes, width: int, count: int) -> bytes:
    """Decode ``count`` elements of ``width`` bytes.

    Raises:
        ValueError: The code is not well-formed.
    """
    import numpy as np

    planes = np.empty((count, width), np.uint8)
    for number in range(width):
        kind, code = _take(code, 1)
        if kind[0] == _RAW:
            raw, code = _take(code, count)
            planes[:, number] = np.frombuffer(raw, np.uint8)
        elif kind[0] == _CODED:
            planes[:, number], code = _decode_plane(code, count)
        else:
            raise ValueError(f"there is no kind {kind[0]} of plane")
    if code:
        raise ValueError(f"{len(code)} bytes follow the code")
    return planes.tobytes()


def _encode_plane(plane: "np.ndarray") -> bytes:
    import numpy as np

    frequencies = _frequencies(np.bincount(plane, minlength=256))
    firsts = np.concatenate([[0], np.cumsum(frequencies)[:-1]]).astype(np.uint64)
    bits = min(_MOST_LANES, max(2, (len(plane) // _SYMBOLS_PER_LANE).bit_length() - 1))
    lanes = 1 << bits
    states = np.full(lanes, _LOWEST, np.uint64)
    words: list[np.ndarray] = []
    wide = frequencies.astype(np.uint64)
    for start in range(
        (len(plane) - 1) // lanes * lanes, -1, -lanes
    ):  # from the end: the decoder goes forward
        symbols = plane[start : start + lanes]
        frequency, first, state = wide[symbols], firsts[symbols], states[: len(symbols)]
        full = state >= frequency << np.uint64(32 - _SCALE_BITS)
        words.append((state[full] & np.uint64(0xFFFF)).astype("<u2")[::-1])
        state = np.where(full, state >> np.uint64(16), state)
        quotient, rest = np.divmod(state, frequency)
        states[: len(symbols)] = (quotient << np.uint64(_SCALE_BITS)) + rest + first
    stream = np.concatenate(words)[::-1]
    head = _table(frequencies) + bytes([bits]) + states.astype("<u4").tobytes()
    return head + len(stream).to_bytes(4, "little") + stream.tobytes()


def _frequencies(counts: "np.ndarray") -> "np.ndarray":
    """Scale counts to a sum of ``_SCALE``, at least 1 for each symbol that occurs."""
    import numpy as np

    scaled = np.where(counts > 0, np.maximum(1, counts * _SCALE // counts.sum()), 0)
    while (rest := _SCALE - int(scaled.sum())) != 0:
        if rest > 0:  # to the most frequent, where it costs least
            scaled[np.argmax(counts)] += rest
        else:
            order = np.argsort(-scaled, kind="stable")[: min(-rest, int((scaled > 1).sum()))]
            scaled[order] -= 1
    return scaled


def _table(frequencies: "np.ndarray") -> bytes:
    import numpy as np

    table = bytearray(np.packbits(frequencies > 0, bitorder="little").tobytes())
    for frequency in frequencies[frequencies > 0].tolist():
        table += bytes([frequency] if frequency < _LONG else [_LONG | frequency & 0x7F, frequency >> 7])
    return bytes(table)


def _decode_plane(code: bytes, count: int) -> "tuple[np.ndarray, bytes]":
    import numpy as np

    frequencies, code = _read_table(code)
    firsts = np.concatenate([[0], np.cumsum(frequencies)[:-1]])
    symbols = np.repeat(np.arange(256, dtype=np.uint8), frequencies)
    (bits,), code = _take(code, 1)
    if bits > _SCALE_BITS:
        raise ValueError(f"there are 2^{bits} states")
    head, code = _take(code, 4 << bits)
    states = np.frombuffer(head, "<u4").astype(np.int64)
    size, code = _take(code, 4)
    stream, code = _take(code, 2 * int.from_bytes(size, "little"))
    words, at = np.frombuffer(stream, "<u2").astype(np.int64), 0
    if (states < _LOWEST).any():
        raise ValueError("a state is too small")
    out = np.empty(count, np.uint8)
    for start in range(0, count, 1 << bits):
        state = states[: min(1 << bits, count - start)]
        slots = state & (_SCALE - 1)
        found = symbols[slots]
        out[start : start + len(state)] = found
        state = frequencies[found] * (state >> _SCALE_BITS) + slots - firsts[found]
        low = state < _LOWEST
        read = int(low.sum())
        if at + read > len(words):
            raise ValueError("the code ends too early")
        state[low] = state[low] << 16 | words[at : at + read]
        at += read
        states[: len(state)] = state
    if at != len(words) or (states != _LOWEST).any():
        raise ValueError("the code does not end where its symbols do")
    return out, code


def _read_table(code: bytes) -> "tuple[np.ndarray, bytes]":
    import numpy as np

    present, code = _take(code, 32)
    frequencies = np.zeros(256, np.int64)
    for symbol in np.flatnonzero(np.unpackbits(np.frombuffer(present, np.uint8), bitorder="little")):
        (low,), code = _take(code, 1)
        if low & _LONG:
            (high,), code = _take(code, 1)
            low = low & 0x7F | high << 7
        if low == 0:
            raise ValueError("a symbol has no frequency")
        frequencies[symbol] = low
    if frequencies.sum() != _SCALE:
        raise ValueError(f"the frequencies add up to {frequencies.sum()}")
    return frequencies, code


def _take(code: bytes, size: int) -> tuple[bytes, bytes]:
    if len(code) < size:
        raise ValueError("the code ends too early")
    return code[:size], code[size:]
