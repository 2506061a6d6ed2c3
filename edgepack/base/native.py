"""What libraries in C and C++ write on the standard streams: kept in a log, away from the terminal and the result."""

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TextIO

from edgepack.base.paths import state_dir

_KEPT = 20  # logs
_OUT, _ERR = 1, 2  # file descriptors


def divert() -> None:
    """From now on, only Python's streams reach the terminal: what is written to descriptors 1 and 2 goes to a log.

    TVM's warnings are about its own code, and go past ``sys.stderr``. A process that has nothing to log leaves no file;
    where no log can be written, the output is discarded.
    """
    log, path = _open()
    for descriptor in (_OUT, _ERR):
        stream = sys.stdout if descriptor == _OUT else sys.stderr
        if stream is None or stream.fileno() != descriptor:  # closed, or not the process's own
            continue
        stream.flush()
        kept = _same(stream, os.dup(descriptor))
        os.dup2(log, descriptor)
        if descriptor == _OUT:
            sys.stdout = sys.__stdout__ = kept  # type: ignore[misc, assignment] # rich looks at the original ones
        else:
            sys.stderr = sys.__stderr__ = kept  # type: ignore[misc, assignment]
    os.close(log)
    if path is not None:
        import atexit

        atexit.register(_remove_empty, path)


def logs_dir() -> Path:
    """The folder of the logs."""
    return state_dir() / "logs"


def _open() -> tuple[int, Path | None]:
    path = logs_dir() / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.log"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        for old in sorted(path.parent.glob("*.log"))[:-_KEPT]:
            old.unlink(missing_ok=True)
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), path
    except OSError:
        return os.open(os.devnull, os.O_WRONLY), None


def _same(stream: TextIO, descriptor: int) -> TextIO:
    """A text stream like ``stream`` on another descriptor; what it cannot encode is shown as an escape."""
    return os.fdopen(
        descriptor,
        "w",
        encoding=stream.encoding,
        errors="backslashreplace",
        buffering=1 if stream.isatty() else -1,
    )


def _remove_empty(path: Path) -> None:
    with suppress(OSError):
        if path.stat().st_size == 0:
            path.unlink()
