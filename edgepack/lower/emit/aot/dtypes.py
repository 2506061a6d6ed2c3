"""Types of elements as the runtime's C code takes them."""

_CODES = {"int": 0, "uint": 1, "float": 2, "bfloat": 4, "bool": 6}


def dlpack_type(dtype: str) -> tuple[int, int]:
    """Return DLPack's code of a type, and its bits, of which a bool has 8."""
    kind = dtype.rstrip("0123456789")
    return _CODES[kind], int(dtype[len(kind) :] or 8)
