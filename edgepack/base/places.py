"""Errors of the file system: which of edgepack's folders is concerned, and the variable that moves it."""

import errno
import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

from edgepack.base import paths
from edgepack.errors import EdgepackError, InputError

_NAME = {errno.ENAMETOOLONG, errno.ELOOP}
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_REFUSED = {errno.EROFS, errno.EACCES}
_IN_THE_WAY = {errno.ENOTDIR, errno.EEXIST, errno.EISDIR}
_LITTLE = 1 << 20  # bytes; with less than that, a folder is taken for full


@dataclass(frozen=True)
class Place:
    """A folder that edgepack writes to, and the environment variable that moves it."""

    what: str
    folder: Path
    variable: str


def places() -> tuple[Place, ...]:
    """The folders that edgepack writes to outside of the user's."""
    return (
        Place("the cache", paths.cache_dir(), "XDG_CACHE_HOME"),
        Place("the data folder (runs, tuning records)", paths.data_dir(), "XDG_DATA_HOME"),
        Place("the state folder (virtual boards, logs)", paths.state_dir(), "XDG_STATE_HOME"),
        Place("the configuration folder", paths.config_dir(), "XDG_CONFIG_HOME"),
        Place("the folder for temporary files", Path(tempfile.gettempdir()), "TMPDIR"),
    )


def as_disk_error(error: BaseException) -> EdgepackError | None:
    """The error to show for one of the file system, if ``error`` or its cause is one; None for another."""
    for each in (error, *([error.__cause__] if error.__cause__ else [])):
        if isinstance(each, OSError):
            found = _of_system(each)
            if found is not None:
                return found
        # What libraries in C++ and Rust say; their exceptions have no number.
        elif "No space left on device" in str(each) or "os error 28" in str(each):
            return _full(None, os.strerror(errno.ENOSPC).lower())
    return None


def _of_system(error: OSError) -> EdgepackError | None:
    path = None if error.filename is None else Path(os.fsdecode(error.filename))
    why = (error.strerror or str(error)).lower()
    if error.errno in _NAME:
        return InputError(why, where=None if path is None else str(path))
    if error.errno in _FULL:
        return _full(path, why)
    place = None if path is None else _place_of(path)
    refused = error.errno in _REFUSED or (error.errno == errno.EPERM and path is not None)
    if path is None or place is None:
        step = "correct the permissions, and run it again"
        return EdgepackError(why, where=None if path is None else str(path), next=step) if refused else None
    in_the_way = any(each.exists() and not each.is_dir() for each in (place.folder, *place.folder.parents))
    if refused or (error.errno in _IN_THE_WAY and in_the_way):
        return EdgepackError(
            f"{place.what} cannot be written to",
            where=str(path),
            why=why,
            next=f"correct it, or use another folder: {place.variable}=/another/folder",
        )
    return None


def _full(path: Path | None, why: str) -> EdgepackError:
    """The error for a full disk; a failed write does not say which, so the folders without space are named."""
    own = None if path is None else _place_of(path)
    full = [own] if own else [place for place in places() if _free(place.folder) < _LITTLE]
    named = "; ".join(f"{place.what}, {place.folder}: {place.variable}" for place in full)
    return EdgepackError(
        why,
        where=str(path or full[0].folder) if path or len(full) == 1 else None,
        next=f"free space, or move what is full to another disk ({named})"
        if named
        else "free space, and run it again",
    )


def _place_of(path: Path) -> Place | None:
    inside = [place for place in places() if path == place.folder or path.is_relative_to(place.folder)]
    above = [place for place in places() if place.folder.is_relative_to(path) and place.variable != "TMPDIR"]
    return max(inside, key=lambda place: len(str(place.folder)), default=next(iter(above), None))


def _free(folder: Path) -> int:
    existing = next(each for each in (folder, *folder.parents) if each.is_dir())
    try:
        return shutil.disk_usage(existing).free
    except OSError:
        return _LITTLE
