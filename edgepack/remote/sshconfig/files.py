"""Files that users name in their SSH configuration: read without waiting for a FIFO or reading a device forever."""

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO

CONFIG_LIMIT = 16 << 20  # bytes; a configuration, a key or a certificate is far smaller


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or the null device, which is empty.

    Raises:
        OSError: it cannot be opened, or is a folder, a FIFO, a socket or a device.
    """
    # Without O_NONBLOCK, opening a FIFO waits for its writer.
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        _check_regular(handle, path)
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def _check_regular(handle: int, path: Path) -> None:
    status = os.fstat(handle)
    null = stat.S_ISCHR(status.st_mode) and status.st_rdev == Path(os.devnull).stat().st_rdev
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "it is a folder", str(path))
    if not stat.S_ISREG(status.st_mode) and not null:
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))


def read_regular(path: Path, limit: int = CONFIG_LIMIT) -> bytes:
    """The contents of a regular file of at most ``limit`` bytes.

    Raises:
        OSError: as ``open_regular``, or the file is larger.
    """
    with open_regular(path) as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"it has more than {limit} bytes", str(path))
    return data
