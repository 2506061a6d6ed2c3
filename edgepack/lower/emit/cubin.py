"""Embed CUDA kernels in a library as cubins.

TVM built without the CUDA runtime leaves the kernels in the library as source, to be compiled when the library is
loaded. A board has no compiler, so ``embed`` replaces that source with a cubin for the board's architecture.
"""

import struct

from edgepack.errors import EdgepackError


def embed(blob: bytes, source: str, cubin: bytes) -> bytes:
    """Replace a CUDA module's source with its cubin in TVM's packed imports.

    The module is serialised as its format, a table of its functions, and the code, each string preceded by its
    length in 8 bytes; the module and the blob are also preceded by their lengths.

    Args:
        blob: TVM's packed imports.
        source: The CUDA source in the blob.
        cubin: The compiled source.

    Raises:
        EdgepackError: The blob does not contain the source in that form.
    """
    kind = _string(b"cuda")  # the module's kind, and also the format of its code
    end = blob.find(_string(source.encode())) + 8 + len(source.encode())
    start = blob.find(kind)
    while 0 <= start < end:
        module = start + len(kind)
        head = struct.pack("<Q", end - module - 8) + kind
        if blob.startswith(head, module):
            table = blob[module + len(head) : end - len(source.encode()) - 8]
            compiled = _string(_string(b"cubin") + table + _string(cubin))
            return _string(blob[8:module] + compiled + blob[end:])
        start = blob.find(kind, start + 1)
    raise EdgepackError(
        "the compiled module does not contain its CUDA source as expected", next="report this"
    )


def _string(content: bytes) -> bytes:
    return struct.pack("<Q", len(content)) + content
