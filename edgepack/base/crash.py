"""Unexpected exceptions: the traceback is written to a file, and the user sees an ordinary error."""

import os
import tempfile
import time
import traceback

from edgepack.base.paths import state_dir
from edgepack.base.places import as_disk_error
from edgepack.errors import EdgepackError


def as_error(error: BaseException) -> EdgepackError:
    """The error to show for an exception of any kind; the traceback of a bug is kept in a file."""
    if isinstance(error, EdgepackError):
        return error
    of_disk = as_disk_error(error)
    if of_disk is not None:  # caused by the user or the machine, not by a bug: a traceback does not help
        return of_disk
    if os.environ.get("EDGEPACK_TRACEBACK"):
        traceback.print_exception(error)
    return EdgepackError(
        f"internal error: {type(error).__name__}: {error}",
        state=_keep(error),
        next="please report it and attach that file; EDGEPACK_TRACEBACK=1 prints the traceback",
    )


def _keep(error: BaseException) -> str:
    folder = state_dir() / "crashes"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle, path = tempfile.mkstemp(dir=folder, prefix=time.strftime("%Y%m%d-%H%M%S-"), suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as file:
            file.write("".join(traceback.format_exception(error)))
    except OSError as failed:
        return f"the traceback could not be saved: {failed}"
    return f"the traceback is in {path}"
