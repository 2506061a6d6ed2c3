"""Numbers in a weights file: little-endian ones of a fixed size, and varints of seven bits a byte, the lowest first."""

_SEVEN = 0x7F
_MORE = 0x80
_LONGEST = 9  # bytes of a varint: 63 bits


class Cursor:
    """A place in bytes; what is read moves it on.

    Every method raises ValueError if the bytes end too early.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self.data = data
        self.at = at

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        found = self.data[self.at : self.at + size]
        if len(found) != size:
            raise ValueError("it ends too early")
        self.at += size
        return found

    def byte(self) -> int:
        """Read a byte."""
        return self.take(1)[0]

    def number(self, size: int) -> int:
        """Read a number of ``size`` bytes."""
        return int.from_bytes(self.take(size), "little")

    def varint(self) -> int:
        """Read a varint.

        Raises:
            ValueError: It is longer than it must be, or than 63 bits.
        """
        value = 0
        for place in range(_LONGEST):
            byte = self.byte()
            value |= (byte & _SEVEN) << 7 * place
            if not byte & _MORE:
                if place and not byte:
                    break
                return value
        raise ValueError("a number is longer than it must be")


def varint(value: int) -> bytes:
    """Write a varint."""
    out = bytearray()
    while value > _SEVEN:
        out.append(value & _SEVEN | _MORE)
        value >>= 7
    out.append(value)
    return bytes(out)
