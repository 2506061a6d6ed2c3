"""One .npy file, read without trusting what its header claims."""

import io
import math
import tokenize
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_NUMBERS = "biuf"  # numpy's kinds: bool, signed and unsigned integer, floating point


def parse_npy(data: bytes) -> "np.ndarray":
    """The array of numbers in a .npy file's bytes, of any shape.

    ``numpy.load`` takes memory for the shape that a header claims before it looks for the data; here the claimed size
    must be that of the data.

    Raises:
        ValueError: It is not a .npy file of numbers, or its data is not of the size that its header claims.
    """
    import numpy as np
    from numpy.lib import format as npy

    stream = io.BytesIO(data)
    try:
        version = npy.read_magic(stream)
        read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except (
        ValueError,
        TypeError,
        SyntaxError,
        OverflowError,
        MemoryError,  # of Python's parser, for a deeply nested header
        RecursionError,
        tokenize.TokenError,
    ) as error:
        raise ValueError(f"it is not a .npy file: {str(error) or type(error).__name__}") from error
    if dtype.kind not in _NUMBERS or dtype.names is not None or dtype.subdtype is not None:
        raise ValueError(f"its elements are {dtype}, not numbers")
    if any(isinstance(size, bool) or size < 0 for size in shape):
        raise ValueError(f"its shape {shape} is not valid")
    claimed, there = math.prod(shape) * dtype.itemsize, len(data) - stream.tell()
    if claimed != there:
        raise ValueError(f"it holds {there} bytes of data, and its header claims {claimed}")
    try:
        flat = np.frombuffer(data, dtype, offset=stream.tell())
        return flat.reshape(shape, order="F" if fortran else "C").copy(order="C")
    except (ValueError, OverflowError) as error:  # more dimensions, or larger ones, than numpy has
        raise ValueError(f"its shape {shape} is not valid: {error}") from error
