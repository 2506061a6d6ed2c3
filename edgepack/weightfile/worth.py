"""When a block of weights is coded."""

FULL = 1 << 16
"""Bytes of small tensors, after which another block begins."""

_WORTH_A_COPY = 3 / 4  # of a large block of wide elements


def worth_a_copy(coded: float, size: int, width: int) -> bool:
    """Whether a block is coded, given its bytes then and as it is: large ones of wide elements are better mapped.

    To decode them takes memory of each process's own, and as much time for each byte as in a block of narrow elements.
    """
    return width == 1 or size <= FULL or coded < size * _WORTH_A_COPY
