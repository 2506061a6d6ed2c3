"""The zstd frame of a bundle: exactly one, checksummed, ending where the file ends."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

import zstandard

MAX_WINDOW = 1 << 26  # memory limit of the decompressor, in bytes
LEVEL = 12

_RLE, _RESERVED = 1, 3


def compressor() -> zstandard.ZstdCompressor:
    """A single-threaded compressor: the same input gives the same bytes."""
    parameters = zstandard.ZstdCompressionParameters.from_level(
        LEVEL, write_checksum=True, write_content_size=False
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def check(file: BinaryIO) -> None:
    """Walk the frame's block headers (RFC 8878, 3.1.1) without decompressing; leave ``file`` at 0.

    Raises:
        ValueError: Not exactly one checksummed frame, truncated, or followed by more bytes; the message says which.
    """
    total = os.fstat(file.fileno()).st_size
    head = file.read(18)
    try:
        parameters = zstandard.get_frame_parameters(head)
        position = zstandard.frame_header_size(head)
    except zstandard.ZstdError as error:
        raise ValueError("not a zstd file" if total else "the file is empty") from error
    if not parameters.has_checksum:
        raise ValueError("its zstd frame has no checksum")
    if parameters.window_size > MAX_WINDOW:
        raise ValueError(f"its zstd window of {parameters.window_size} bytes is above {MAX_WINDOW}")
    last = False
    while not last:
        file.seek(position)
        block = int.from_bytes(file.read(3), "little")
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        if kind == _RESERVED:
            raise ValueError(f"broken zstd block at byte {position}")
        position += 3 + (1 if kind == _RLE else size)
        if position > total:
            raise ValueError(f"truncated at byte {total}")
    position += 4  # the checksum
    if position > total:
        raise ValueError(f"truncated at byte {total}")
    if position < total:
        raise ValueError(f"{total - position} bytes after its end")
    file.seek(0)


def _open_regular(path: Path) -> BinaryIO:
    """Open a file for reading; another kind of file is refused, since opening a FIFO would wait for its writer."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file")
    return os.fdopen(descriptor, "rb")


class FrameReader:
    """Sequential reads of the decompressed data, buffering no more than requested."""

    def __init__(self, path: Path) -> None:
        self._file = _open_regular(path)
        try:
            check(self._file)
            decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
            self._stream = decompressor.stream_reader(self._file, closefd=False)
        except BaseException:
            self._file.close()
            raise

    def take(self, size: int) -> bytes:
        """Exactly ``size`` bytes.

        Raises:
            ValueError: Fewer are left, or the compressed data is damaged.
        """
        data = self.some(size)
        while len(data) < size:
            more = self.some(size - len(data))
            if not more:
                raise ValueError("the archive inside ends too early")
            data += more
        return data

    def some(self, size: int) -> bytes:
        """Up to ``size`` bytes, none at the end.

        Raises:
            ValueError: The compressed data is damaged.
        """
        try:
            return self._stream.read(size)
        except zstandard.ZstdError as error:
            raise ValueError(f"damaged zstd data: {error}") from error

    def close(self) -> None:
        """Close the file."""
        self._file.close()
