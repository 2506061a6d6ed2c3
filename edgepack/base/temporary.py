"""Temporary folders that a killed process does not leave behind for good: the next one removes them.

``tempfile.TemporaryDirectory`` removes its folder when its block ends, which SIGKILL and a power cut prevent.
"""

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# A file in every such folder: its flock(2) is held while the folder is in use, and the kernel releases it when the
# process ends for any reason. A folder without this file was made by somebody else, whatever its name.
_MARK = ".edgepack-temporary"


@contextmanager
def temporary_folder(parent: Path | None = None, prefix: str = "edgepack-") -> Iterator[Path]:
    """An empty folder, removed when the block ends; folders that killed processes left there are removed first.

    Args:
        parent: Where it is made; by default the system's folder for temporary files.
        prefix: How its name starts. Folders with this prefix are looked at.

    Raises:
        OSError: It cannot be made.
    """
    parent = Path(tempfile.gettempdir()) if parent is None else parent
    with suppress(OSError):  # it cannot be listed
        _remove_abandoned(parent, prefix)
    folder = Path(tempfile.mkdtemp(dir=parent, prefix=prefix))
    try:
        with _marked(folder):
            files = folder / "files"
            files.mkdir()
            yield files
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _marked(folder: Path) -> Iterator[None]:
    """Hold the folder's mark. It gets its name when it is locked already, so nobody can take it for abandoned."""
    new = folder / f"{_MARK}.new"
    mark = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(mark, fcntl.LOCK_EX)
        new.rename(folder / _MARK)
        yield
    finally:
        os.close(mark)


def _remove_abandoned(parent: Path, prefix: str) -> None:
    for entry in os.scandir(parent):
        if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False) and _abandoned(entry.path):
            shutil.rmtree(entry.path, ignore_errors=True)


def _abandoned(folder: str) -> bool:
    try:
        mark = os.open(Path(folder) / _MARK, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:  # no mark, or another user's
        return False
    try:
        about = os.fstat(mark)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            return False
        fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # in use
        return False
    else:
        return True
    finally:
        os.close(mark)
